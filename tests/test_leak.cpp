// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
//
// A thousand rounds of everything leave no memory behind.
//
// How "no memory" is measured: /proc/meminfo before and after a thousand
// rounds. A leak costs the same in every thousand; what is no leak does not:
// caches and per-CPU lists that fill up, slabs that are freed later, whatever
// else the guest does. Together that was seen to be up to some 100 KiB either
// way. So a thousand rounds are run up to five times, and one of them must cost
// less than 96 bytes of slab a round (the smallest struct of the modules that
// could be forgotten has twice that) and less than half a page of free memory.
//
// The debug kernel runs the warm-up only, and kmemleak looks at what it left.
#include "common/meminfo.hpp"
#include "common/process.hpp"
#include "support/debug_kernel.hpp"
#include "support/rdma_test.hpp"

#include <functional>
#include <thread>

namespace pfn {
namespace {

using namespace std::chrono_literals;

constexpr int WARM_UP = 300;
constexpr int ROUNDS = 1000;
constexpr int ATTEMPTS = 5;
constexpr std::int64_t SLAB_TOLERANCE = std::int64_t{ROUNDS} * 96;
constexpr std::int64_t FREE_TOLERANCE = std::int64_t{ROUNDS} * 2048;

class Leak : public RdmaTest {
  protected:
    /// `round` a thousand times must not cost memory.
    void expect_no_leak(const std::function<void(int)>& round) {
        for (int i = 0; i < WARM_UP; ++i)
            round(i);
        const auto vram_before = vram.info();
        Cost cost;
        for (int attempt = 0; attempt < ATTEMPTS && !debug_kernel(); ++attempt) {
            cost = cost_of_rounds(round);
            if (cost.slab < SLAB_TOLERANCE && cost.free < FREE_TOLERANCE)
                break;
        }
        EXPECT_LT(cost.slab, SLAB_TOLERANCE)
            << "slab grew by " << cost.slab / ROUNDS << " bytes a round";
        EXPECT_LT(cost.free, FREE_TOLERANCE)
            << cost.free / ROUNDS << " bytes a round are not free any more";

        const auto vram_after = vram.info();
        EXPECT_EQ(vram_before.buffers, vram_after.buffers);
        EXPECT_EQ(vram_before.vram_free, vram_after.vram_free);
    }

  private:
    /// Bytes that a thousand rounds have cost.
    struct Cost {
        std::int64_t slab = 0;
        std::int64_t free = 0;
    };

    static Cost cost_of_rounds(const std::function<void(int)>& round) {
        const auto less = [](std::uint64_t a, std::uint64_t b) {
            return static_cast<std::int64_t>(a) - static_cast<std::int64_t>(b);
        };
        const MemInfo before = settled();
        for (int i = 0; i < ROUNDS; ++i)
            round(i);
        const MemInfo after = settled();
        return {.slab = less(after.slab_unreclaimable, before.slab_unreclaimable),
                // MemFree alone also falls when a file is read, MemAvailable does not.
                .free = std::min(less(before.mem_free, after.mem_free),
                                 less(before.mem_available, after.mem_available))};
    }

