// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
//
// Memory that is taken back for good: whoever still uses it is told so by a
// failed work request, and nothing else breaks.
#include "support/modules.hpp"
#include "support/rdma_test.hpp"

#include <atomic>
#include <thread>

namespace pfn {
namespace {

constexpr std::uint64_t SIZE = 256 * KIB;

// PINNED cannot be revoked (Modes.* in test_register.cpp).
class Revoke : public RdmaTest, public testing::WithParamInterface<std::uint32_t> {
  protected:
    [[nodiscard]] Remote remote(std::uint64_t offset = 0) const {
        return {.address = offset, .rkey = mr.rkey()};
    }
    [[nodiscard]] ibv_sge sge(std::uint64_t offset, std::uint32_t length) const {
        return {.addr = offset, .length = length, .lkey = mr.lkey()};
    }

    DmaBuf buffer = vram.alloc({.size = SIZE});
    ModeMr mr{gpu.pd, GetParam(), buffer.fd(), 0, SIZE, 0};
    HostMemory host{peer.pd, SIZE};
};

std::string mode_name(const testing::TestParamInfo<std::uint32_t>& info) {
    return info.param == PFN_MR_MODE_DYNAMIC ? "Dynamic" : "Revocable";
}

INSTANTIATE_TEST_SUITE_P(Modes, Revoke, testing::Values(PFN_MR_MODE_REVOCABLE, PFN_MR_MODE_DYNAMIC),
                         mode_name);

TEST_P(Revoke, WorksBefore) {
    write(host.sge(0, SIZE), remote());
    read(host.sge(0, SIZE), remote());
    EXPECT_EQ(PFN_MR_STATE_PRESENT, mr.query().state);
}

TEST_P(Revoke, MrSaysSo) {
    vram.revoke(buffer.fd());
    const auto info = mr.query();
    EXPECT_EQ(PFN_MR_STATE_REVOKED, info.state);
    EXPECT_EQ(0U, info.ranges);
    EXPECT_EQ(GetParam(), info.mode);
}

// Rule: I4
TEST_P(Revoke, WriteFailsWithRemoteAccessError) {
    vram.revoke(buffer.fd());
    peer.qp.post_write(1, host.sge(0, 8), remote());
    EXPECT_EQ(IBV_WC_REM_ACCESS_ERR, complete(peer));
}

// Rule: I4
TEST_P(Revoke, ReadFailsWithRemoteAccessErrorAndDeliversNothing) {
    fill_pattern(host.bytes(), 1);
    vram.revoke(buffer.fd());
    peer.qp.post_read(1, host.sge(0, SIZE), remote());
    EXPECT_EQ(IBV_WC_REM_ACCESS_ERR, complete(peer));
    EXPECT_TRUE(has_pattern(host.bytes(), 1));
}

// Rule: I4
TEST_P(Revoke, AtomicsFailWithRemoteAccessError) {
    vram.revoke(buffer.fd());
    peer.qp.post_fetch_add(1, host.sge(0, 8), remote(), 1);
    EXPECT_EQ(IBV_WC_REM_ACCESS_ERR, complete(peer));
    reconnect();
    peer.qp.post_cmp_swap(1, host.sge(0, 8), remote(), 0, 1);
    EXPECT_EQ(IBV_WC_REM_ACCESS_ERR, complete(peer));
    reconnect();
    peer.qp.post_atomic_write(1, remote(), 1);
    EXPECT_EQ(IBV_WC_REM_ACCESS_ERR, complete(peer));
}

// Rule: I4
TEST_P(Revoke, LocalWriteFailsWithLocalProtectionError) {
    vram.revoke(buffer.fd());
    gpu.qp.post_write(1, sge(0, 8), host.remote());
    EXPECT_EQ(IBV_WC_LOC_PROT_ERR, complete(gpu));
}

// Rule: I4
TEST_P(Revoke, LocalSendFailsWithLocalProtectionError) {
    vram.revoke(buffer.fd());
    peer.qp.post_recv(1, host.sge(0, 8));
    gpu.qp.post_send(2, sge(0, 8));
    EXPECT_EQ(IBV_WC_LOC_PROT_ERR, complete(gpu));
}

// Rule: I4
TEST_P(Revoke, LocalReadFailsWithLocalProtectionError) {
    vram.revoke(buffer.fd());
    gpu.qp.post_read(1, sge(0, 8), host.remote());
    EXPECT_EQ(IBV_WC_LOC_PROT_ERR, complete(gpu));
}

// Rule: I4
TEST_P(Revoke, ReceiveFailsOnBothSides) {
    gpu.qp.post_recv(1, sge(0, 8));
    vram.revoke(buffer.fd());
    peer.qp.post_send(2, host.sge(0, 8));
    const auto receiver = complete(gpu);
    EXPECT_EQ(IBV_WC_LOC_PROT_ERR, receiver) << ibv_wc_status_str(receiver);
    const auto sender = complete(peer);
    EXPECT_EQ(IBV_WC_REM_OP_ERR, sender) << ibv_wc_status_str(sender);
}

TEST_P(Revoke, QueuePairGoesToErrorAndFlushes) {
    vram.revoke(buffer.fd());
    for (std::uint64_t i = 0; i < 4; ++i)
        peer.qp.post_write(i, host.sge(0, 8), remote());
    EXPECT_EQ(IBV_WC_REM_ACCESS_ERR, complete(peer));
    for (int i = 1; i < 4; ++i)
        EXPECT_EQ(IBV_WC_WR_FLUSH_ERR, complete(peer));
    EXPECT_EQ(IBV_QPS_ERR, peer.qp.state());
}

TEST_P(Revoke, OtherMrsGoOnAfterReconnect) {
    const DeviceMemory other(vram, gpu.pd, {.size = SIZE});
    vram.revoke(buffer.fd());
    peer.qp.post_write(1, host.sge(0, 8), remote());
    EXPECT_EQ(IBV_WC_REM_ACCESS_ERR, complete(peer));
    reconnect();
    fill_pattern(host.bytes(), 2);
    write(host.sge(0, SIZE), other.remote());
    EXPECT_TRUE(has_pattern(other.bytes(), 2));
}

// Rule: I4
TEST_P(Revoke, KeysAreNotGivenToAnybodyElse) {
    vram.revoke(buffer.fd());
    const auto other = vram.alloc({.size = SIZE});
    for (int i = 0; i < 100; ++i) {
        const auto next = Mr::dmabuf(gpu.pd, other.fd(), 0, SIZE, 0);
        ASSERT_NE(mr.rkey(), next.rkey());
        ASSERT_NE(mr.lkey(), next.lkey());
    }
    peer.qp.post_write(1, host.sge(0, 8), remote());
    EXPECT_EQ(IBV_WC_REM_ACCESS_ERR, complete(peer));
}

// Rule: I5, T18
TEST_P(Revoke, DeregWorks) {
    vram.revoke(buffer.fd());
    EXPECT_ERRNO(0, mr.dereg());
    EXPECT_EQ(0U, vram.buf_info(buffer.fd()).attachments);
}

// Rule: E2, T9
TEST_P(Revoke, SecondRevokeIsENODEV) {
    vram.revoke(buffer.fd());
    EXPECT_ERRNO(ENODEV, vram.revoke(buffer.fd()));
    EXPECT_EQ(PFN_MR_STATE_REVOKED, mr.query().state);
}

// Rule: T11
TEST_P(Revoke, NewMrIsENODEV) {
    vram.revoke(buffer.fd());
    EXPECT_ERRNO(ENODEV, Mr::dmabuf(gpu.pd, buffer.fd(), 0, SIZE, 0));
}

// Rule: I2
TEST_P(Revoke, MemoryIsFreeAtOnceAlthoughTheMrLives) {
    const auto before = vram.info().vram_free;
    vram.revoke(buffer.fd());
    EXPECT_EQ(before + SIZE, vram.info().vram_free);
}

TEST_P(Revoke, EveryMrOnTheBufferFails) {
    const auto plain = Mr::dmabuf(gpu.pd, buffer.fd(), 4096, 4096, 0);
    vram.revoke(buffer.fd());
    EXPECT_EQ(PFN_MR_STATE_REVOKED, query_mr(plain).state);
    peer.qp.post_write(1, host.sge(0, 8), {.address = 0, .rkey = plain.rkey()});
    EXPECT_EQ(IBV_WC_REM_ACCESS_ERR, complete(peer));
}

// Rule: I1
TEST_P(Revoke, NewOwnerOfTheMemoryIsNotTouched) {
    // The memory goes to somebody else at once; writes with the old key, under
    // way during the revoke, must not reach it.
    const ModuleParameter delay("ib_umem_pfn/test_access_delay_us", "5000");
    const auto free = vram.info().vram_free;
    for (int round = 0; round < 4; ++round) {
        auto victim = vram.alloc({.size = SIZE});
        const ModeMr old(gpu.pd, GetParam(), victim.fd(), 0, SIZE, 0);
        for (std::uint64_t i = 0; i < 8; ++i)
            peer.qp.post_write(i, host.sge(0, SIZE), {.address = 0, .rkey = old.rkey()});
        const ibv_wc first = peer.cq.wait(); // now they are really flowing
        ASSERT_EQ(IBV_WC_SUCCESS, first.status);
        vram.revoke(victim.fd());
        // The first place that is large enough is the old one; to zero no more than
        // that takes less than a write under way. Then all the rest, to be sure.
        const auto next = vram.alloc({.size = SIZE});
        const auto rest = vram.alloc({.size = vram.info().vram_free, .chunk = page_chunk()});
        const Mapping cpu = next.map();
        const Mapping cpu_rest = rest.map();
        ibv_wc_status last = IBV_WC_SUCCESS;
        for (int i = 1; i < 8; ++i)
            last = complete(peer);
        EXPECT_NE(IBV_WC_SUCCESS, last) << "the revoke came too late to prove anything";
        ASSERT_TRUE(all_zero(cpu.bytes())) << "round " << round;
        ASSERT_TRUE(all_zero(cpu_rest.bytes())) << "round " << round;
        reconnect();
        fill_pattern(host.bytes(), 100 + round);
    }
    EXPECT_EQ(free, vram.info().vram_free);
}

TEST_P(Revoke, DuringTrafficIsAnErrorAndNoHang) {
    for (int round = 0; round < 10; ++round) {
        const auto target = vram.alloc({.size = SIZE});
        const ModeMr target_mr(gpu.pd, GetParam(), target.fd(), 0, SIZE, 0);
        std::atomic<bool> started = false;
        std::jthread revoker([&] {
            started.wait(false);
            vram.revoke(target.fd());
        });
        ibv_wc_status status = IBV_WC_SUCCESS;
        for (int i = 0; status == IBV_WC_SUCCESS; ++i) {
            const Remote there{.address = 0, .rkey = target_mr.rkey()};
            if (i % 2)
                peer.qp.post_write(1, host.sge(0, SIZE), there);
            else
                peer.qp.post_read(1, host.sge(0, SIZE), there);
            if (i == 1 + round % 3) {
                started = true;
                started.notify_one();
            }
            status = complete(peer);
        }
        EXPECT_EQ(IBV_WC_REM_ACCESS_ERR, status);
        revoker.join();
        reconnect();
    }
}

} // namespace
} // namespace pfn
