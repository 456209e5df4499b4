// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
//
// Memory that moves under RDMA: nothing may be lost, torn or written to where
// the buffer no longer is.
#include "common/process.hpp"
#include "support/modules.hpp"
#include "support/mover.hpp"
#include "support/rdma_test.hpp"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <thread>

namespace pfn {
namespace {

constexpr std::uint64_t SIZE = 256 * KIB;
constexpr std::uint32_t VRAM = PFN_VRAM_PLACEMENT_VRAM;
constexpr std::uint32_t SYSTEM = PFN_VRAM_PLACEMENT_SYSTEM;

class Move : public RdmaTest {
  protected:
    DeviceMemory device{vram, gpu.pd, {.size = SIZE}};
    HostMemory out{peer.pd, SIZE};
    HostMemory in{peer.pd, SIZE};

    /// Write, read back and compare all sorts of pieces until `enough` says so.
    template<typename Enough>
    void traffic(Enough&& enough) {
        static constexpr std::size_t LENGTHS[] = {8, 4096, 4097, 20000, 65536, 100001};
        std::uint64_t round = 0;
        for (; round == 0 || !enough(); ++round) {
            const std::size_t length = LENGTHS[round % std::size(LENGTHS)];
            const std::size_t offset = (round * 7919) % (SIZE - length + 1);
            fill_pattern(out.bytes().first(length), round);
            write(out.sge(0, length), device.remote(offset));
            read(in.sge(0, length), device.remote(offset));
            ASSERT_TRUE(has_pattern(in.bytes().first(length), round))
                << "round " << round << ", " << length << " bytes at " << offset;
        }
    }
};

TEST_F(Move, DataWrittenBeforeIsReadAfter) {
    fill_pattern(out.bytes(), 1);
    write(out.sge(0, SIZE), device.remote());
    vram.move(device.buffer.fd(), SYSTEM, page_size());
    read(in.sge(0, SIZE), device.remote());
    EXPECT_TRUE(has_pattern(in.bytes(), 1));
}

TEST_F(Move, DataWrittenAfterIsSeenByTheCpu) {
    vram.move(device.buffer.fd(), SYSTEM);
    fill_pattern(out.bytes(), 2);
    write(out.sge(0, SIZE), device.remote());
    EXPECT_TRUE(has_pattern(device.bytes(), 2));
    vram.move(device.buffer.fd(), VRAM);
    EXPECT_TRUE(has_pattern(device.bytes(), 2));
}

// Rule: T5
TEST_F(Move, FirstAccessAfterwardsFaults) {
    vram.move(device.buffer.fd(), SYSTEM);
    auto info = query_mr(device.mr);
    EXPECT_EQ(PFN_MR_STATE_ABSENT, info.state);
    EXPECT_EQ(0U, info.ranges);
    EXPECT_EQ(1U, info.invalidations);
    EXPECT_EQ(0U, info.faults);
    write(out.sge(0, 8), device.remote());
    info = query_mr(device.mr);
    EXPECT_EQ(PFN_MR_STATE_PRESENT, info.state);
    EXPECT_EQ(vram.buf_info(device.buffer.fd()).ranges, info.ranges);
    EXPECT_EQ(1U, info.faults);
    write(out.sge(0, 8), device.remote());
    EXPECT_EQ(1U, query_mr(device.mr).faults);
}

TEST_F(Move, EveryMoveOfAnMrInUseIsOneInvalidationAndOneFault) {
    for (unsigned i = 1; i <= 20; ++i) {
        vram.move(device.buffer.fd(), i % 2 ? SYSTEM : VRAM);
        read(in.sge(0, 8), device.remote(i * 8));
        const auto info = query_mr(device.mr);
        ASSERT_EQ(i, info.invalidations);
        ASSERT_EQ(i, info.faults);
    }
}

TEST_F(Move, AnMrNotInUseIsLeftAlone) {
    for (int i = 0; i < 5; ++i)
        vram.move(device.buffer.fd(), SYSTEM);
    const auto info = query_mr(device.mr);
    EXPECT_EQ(1U, info.invalidations); // it had nothing to give back later
    EXPECT_EQ(0U, info.faults);
}

TEST_F(Move, AtomicsAndImmediatesFaultToo) {
    const auto faults = [&] { return query_mr(device.mr).faults; };
    vram.move(device.buffer.fd(), SYSTEM);
    peer.qp.post_fetch_add(1, in.sge(0, 8), device.remote(8), 3);
    ASSERT_EQ(IBV_WC_SUCCESS, complete(peer));
    EXPECT_EQ(1U, faults());
    vram.move(device.buffer.fd(), VRAM);
    peer.qp.post_cmp_swap(1, in.sge(0, 8), device.remote(8), 3, 4);
    ASSERT_EQ(IBV_WC_SUCCESS, complete(peer));
    EXPECT_EQ(3U, in.word());
    EXPECT_EQ(2U, faults());
    vram.move(device.buffer.fd(), SYSTEM);
    peer.qp.post_atomic_write(1, device.remote(8), 5);
    ASSERT_EQ(IBV_WC_SUCCESS, complete(peer));
    EXPECT_EQ(3U, faults());
    vram.move(device.buffer.fd(), VRAM);
    gpu.qp.post_recv(1, {});
    peer.qp.post_write_imm(1, out.sge(0, 16), device.remote(16), 9);
    ASSERT_EQ(IBV_WC_SUCCESS, complete(peer));
    ASSERT_EQ(IBV_WC_SUCCESS, complete(gpu));
    EXPECT_EQ(4U, faults());
    read(in.sge(0, 8), device.remote(8));
    EXPECT_EQ(5U, in.word());
}

TEST_F(Move, LocalSideFaultsToo) {
    fill_pattern(device.bytes(), 3);
    vram.move(device.buffer.fd(), SYSTEM);
    gpu.qp.post_write(1, device.sge(100, 9000), in.remote());
    ASSERT_EQ(IBV_WC_SUCCESS, complete(gpu));
    EXPECT_TRUE(has_pattern(in.bytes().first(9000), 3, 100));
    EXPECT_EQ(1U, query_mr(device.mr).faults);
}

TEST_F(Move, DuringTraffic) {
    Mover mover(vram, device.buffer.fd());
    traffic([&] { return mover.moves() >= 50 && query_mr(device.mr).faults >= 20; });
    mover.stop();
    const auto info = query_mr(device.mr);
    EXPECT_GE(info.invalidations, info.faults);
    EXPECT_GE(mover.moves(), info.invalidations);
}

TEST_F(Move, AsyncDuringTraffic) {
    Mover mover(vram, device.buffer.fd(), PFN_VRAM_MOVE_ASYNC);
    traffic([&] { return mover.moves() >= 50 && query_mr(device.mr).faults >= 20; });
    mover.stop();
}

TEST_F(Move, DuringTrafficOfTheLocalSide) {
    Mover mover(vram, device.buffer.fd());
    for (std::uint64_t round = 0; mover.moves() < 50; ++round) {
        fill_pattern(out.bytes().first(50000), round);
        gpu.qp.post_read(1, device.sge(round % 1000, 50000), out.remote());
        ASSERT_EQ(IBV_WC_SUCCESS, complete(gpu));
        gpu.qp.post_write(2, device.sge(round % 1000, 50000), in.remote());
        ASSERT_EQ(IBV_WC_SUCCESS, complete(gpu));
        ASSERT_TRUE(has_pattern(in.bytes().first(50000), round)) << "round " << round;
    }
    mover.stop();
}

TEST_F(Move, DuringSendAndReceive) {
    Mover mover(vram, device.buffer.fd());
    for (std::uint64_t round = 0; mover.moves() < 50; ++round) {
        fill_pattern(out.bytes().first(30000), round);
        gpu.qp.post_recv(1, device.sge(5, 30000));
        peer.qp.post_send(2, out.sge(0, 30000));
        ASSERT_EQ(IBV_WC_SUCCESS, complete(peer));
        ASSERT_EQ(IBV_WC_SUCCESS, complete(gpu));
        peer.qp.post_recv(3, in.sge(0, 30000));
        gpu.qp.post_send(4, device.sge(5, 30000));
        ASSERT_EQ(IBV_WC_SUCCESS, complete(gpu));
        ASSERT_EQ(IBV_WC_SUCCESS, complete(peer));
        ASSERT_TRUE(has_pattern(in.bytes().first(30000), round)) << "round " << round;
    }
    mover.stop();
}

TEST_F(Move, NoAddIsLostOrDoneTwice) {
    Mover mover(vram, device.buffer.fd());
    std::uint64_t adds = 0;
    while (mover.moves() < 50) {
        for (unsigned i = 0; i < 16; ++i, ++adds)
            peer.qp.post_fetch_add(i, in.sge(0, 8), device.remote(4096 + 8), 1);
        for (unsigned i = 0; i < 16; ++i)
            ASSERT_EQ(IBV_WC_SUCCESS, complete(peer));
        ASSERT_EQ(adds - 1, in.word());
    }
    mover.stop();
    std::uint64_t value = 0;
    std::memcpy(&value, device.bytes().subspan(4096 + 8).data(), sizeof(value));
    EXPECT_EQ(adds, value);
}

TEST_F(Move, SeveralMrsOnOneBuffer) {
    const auto low = Mr::dmabuf(gpu.pd, device.buffer.fd(), 0, SIZE / 2, 0);
    const auto high = Mr::dmabuf(gpu.pd, device.buffer.fd(), SIZE / 2, SIZE / 2, 0);
    Mover mover(vram, device.buffer.fd());
    for (std::uint64_t round = 0; mover.moves() < 50; ++round) {
        fill_pattern(out.bytes().first(40000), round);
        // in by one MR, out by another
        const auto& [mr, base] =
            round % 2 ? std::pair(&low, std::size_t{0}) : std::pair(&high, std::size_t{SIZE / 2});
        write(out.sge(0, 40000), {.address = 4000, .rkey = mr->rkey()});
        read(in.sge(0, 40000), device.remote(base + 4000));
        ASSERT_TRUE(has_pattern(in.bytes().first(40000), round)) << "round " << round;
    }
    mover.stop();
    // each of them faults by itself
    vram.move(device.buffer.fd(), VRAM);
    for (const Mr* mr : {&low, &high, &std::as_const(device.mr)}) {
        const auto before = query_mr(*mr).faults;
        read(in.sge(0, 8), {.address = 0, .rkey = mr->rkey()});
        EXPECT_EQ(before + 1, query_mr(*mr).faults);
    }
}

TEST_F(Move, SeveralBuffersAtOnce) {
    const DeviceMemory other(vram, gpu.pd, {.size = SIZE, .chunk = page_chunk()});
    Mover mover_a(vram, device.buffer.fd());
    Mover mover_b(vram, other.buffer.fd());
    for (std::uint64_t round = 0; mover_a.moves() < 30 || mover_b.moves() < 30; ++round) {
        fill_pattern(out.bytes().first(60000), round);
        // one to the other, by way of the wire
        write(out.sge(0, 60000), device.remote(round % 5000));
        read(in.sge(0, 60000), device.remote(round % 5000));
        write(in.sge(0, 60000), other.remote(round % 3000));
        read(out.sge(0, 60000), other.remote(round % 3000));
        ASSERT_TRUE(has_pattern(out.bytes().first(60000), round)) << "round " << round;
    }
    mover_a.stop();
    mover_b.stop();
}

TEST_F(Move, DeviceToDeviceWhileBothMove) {
    const DeviceMemory other(vram, peer.pd, {.size = SIZE});
    fill_pattern(device.bytes(), 9);
    {
        Mover mover_a(vram, device.buffer.fd());
        Mover mover_b(vram, other.buffer.fd());
        while (mover_a.moves() < 30 || mover_b.moves() < 30) {
            peer.qp.post_read(1, other.sge(0, SIZE), device.remote());
            ASSERT_EQ(IBV_WC_SUCCESS, complete(peer));
        }
        mover_a.stop();
        mover_b.stop();
    }
    EXPECT_TRUE(has_pattern(other.bytes(), 9));
}

TEST_F(Move, CpuAndRdmaSeeTheSameWhileItMoves) {
    Mover mover(vram, device.buffer.fd());
    for (std::uint64_t round = 0; mover.moves() < 50; ++round) {
        fill_pattern(device.bytes().first(20000), round); // CPU in, RDMA out
        read(in.sge(0, 20000), device.remote());
        ASSERT_TRUE(has_pattern(in.bytes().first(20000), round)) << "round " << round;
        fill_pattern(out.bytes().first(20000), ~round); // RDMA in, CPU out
        write(out.sge(0, 20000), device.remote(SIZE / 2));
        ASSERT_TRUE(has_pattern(device.bytes().subspan(SIZE / 2, 20000), ~round))
            << "round " << round;
    }
    mover.stop();
}

TEST_F(Move, MrsInTwoProcesses) {
    // The child has an MR of its own on the same buffer, and its own connection
    // to the parent's peer; both halves of the buffer are busy while it moves.
    constexpr std::uint64_t HALF = SIZE / 2;
    auto child = Child::fork([&](Channel& parent) {
        Endpoint mine(GPU_DEVICE);
        Endpoint other(PEER_DEVICE);
        connect(mine.qp, other.qp);
        const auto mr = Mr::dmabuf(mine.pd, device.buffer.fd(), HALF, HALF, 0);
        const HostMemory there(other.pd, HALF);
        const HostMemory back(other.pd, HALF);
        parent.send(1);
        bool faulted = false;
        for (std::uint64_t round = 0; !parent.ready(); ++round) {
            fill_pattern(there.bytes().first(30000), round);
            other.qp.post_write(1, there.sge(0, 30000), {.address = 77, .rkey = mr.rkey()});
            if (other.cq.wait().status != IBV_WC_SUCCESS)
                return 1;
            other.qp.post_read(2, back.sge(0, 30000), {.address = 77, .rkey = mr.rkey()});
            if (other.cq.wait().status != IBV_WC_SUCCESS)
                return 2;
            if (find_mismatch(back.bytes().first(30000), round))
                return 3;
            if (!faulted && query_mr(mr).faults > 0) {
                faulted = true;
                parent.send(2);
            }
        }
        return 0;
    });
    ASSERT_EQ(1, child.channel().recv<int>());
    EXPECT_EQ(2U, vram.buf_info(device.buffer.fd()).attachments);
    Mover mover(vram, device.buffer.fd());
    const auto deadline = std::chrono::steady_clock::now() + 4 * PATIENCE;
    for (std::uint64_t round = 0; mover.moves() < 80 || !child.channel().ready(); ++round) {
        ASSERT_LT(std::chrono::steady_clock::now(), deadline) << "the child gets no fault";
        fill_pattern(out.bytes().first(30000), ~round);
        write(out.sge(0, 30000), device.remote(55));
        read(in.sge(0, 30000), device.remote(55));
        ASSERT_TRUE(has_pattern(in.bytes().first(30000), ~round)) << "round " << round;
    }
    EXPECT_EQ(2, child.channel().recv<int>());
    child.channel().send(1);
    EXPECT_EQ((Exit{.status = 0, .signal = 0}), child.wait(PATIENCE));
    mover.stop();
}

TEST_F(Move, AskedForByAnotherProcess) {
    auto child = Child::fork([&](Channel& parent) {
        const VramDevice own;
        for (unsigned i = 0; !parent.ready(); ++i)
            own.move(device.buffer.fd(), i % 2 ? VRAM : SYSTEM);
        return 0;
    });
    traffic([&] { return query_mr(device.mr).faults >= 30; });
    child.channel().send(1);
    EXPECT_EQ((Exit{.status = 0, .signal = 0}), child.wait(PATIENCE));
}

TEST_F(Move, RegisteringAndDeregisteringWhileItMoves) {
    Mover mover(vram, device.buffer.fd());
    while (mover.moves() < 50) {
        auto mr = Mr::dmabuf(gpu.pd, device.buffer.fd(), 0, SIZE, 0);
        write(out.sge(0, 5000), {.address = 100, .rkey = mr.rkey()});
        mr.dereg();
    }
    mover.stop();
    EXPECT_EQ(1U, vram.buf_info(device.buffer.fd()).attachments);
}

TEST_F(Move, FailedMoveLeavesTheMrWorking) {
    const DeviceMemory in_system(vram, gpu.pd, {.size = SIZE, .placement = SYSTEM});
    const auto all = vram.alloc({.size = vram.info().vram_free, .chunk = page_chunk()});
    EXPECT_ERRNO(ENOSPC, vram.move(in_system.buffer.fd(), VRAM));
    fill_pattern(out.bytes(), 5);
    write(out.sge(0, SIZE), in_system.remote());
    EXPECT_TRUE(has_pattern(in_system.bytes(), 5));
}

// Rule: E1, T4
TEST_F(Move, PinnedMrHoldsTheBufferStill) {
    ModeMr pinned(gpu.pd, PFN_MR_MODE_PINNED, device.buffer.fd(), 0, SIZE, 0);
    const auto before = vram.buf_info(device.buffer.fd()).generation;
    EXPECT_ERRNO(EBUSY, vram.move(device.buffer.fd(), SYSTEM));
    EXPECT_EQ(before, vram.buf_info(device.buffer.fd()).generation);
    write(out.sge(0, 8), {.address = 0, .rkey = pinned.rkey()});
    EXPECT_EQ(0U, pinned.query().invalidations);
    pinned.dereg();
    EXPECT_ERRNO(0, vram.move(device.buffer.fd(), SYSTEM));
}

// Races. As it is, an access takes microseconds and hardly ever meets a move;
// without any locking most tests above would pass. The modules can stretch an
// access between finding the memory and touching it, and the copy of a move.

class SlowAccess : public Move {
  protected:
    ModuleParameter delay{"ib_umem_pfn/test_access_delay_us", "500"};
};

// Rule: I1
TEST_F(SlowAccess, NothingIsWrittenToWhereTheBufferWas) {
    Mover mover(vram, device.buffer.fd());
    traffic([&] { return mover.moves() >= 100; });
    mover.stop();
}

// Rule: I1
TEST_F(SlowAccess, NorWithAsyncMoves) {
    Mover mover(vram, device.buffer.fd(), PFN_VRAM_MOVE_ASYNC);
    traffic([&] { return mover.moves() >= 100; });
    mover.stop();
}

// Rule: I1
TEST_F(SlowAccess, NoAddIsLostOrDoneTwice) {
    Mover mover(vram, device.buffer.fd());
    std::uint64_t adds = 0;
    for (; mover.moves() < 100; ++adds) {
        peer.qp.post_fetch_add(1, in.sge(0, 8), device.remote(8), 1);
        ASSERT_EQ(IBV_WC_SUCCESS, complete(peer));
        ASSERT_EQ(adds, in.word());
    }
    mover.stop();
}

TEST_F(SlowAccess, CpuSeesWhatRdmaHasWritten) {
    Mover mover(vram, device.buffer.fd());
    for (std::uint64_t round = 0; mover.moves() < 100; ++round) {
        fill_pattern(out.bytes().first(20000), round);
        write(out.sge(0, 20000), device.remote(100));
        ASSERT_TRUE(has_pattern(device.bytes().subspan(100, 20000), round)) << "round " << round;
    }
    mover.stop();
}

class SlowCopy : public Move {
  protected:
    static constexpr std::chrono::milliseconds DELAY{50};
    ModuleParameter delay{"pfn_vram/copy_delay_ms", std::to_string(DELAY.count())};

