// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
//
// The one thing that GPUDirect RDMA is about: a peer writes straight into device memory.
// Nothing here knows of this project but the line that allocates: the rest is the verbs
// of any RDMA program.
//
//   rdma_write_vram [GPU_SIDE [PEER_SIDE]]      RDMA devices
#include "common/ends.hpp"
#include "common/pattern.hpp"
#include "common/vram.hpp"

#include <print>

namespace {

constexpr std::uint64_t SIZE = 1 << 20;
constexpr std::uint64_t SEED = 42;

int run(std::span<char* const> arguments) {
    pfn::Endpoint gpu(pfn::device_name(arguments, 1));
    pfn::Endpoint peer(pfn::device_name(arguments, 2));
    pfn::connect(gpu.qp, peer.qp);

    // Device memory, as the dma-buf that the driver of a GPU would export.
    const pfn::VramDevice device;
    const pfn::DmaBuf buffer = device.alloc({.size = SIZE});

    // ibv_reg_dmabuf_mr(): the NIC may now use the memory itself.
    const pfn::Mr mr = pfn::Mr::dmabuf(gpu.pd, buffer.fd(), 0, SIZE, /*iova=*/0);
    std::println("gpu:  {} KiB of device memory, rkey {:#x}", SIZE >> 10, mr.rkey());

    // The peer has data in memory of its own, and is told address and key.
    const auto data = pfn::Mapping::anonymous(SIZE);
    const auto data_mr = pfn::Mr::host(peer.pd, data.bytes());
    pfn::fill_pattern(data.bytes(), SEED);
    peer.qp.post_write(1, ibv_sge{data.address(), SIZE, data_mr.lkey()},
                       {.address = 0, .rkey = mr.rkey()});
    pfn::complete(peer.cq);
    std::println("peer: wrote {} KiB with one RDMA write", SIZE >> 10);

    const pfn::Mapping cpu = buffer.map();
    if (pfn::find_mismatch(cpu.bytes(), SEED)) {
        std::println("gpu:  the data is wrong");
        return 1;
    }
    std::println("gpu:  all of it has arrived");
    return 0;
}

} // namespace

int main(int argc, char** argv) {
    return pfn::run_example(argc, argv, run);
}