    /// /proc/meminfo once two looks in a row agree to a tenth of the tolerance.
    static MemInfo settled() {
        MemInfo last = read_meminfo();
        for (int i = 0; i < 20; ++i) {
            std::this_thread::sleep_for(50ms); // between two looks, not for an event
            const MemInfo now = read_meminfo();
            const auto moved = static_cast<std::int64_t>(now.slab_unreclaimable) -
                               static_cast<std::int64_t>(last.slab_unreclaimable);
            last = now;
            if (std::abs(moved) < SLAB_TOLERANCE / 10)
                break;
        }
        return last;
    }
};

TEST_F(Leak, RegisterAndDeregister) {
    const auto contiguous = vram.alloc({.size = MIB});
    const auto pages = vram.alloc({.size = MIB, .chunk = page_chunk()});
    expect_no_leak([&](int i) {
        auto mr = Mr::dmabuf(gpu.pd, (i % 2 ? contiguous : pages).fd(), 0, MIB, 0);
        mr.dereg();
    });
}

TEST_F(Leak, RegisterAndDeregisterByABridge) {
    std::vector<DmaBuf> foreign;
    for (const BufferCase& c : FOREIGN_CASES)
        foreign.push_back(foreign_buffer(c.exporter, 64 * KIB));
    expect_no_leak([&](int i) {
        const DmaBuf& dmabuf = foreign[static_cast<std::size_t>(i) % foreign.size()];
        auto mr = Mr::dmabuf(gpu.pd, dmabuf.fd(), 0, 64 * KIB, 0);
        mr.dereg();
    });
}

TEST_F(Leak, EveryModeOnItsOwnBuffer) {
    expect_no_leak([&](int i) {
        const auto buffer = vram.alloc({.size = 64 * KIB, .chunk = i % 2 ? page_chunk() : 0});
        const ModeMr mr(gpu.pd, 1 + static_cast<std::uint32_t>(i) % 3, buffer.fd(), 0, 64 * KIB, 0);
    });
}

TEST_F(Leak, RegistrationThatFails) {
    const auto buffer = vram.alloc({.size = 64 * KIB});
    const auto revoked = vram.alloc({.size = 64 * KIB});
    const auto readonly = vram.alloc({.size = 64 * KIB, .fd_flags = O_RDONLY | O_CLOEXEC});
    const auto moving = vram.alloc({.size = 64 * KIB, .caps = PFN_VRAM_CAP_MOVE});
    vram.revoke(revoked.fd());
    expect_no_leak([&](int) {
        EXPECT_ERRNO(EINVAL, Mr::dmabuf(gpu.pd, buffer.fd(), 0, MIB, 0));
        EXPECT_ERRNO(ENODEV, Mr::dmabuf(gpu.pd, revoked.fd(), 0, 64 * KIB, 0));
        EXPECT_ERRNO(EACCES, Mr::dmabuf(gpu.pd, readonly.fd(), 0, 64 * KIB, 0));
        EXPECT_ERRNO(EOPNOTSUPP, ModeMr(gpu.pd, PFN_MR_MODE_PINNED, moving.fd(), 0, 64 * KIB, 0));
    });
}

TEST_F(Leak, MoveAndFault) {
    const DeviceMemory device(vram, gpu.pd, {.size = 64 * KIB});
    const HostMemory host(peer.pd, 4 * KIB);
    expect_no_leak([&](int i) {
        vram.move(device.buffer.fd(), i % 2 ? PFN_VRAM_PLACEMENT_VRAM : PFN_VRAM_PLACEMENT_SYSTEM,
                  i % 3 ? 0 : page_chunk(), i % 5 ? 0 : PFN_VRAM_MOVE_ASYNC);
        write(host.sge(0, 64), device.remote());
    });
}

TEST_F(Leak, RevokeAndDereg) {
    expect_no_leak([&](int) {
        const auto buffer = vram.alloc({.size = 64 * KIB, .chunk = page_chunk()});
        auto mr = Mr::dmabuf(gpu.pd, buffer.fd(), 0, 64 * KIB, 0);
        vram.revoke(buffer.fd());
        mr.dereg();
    });
}

TEST_F(Leak, AllocateMapAndFree) {
    expect_no_leak([&](int i) {
        const auto buffer =
            vram.alloc({.size = 128 * KIB,
                        .chunk = i % 2 ? page_chunk() : 0,
                        .placement = i % 3 ? PFN_VRAM_PLACEMENT_VRAM : PFN_VRAM_PLACEMENT_SYSTEM});
        const auto cpu = buffer.map();
        cpu.bytes()[0] = std::byte{1};
    });
}

} // namespace
} // namespace pfn