    /// Is the buffer, whose move began after @p start, still moving? It has to be,
    /// unless this thread was held up for too long to know: false then.
    [[nodiscard]] bool sees_it_move(std::chrono::steady_clock::time_point start) const {
        const auto flags = vram.buf_info(device.buffer.fd()).flags;
        if (std::chrono::steady_clock::now() - start >= DELAY)
            return false;
        EXPECT_NE(0U, flags & PFN_VRAM_BUF_MOVING);
        return true;
    }
};

// Rule: I3
TEST_F(SlowCopy, ReadWaitsForTheData) {
    int in_time = 0;
    for (std::uint64_t round = 0; round < 6; ++round) {
        fill_pattern(device.bytes(), round);
        const auto start = std::chrono::steady_clock::now();
        vram.move(device.buffer.fd(), round % 2 ? VRAM : SYSTEM, page_size(), PFN_VRAM_MOVE_ASYNC);
        in_time += sees_it_move(start);
        read(in.sge(0, SIZE), device.remote());
        ASSERT_TRUE(has_pattern(in.bytes(), round)) << "round " << round;
    }
    EXPECT_GT(in_time, 0);
}

// Rule: I3
TEST_F(SlowCopy, WriteIsNotOverwritten) {
    for (std::uint64_t round = 0; round < 6; ++round) {
        fill_pattern(device.bytes(), 1000 + round);
        fill_pattern(out.bytes(), round);
        vram.move(device.buffer.fd(), round % 2 ? VRAM : SYSTEM, 0, PFN_VRAM_MOVE_ASYNC);
        write(out.sge(0, SIZE), device.remote());
        device.buffer.wait_idle(PATIENCE);
        ASSERT_TRUE(has_pattern(device.bytes(), round)) << "round " << round;
    }
}

// Rule: L2
TEST_F(SlowCopy, CpuWaitsForTheData) {
    for (std::uint64_t round = 0; round < 6; ++round) {
        fill_pattern(device.bytes(), round);
        vram.move(device.buffer.fd(), round % 2 ? VRAM : SYSTEM, 0, PFN_VRAM_MOVE_ASYNC);
        ASSERT_TRUE(has_pattern(device.bytes(), round)) << "round " << round;
    }
}

// Rule: I3
TEST_F(SlowCopy, RegisteringWaitsForTheData) {
    fill_pattern(device.bytes(), 7);
    vram.move(device.buffer.fd(), SYSTEM, 0, PFN_VRAM_MOVE_ASYNC);
    const auto mr = Mr::dmabuf(gpu.pd, device.buffer.fd(), 0, SIZE, 0);
    read(in.sge(0, SIZE), {.address = 0, .rkey = mr.rkey()});
    EXPECT_TRUE(has_pattern(in.bytes(), 7));
}

// Rule: I5
TEST_F(SlowCopy, DeregDoesNotWaitForIt) {
    bool in_time = false;
    for (int attempt = 0; !in_time && attempt < 6; ++attempt) {
        auto mr = Mr::dmabuf(gpu.pd, device.buffer.fd(), 0, SIZE, 0);
        const auto start = std::chrono::steady_clock::now();
        vram.move(device.buffer.fd(), attempt % 2 ? VRAM : SYSTEM, 0, PFN_VRAM_MOVE_ASYNC);
        mr.dereg();
        // A dereg that waits is never in time.
        in_time = sees_it_move(start);
        device.buffer.wait_idle(PATIENCE);
    }
    EXPECT_TRUE(in_time);
}

TEST_F(SlowCopy, RevokeDuringACopyIsSafe) {
    for (int round = 0; round < 4; ++round) {
        const auto before = vram.info();
        {
            const DeviceMemory victim(vram, gpu.pd, {.size = SIZE});
            vram.move(victim.buffer.fd(), SYSTEM, 0, PFN_VRAM_MOVE_ASYNC);
            vram.revoke(victim.buffer.fd());
            peer.qp.post_read(1, in.sge(0, 8), victim.remote());
            EXPECT_EQ(IBV_WC_REM_ACCESS_ERR, complete(peer));
            reconnect();
        }
        const auto deadline = std::chrono::steady_clock::now() + PATIENCE;
        while (vram.info().vram_free < before.vram_free) { // when the copy is done
            ASSERT_TRUE(std::chrono::steady_clock::now() < deadline)
                << "round " << round << ": " << before.vram_free - vram.info().vram_free
                << " bytes of VRAM did not come back";
            std::this_thread::sleep_for(std::chrono::milliseconds(1));
        }
    }
}

} // namespace
} // namespace pfn
