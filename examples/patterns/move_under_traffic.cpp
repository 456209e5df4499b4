// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
//
// Device memory does not stay where it is: its driver evicts it to system memory when
// others need the room, and brings it back. A peer that is writing and reading meanwhile
// need not know: the MR is told of each move, and faults the new place in.
//
//   move_under_traffic [GPU_SIDE [PEER_SIDE]]      RDMA devices
#include "common/ends.hpp"
#include "common/evictor.hpp"
#include "common/pattern.hpp"
#include "common/vram.hpp"

#include <print>

namespace {

constexpr std::uint32_t SIZE = 256 << 10;
constexpr unsigned MOVES = 50; ///< at least so many, and as many rounds

/// Write a pattern, read it back, compare.
void round_trip(const pfn::Endpoint& peer, pfn::Remote target, const pfn::Mapping& memory,
                const pfn::Mr& mr, std::uint64_t seed) {
    const ibv_sge local{memory.address(), SIZE, mr.lkey()};
    pfn::fill_pattern(memory.bytes(), seed);
    peer.qp.post_write(seed, local, target);
    pfn::complete(peer.cq);
    pfn::fill_pattern(memory.bytes(), 0); // so that reading nothing is noticed
    peer.qp.post_read(seed, local, target);
    pfn::complete(peer.cq);
    if (pfn::find_mismatch(memory.bytes(), seed))
        throw std::runtime_error("what was written did not come back");
}

int run(std::span<char* const> arguments) {
    pfn::Endpoint gpu(pfn::device_name(arguments, 1));
    pfn::Endpoint peer(pfn::device_name(arguments, 2));
    pfn::connect(gpu.qp, peer.qp);

    const pfn::VramDevice device;
    const pfn::DmaBuf buffer = device.alloc({.size = SIZE});
    const pfn::Mr mr = pfn::Mr::dmabuf(gpu.pd, buffer.fd(), 0, SIZE, /*iova=*/0);
    const auto data = pfn::Mapping::anonymous(SIZE);
    const auto data_mr = pfn::Mr::host(peer.pd, data.bytes());

    unsigned rounds = 0;
    {
        const pfn::Evictor evictor(device, buffer.fd());
        while (rounds < MOVES || evictor.moves() < MOVES)
            round_trip(peer, {.address = 0, .rkey = mr.rkey()}, data, data_mr, ++rounds);
        std::println("{} moves, {} writes and reads of {} KiB, all data right", evictor.moves(),
                     rounds, SIZE >> 10);
    }
    // libpfndv tells what the MR has been through; the peer has seen none of it.
    const pfndv_mr_attr attr = mr.query();
    std::println("the MR was invalidated {} times and faulted {} times", attr.invalidations,
                 attr.faults);
    return attr.faults > 0 ? 0 : 1;
}

} // namespace

int main(int argc, char** argv) {
    return pfn::run_example(argc, argv, run);
}
