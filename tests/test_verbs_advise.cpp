// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
//
// ibv_advise_mr(): after a move, let the next access find the memory mapped
// instead of faulting.
#include "support/modules.hpp"
#include "support/shadow_test.hpp"

#include <fcntl.h>

#include <atomic>
#include <chrono>
#include <thread>

namespace pfn {
namespace {

constexpr auto READ = IBV_ADVISE_MR_ADVICE_PREFETCH;
constexpr auto WRITE = IBV_ADVISE_MR_ADVICE_PREFETCH_WRITE;
constexpr auto NO_FAULT = IBV_ADVISE_MR_ADVICE_PREFETCH_NO_FAULT;
constexpr std::array ADVICES{READ, WRITE, NO_FAULT};

constexpr std::uint32_t SYNC = IBV_ADVISE_MR_FLAG_FLUSH;
constexpr std::uint32_t ASYNC = 0;
constexpr std::array FLAGS{SYNC, ASYNC};

class Prefetch : public ShadowTest {
  protected:
    /// Elsewhere than it is, and the copy is done.
    void move(const DmaBuf& buffer) {
        const bool in_vram = vram.buf_info(buffer.fd()).placement == PFN_VRAM_PLACEMENT_VRAM;
        vram.move(buffer.fd(), in_vram ? PFN_VRAM_PLACEMENT_SYSTEM : PFN_VRAM_PLACEMENT_VRAM,
                  GetParam().fragmented ? page_chunk() : 0);
    }

    /// Wait for what an asynchronous advice brings about.
    static bool becomes_present(const Mr& mr) {
        const auto deadline = std::chrono::steady_clock::now() + PATIENCE;
        while (query_mr(mr).state != PFN_MR_STATE_PRESENT) {
            if (std::chrono::steady_clock::now() > deadline)
                return false;
            std::this_thread::yield();
        }
        return true;
    }

