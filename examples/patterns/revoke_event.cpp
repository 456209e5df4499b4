// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
//
// Device memory can go for good: a GPU is reset, its driver unbound, the process that
// lent it ends. The importer is told through an eventfd, which fits into any event loop;
// it stops, gives the dead MR back, and registers again once there is memory again.
//
//   revoke_event [GPU_SIDE [PEER_SIDE]]      RDMA devices
#include "common/dmabuf_mr.hpp"
#include "common/ends.hpp"
#include "common/vram.hpp"

#include <poll.h>
#include <sys/eventfd.h>

#include <chrono>
#include <cstring>
#include <print>
#include <string_view>

namespace {

constexpr std::uint64_t SIZE = 64 << 10;

/// Registered, and @p event is signalled when the exporter takes the memory back.
pfndv::Mr register_with_event(const pfn::Endpoint& gpu, int dmabuf, int event) {
    return pfn::register_dmabuf(gpu.pd, dmabuf, {.mode = PFNDV_MODE_REVOCABLE, .eventfd = event});
}

/// Has the memory been taken back? Waits for @p milliseconds; an event loop would have
/// the descriptor in its set.
bool revoked(const pfn::Fd& event, std::chrono::milliseconds patience) {
    pollfd p{.fd = event.get(), .events = POLLIN, .revents = 0};
    eventfd_t count = 0;
    return ::poll(&p, 1, static_cast<int>(patience.count())) == 1 &&
           ::eventfd_read(event.get(), &count) == 0;
}

/// The peer writes @p text to where the MR begins. Returns how that ended.
ibv_wc_status write(const pfn::Endpoint& peer, const pfndv::Mr& mr, std::string_view text) {
    const auto page = pfn::Mapping::anonymous(pfn::page_size());
    const auto page_mr = pfn::Mr::host(peer.pd, page.bytes());
    std::memcpy(page.bytes().data(), text.data(), text.size());
    peer.qp.post_write(
        1, ibv_sge{page.address(), static_cast<std::uint32_t>(text.size()), page_mr.lkey()},
        {.address = mr.address(), .rkey = mr.rkey()});
    return peer.cq.wait().status;
}

struct Pair {
    pfn::Endpoint gpu;
    pfn::Endpoint peer;

    explicit Pair(std::span<char* const> arguments)
        : gpu(pfn::device_name(arguments, 1)), peer(pfn::device_name(arguments, 2)) {
        pfn::connect(gpu.qp, peer.qp);
    }
};

bool expect(const char* what, ibv_wc_status wanted, ibv_wc_status status) {
    std::println("{:<38} {}", what, ibv_wc_status_str(status));
    return status == wanted;
}

int run(std::span<char* const> arguments) {
    const pfn::VramDevice device;
    const pfn::DmaBuf buffer = device.alloc({.size = SIZE, .caps = PFN_VRAM_CAP_REVOKE});
    const pfn::Fd event(::eventfd(0, EFD_CLOEXEC));
    bool fine = true;
    {
        const Pair pair(arguments);
        const pfndv::Mr mr = register_with_event(pair.gpu, buffer.fd(), event.get());
        fine &= expect("write, registered", IBV_WC_SUCCESS, write(pair.peer, mr, "hello"));
        fine &= !revoked(event, std::chrono::milliseconds(0));

        device.revoke(buffer.fd()); // in reality: somebody else, at any moment
        fine &= revoked(event, pfn::PATIENCE);
        std::println("revoked: the eventfd is {}", fine ? "signalled" : "NOT signalled");
        // Who goes on all the same gets an error, and never touches the memory.
        fine &= expect("write, revoked", IBV_WC_REM_ACCESS_ERR, write(pair.peer, mr, "hello?"));
    } // the dead MR, and a connection that such an error has ended

    device.restore(buffer.fd());
    const Pair pair(arguments);
    const pfndv::Mr mr = register_with_event(pair.gpu, buffer.fd(), event.get());
    fine &= expect("write, restored and registered again", IBV_WC_SUCCESS,
                   write(pair.peer, mr, "hello again"));
    const pfn::Mapping cpu = buffer.map();
    fine &= std::memcmp(cpu.bytes().data(), "hello again", 11) == 0;
    return fine ? 0 : 1;
}

} // namespace

int main(int argc, char** argv) {
    return pfn::run_example(argc, argv, run);
}
