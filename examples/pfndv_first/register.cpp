// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
//
// The same in C++, where nothing has to be given back by hand: device memory,
// registered for RDMA with libpfndv.
//
//   c++ -std=c++23 register.cpp $(pkg-config --cflags --libs pfndv) -o register
#include <fcntl.h>
#include <infiniband/pfndv.hpp>
#include <linux/pfn_vram.h>
#include <sys/ioctl.h>

#include <cstdlib>
#include <cstring>
#include <print>

namespace {

/// The value, or the end of this program with the reason.
template<typename T>
T or_exit(pfndv::Result<T> result) {
    if (!result) {
        std::println(stderr, "register: {}", result.error().reason);
        std::exit(1); // NOLINT(concurrency-mt-unsafe): one thread
    }
    return *std::move(result);
}

/// A stand-in for a GPU. With a real one its driver exports the dma-buf.
pfndv::DmaBuf allocate(std::uint64_t size) {
    pfn_vram_alloc buffer{};
    buffer.size = size;
    buffer.placement = PFN_VRAM_PLACEMENT_VRAM;
    buffer.caps = PFN_VRAM_CAP_MOVE;
    buffer.fd_flags = O_RDWR | O_CLOEXEC;
    const auto gpu = pfndv::DmaBuf::adopt(::open("/dev/pfn_vram0", O_RDWR | O_CLOEXEC));
    if (::ioctl(gpu.fd(), PFN_VRAM_IOC_ALLOC, &buffer) < 0) {
        std::println(stderr, "/dev/pfn_vram0: {}", std::strerror(errno));
        std::exit(1); // NOLINT(concurrency-mt-unsafe): one thread
    }
    return pfndv::DmaBuf::adopt(buffer.fd);
}

} // namespace

int main(int argc, char** argv) {
    const auto device = or_exit(pfndv::Device::open(argc > 1 ? argv[1] : "rxe_gpu"));
    const auto pd = or_exit(pfndv::Pd::alloc(device));
    const auto memory = allocate(1 << 20);
    const auto mr = or_exit(pfndv::Mr::reg(pd, memory));

    const auto state = or_exit(mr.query());
    std::println("{} bytes, {}, {}, {} ranges, pages of {} bytes", mr.length(),
                 pfndv_mode_str(state.mode), pfndv_state_str(state.state), state.ranges,
                 state.page_size);
    // mr.rkey() and mr.address() are what a peer needs to write to it.

    const auto refused = pfndv::Mr::reg(pd, memory, {.mode = PFNDV_MODE_PINNED});
    if (!refused)
        std::println("pinned, please: {}", refused.error().reason);
}