    /// The peer gets through to the device memory, without a fault.
    void expect_no_fault() {
        renew_host();
        write(host.sge(7, 9000), device.remote(4090));
        expect_host_to_device(7, 4090, 9000);
        EXPECT_TRUE(as_expected());
        EXPECT_EQ(0U, query_mr(device.mr).faults);
    }
};

INSTANTIATE_TEST_SUITE_P(Buffers, Prefetch, testing::ValuesIn(BUFFER_CASES), case_name);

TEST_P(Prefetch, SavesTheFault) {
    std::uint64_t count = 0;
    for (const auto advice : ADVICES) {
        for (const std::uint32_t flags : FLAGS) {
            move(device.buffer);
            ASSERT_EQ(PFN_MR_STATE_ABSENT, query_mr(device.mr).state);
            EXPECT_ERRNO(0, advise(gpu.pd, advice, flags, device.sge(0, SIZE)));
            if (flags == SYNC) {
                EXPECT_EQ(PFN_MR_STATE_PRESENT, query_mr(device.mr).state);
            } else {
                EXPECT_TRUE(becomes_present(device.mr));
            }
            const auto info = query_mr(device.mr);
            EXPECT_EQ(++count, info.prefetches);
            EXPECT_EQ(vram.buf_info(device.buffer.fd()).ranges, info.ranges);
            expect_no_fault();
        }
    }
    EXPECT_EQ(count, query_mr(device.mr).invalidations);
}

TEST_P(Prefetch, WithoutItThereIsAFault) { // what the test above would be worth otherwise
    move(device.buffer);
    write(host.sge(7, 9000), device.remote(4090));
    EXPECT_EQ(1U, query_mr(device.mr).faults);
    EXPECT_EQ(0U, query_mr(device.mr).prefetches);
}

TEST_P(Prefetch, OfWhatIsThereDoesNothing) {
    for (const auto advice : ADVICES)
        EXPECT_ERRNO(0, advise(gpu.pd, advice, SYNC, device.sge(0, SIZE)));
    EXPECT_EQ(0U, query_mr(device.mr).prefetches);
    expect_no_fault();
}

TEST_P(Prefetch, OfAPartIsForAll) {
    move(device.buffer);
    EXPECT_ERRNO(0, advise(gpu.pd, READ, SYNC, device.sge(SIZE - 1, 1)));
    expect_no_fault();
}

TEST_P(Prefetch, GoesByTheAddressesOfTheMr) {
    constexpr std::uint64_t IOVA = 0x700000000000 + 123;
    const auto mr = Mr::dmabuf(gpu.pd, device.buffer.fd(), 4096 + 123, 10000, IOVA);
    move(device.buffer);
    const auto range = [&](std::uint64_t address, std::uint32_t length) {
        return ibv_sge{.addr = address, .length = length, .lkey = mr.lkey()};
    };
    EXPECT_ERRNO(EFAULT, advise(gpu.pd, READ, SYNC, range(4096 + 123, 10)));
    EXPECT_ERRNO(EFAULT, advise(gpu.pd, READ, SYNC, range(IOVA - 1, 2)));
    EXPECT_ERRNO(EFAULT, advise(gpu.pd, READ, SYNC, range(IOVA + 9999, 2)));
    EXPECT_EQ(PFN_MR_STATE_ABSENT, query_mr(mr).state);
    EXPECT_ERRNO(0, advise(gpu.pd, READ, SYNC, range(IOVA + 9999, 1)));
    EXPECT_EQ(PFN_MR_STATE_PRESENT, query_mr(mr).state);
    // One MR, not all that are on the buffer.
    EXPECT_EQ(PFN_MR_STATE_ABSENT, query_mr(device.mr).state);
}

TEST_P(Prefetch, SeveralAtOnce) {
    const DeviceMemory other(vram, gpu.pd, spec());
    const Mapping memory = Mapping::anonymous(SIZE);
    const Mr paged = Mr::host(gpu.pd, memory.bytes(), FULL_ACCESS | IBV_ACCESS_ON_DEMAND);
    const ibv_sge odp{.addr = memory.address(), .length = SIZE, .lkey = paged.lkey()};
    for (const std::uint32_t flags : FLAGS) {
        move(device.buffer);
        move(other.buffer);
        EXPECT_ERRNO(0, advise(gpu.pd, WRITE, flags, {device.sge(0, 8), odp, other.sge(0, 8)}));
        EXPECT_TRUE(becomes_present(device.mr));
        EXPECT_TRUE(becomes_present(other.mr));
    }
    expect_no_fault();
    // Pages of an ODP MR can be sent like device memory.
    fill_pattern(memory.bytes(), 55);
    gpu.qp.post_write(1, {odp, other.sge(0, 0)}, host.remote());
    succeed(gpu);
    EXPECT_TRUE(has_pattern(host.bytes(), 55));
}

TEST_P(Prefetch, OrdinaryMrsHaveNothingToPrefetch) {
    const HostMemory ordinary(gpu.pd, SIZE);
    for (const std::uint32_t flags : FLAGS)
        EXPECT_ERRNO(EOPNOTSUPP, advise(gpu.pd, READ, flags, ordinary.sge(0, SIZE)));
    move(device.buffer);
    EXPECT_ERRNO(EOPNOTSUPP, advise(gpu.pd, READ, SYNC, {ordinary.sge(0, SIZE), device.sge(0, 8)}));
    EXPECT_EQ(PFN_MR_STATE_ABSENT, query_mr(device.mr).state); // it ends at the first error
}

// What is refused, synchronous or not.

TEST_P(Prefetch, OutsideOfTheMrIsEFAULT) {
    move(device.buffer);
    for (const auto advice : ADVICES) {
        for (const std::uint32_t flags : FLAGS) {
            EXPECT_ERRNO(EFAULT, advise(gpu.pd, advice, flags, {device.sge(SIZE - 8, 9)}));
            EXPECT_ERRNO(EFAULT, advise(gpu.pd, advice, flags, {device.sge(SIZE + 1, 8)}));
            EXPECT_ERRNO(EFAULT,
                         advise(gpu.pd, advice, flags, {device.sge(~std::uint64_t{7}, 16)}));
        }
    }
    EXPECT_EQ(PFN_MR_STATE_ABSENT, query_mr(device.mr).state);
}

TEST_P(Prefetch, UnknownKeyIsENOENT) {
    const Pd other(gpu.context.get());
    ibv_sge wrong = device.sge(0, 8);
    wrong.lkey ^= 1;
    move(device.buffer);
    for (const auto advice : ADVICES) {
        for (const std::uint32_t flags : FLAGS) {
            EXPECT_ERRNO(ENOENT, advise(gpu.pd, advice, flags, wrong));
            EXPECT_ERRNO(ENOENT, advise(other, advice, flags, device.sge(0, 8)));
        }
    }
    EXPECT_EQ(PFN_MR_STATE_ABSENT, query_mr(device.mr).state);
}

TEST_P(Prefetch, ToWriteWhereNobodyMayIsEPERM) {
    device.mr.rereg(IBV_REREG_MR_CHANGE_ACCESS, nullptr, IBV_ACCESS_REMOTE_READ);
    move(device.buffer);
    for (const std::uint32_t flags : FLAGS)
        EXPECT_ERRNO(EPERM, advise(gpu.pd, WRITE, flags, device.sge(0, SIZE)));
    EXPECT_EQ(PFN_MR_STATE_ABSENT, query_mr(device.mr).state);
    EXPECT_ERRNO(0, advise(gpu.pd, READ, SYNC, device.sge(0, SIZE)));
    EXPECT_EQ(PFN_MR_STATE_PRESENT, query_mr(device.mr).state);
    device.mr.rereg(IBV_REREG_MR_CHANGE_ACCESS, nullptr, FULL_ACCESS);
    EXPECT_ERRNO(0, advise(gpu.pd, WRITE, SYNC, device.sge(0, SIZE)));
    expect_no_fault();
}

TEST_P(Prefetch, OfRevokedMemoryIsENODEV) {
    vram.revoke(device.buffer.fd());
    for (const auto advice : ADVICES) {
        for (const std::uint32_t flags : FLAGS)
            EXPECT_ERRNO(ENODEV, advise(gpu.pd, advice, flags, device.sge(0, SIZE)));
    }
    EXPECT_EQ(PFN_MR_STATE_REVOKED, query_mr(device.mr).state);
    EXPECT_EQ(0U, query_mr(device.mr).prefetches);
}

TEST_P(Prefetch, OtherAdviceIsRefused) {
    EXPECT_ERRNO(EOPNOTSUPP,
                 advise(gpu.pd, static_cast<ibv_advise_mr_advice>(3), SYNC, device.sge(0, SIZE)));
    EXPECT_ERRNO(EINVAL, advise(gpu.pd, READ, 2, device.sge(0, SIZE)));
    EXPECT_ERRNO(EINVAL, advise(gpu.pd, READ, SYNC, {})); // nothing
}

TEST_P(Prefetch, MixesWithTrafficAndMoves) {
    std::atomic<bool> stop{false};
    std::atomic<unsigned> failures{0};
    std::atomic<unsigned> rounds{0};
    std::jthread adviser([&] {
        while (!stop) {
            if (errno_of([&] { advise(gpu.pd, WRITE, SYNC, device.sge(0, SIZE)); }) ||
                errno_of([&] { advise(gpu.pd, READ, ASYNC, device.sge(0, SIZE)); }) ||
                errno_of([&] { advise(gpu.pd, NO_FAULT, SYNC, device.sge(0, SIZE)); }))
                ++failures;
            ++rounds;
        }
    });
    const auto deadline = std::chrono::steady_clock::now() + PATIENCE;
    for (int i = 0; i < 20 || rounds < 10; ++i) {
        ASSERT_LT(std::chrono::steady_clock::now(), deadline);
        move(device.buffer);
        renew_host();
        write(host.sge(7, 20000), device.remote(4090));
        expect_host_to_device(7, 4090, 20000);
        EXPECT_TRUE(as_expected());
    }
    stop = true;
    adviser.join();
    EXPECT_EQ(0U, failures);
    const auto info = query_mr(device.mr);
    // Whatever was taken away has come back, one way or the other.
    EXPECT_EQ(info.invalidations, info.faults + info.prefetches);
}

// What is bridged is mapped for as long as the MR lives: there is nothing to do, but
// what is wrong is refused as ever.

class PrefetchOfForeign : public Prefetch {};

INSTANTIATE_TEST_SUITE_P(Foreign, PrefetchOfForeign, testing::ValuesIn(FOREIGN_CASES), case_name);

TEST_P(PrefetchOfForeign, DoesNothing) {
    for (const auto advice : ADVICES) {
        for (const std::uint32_t flags : FLAGS)
            EXPECT_ERRNO(0, advise(gpu.pd, advice, flags, device.sge(0, SIZE)));
    }
    EXPECT_EQ(PFN_MR_STATE_PRESENT, query_mr(device.mr).state);
    EXPECT_EQ(0U, query_mr(device.mr).prefetches);
    expect_no_fault();
}

TEST_P(PrefetchOfForeign, DoesNotKeepItFromOthers) {
    const DeviceMemory other(vram, gpu.pd, spec());
    for (const std::uint32_t flags : FLAGS) {
        move(other.buffer);
        EXPECT_ERRNO(0, advise(gpu.pd, WRITE, flags, {device.sge(0, 8), other.sge(0, 8)}));
        EXPECT_TRUE(becomes_present(other.mr));
    }
    EXPECT_EQ(FLAGS.size(), query_mr(other.mr).prefetches);
    expect_no_fault();
}

TEST_P(PrefetchOfForeign, IsRefusedLikeAnyOther) {
    device.mr.rereg(IBV_REREG_MR_CHANGE_ACCESS, nullptr, IBV_ACCESS_REMOTE_READ);
    const Pd stranger(gpu.context.get());
    for (const std::uint32_t flags : FLAGS) {
        EXPECT_ERRNO(EPERM, advise(gpu.pd, WRITE, flags, device.sge(0, SIZE)));
        EXPECT_ERRNO(EFAULT, advise(gpu.pd, READ, flags, device.sge(SIZE - 8, 9)));
        EXPECT_ERRNO(EFAULT, advise(gpu.pd, READ, flags, device.sge(~std::uint64_t{7}, 16)));
        EXPECT_ERRNO(ENOENT, advise(stranger, READ, flags, device.sge(0, 8)));
    }
    EXPECT_ERRNO(0, advise(gpu.pd, READ, SYNC, device.sge(0, SIZE)));
}

// A move that takes its time.

class PrefetchDuringAMove : public RdmaTest {
  protected:
    static constexpr std::uint64_t SIZE = 64 * KIB;

    [[nodiscard]] bool moving() const {
        return vram.buf_info(device.buffer.fd()).flags & PFN_VRAM_BUF_MOVING;
    }
    void start_move() {
        vram.move(device.buffer.fd(), PFN_VRAM_PLACEMENT_SYSTEM, 0, PFN_VRAM_MOVE_ASYNC);
    }

    ModuleParameter slow{"pfn_vram/copy_delay_ms", "2000"};
    DeviceMemory device{vram, gpu.pd, {.size = SIZE}};
};

TEST_F(PrefetchDuringAMove, WaitsForIt) {
    start_move();
    EXPECT_ERRNO(0, advise(gpu.pd, READ, SYNC, device.sge(0, SIZE)));
    EXPECT_FALSE(moving());
    EXPECT_EQ(PFN_MR_STATE_PRESENT, query_mr(device.mr).state);
}

TEST_F(PrefetchDuringAMove, DoesNotWaitIfNotAskedTo) {
    start_move();
    EXPECT_ERRNO(0, advise(gpu.pd, NO_FAULT, SYNC, device.sge(0, SIZE)));
    const auto not_waited = query_mr(device.mr);
    EXPECT_ERRNO(0, advise(gpu.pd, READ, ASYNC, device.sge(0, SIZE)));
    const auto not_yet = query_mr(device.mr);
    if (!moving())
        GTEST_SKIP() << "too slow to get in between";
    EXPECT_EQ(PFN_MR_STATE_ABSENT, not_waited.state);
    EXPECT_EQ(PFN_MR_STATE_ABSENT, not_yet.state);
    // The asynchronous one comes through when the move has ended.
    device.buffer.wait_idle(PATIENCE);
    const auto deadline = std::chrono::steady_clock::now() + PATIENCE;
    while (query_mr(device.mr).state != PFN_MR_STATE_PRESENT)
        ASSERT_LT(std::chrono::steady_clock::now(), deadline);
    EXPECT_EQ(1U, query_mr(device.mr).prefetches);
    EXPECT_EQ(0U, query_mr(device.mr).faults);
}

} // namespace
} // namespace pfn
