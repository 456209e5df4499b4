// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
//
// FLUSH: when it completes, what was written before is visible to all (global), or
// survives a power failure (persistent). The first works on device memory; the
// second is refused, since nobody says that device memory is persistent.
//
// uverbs refuses both rights when a dma-buf is registered, ibv_rereg_mr() adds the
// first.
#include "support/shadow_test.hpp"

#include <chrono>
#include <thread>

namespace pfn {
namespace {

class Flush : public ShadowTest {
  protected:
    Flush() {
        device.mr.rereg(IBV_REREG_MR_CHANGE_ACCESS, nullptr, FULL_ACCESS | IBV_ACCESS_FLUSH_GLOBAL);
    }

    ibv_wc flush(Remote remote, std::size_t length, std::uint8_t type = IBV_FLUSH_GLOBAL,
                 std::uint8_t level = IBV_FLUSH_RANGE) {
        peer.qp.post_flush(1, remote, length, type, level);
        return peer.cq.wait();
    }
    void expect_refused(Remote remote, std::size_t length, std::uint8_t type = IBV_FLUSH_GLOBAL,
                        std::uint8_t level = IBV_FLUSH_RANGE) {
        const auto status = flush(remote, length, type, level).status;
        EXPECT_EQ(IBV_WC_REM_ACCESS_ERR, status) << ibv_wc_status_str(status);
        EXPECT_TRUE(as_expected());
        reconnect();
    }
};

INSTANTIATE_TEST_SUITE_P(Buffers, Flush, testing::ValuesIn(BUFFER_CASES), case_name);
INSTANTIATE_TEST_SUITE_P(Foreign, Flush, testing::ValuesIn(FOREIGN_CASES), case_name);

TEST_P(Flush, OfARangeAfterWrites) {
    // Posted together; the flush may not overtake.
    peer.qp.post_write(1, host.sge(0, 9000), device.remote(100));
    peer.qp.post_write(2, host.sge(20000, 9000), device.remote(4100));
    peer.qp.post_flush(3, device.remote(100), 13000, IBV_FLUSH_GLOBAL);
    for (const std::uint64_t id : {1U, 2U, 3U}) {
        const ibv_wc wc = succeed(peer);
        EXPECT_EQ(id, wc.wr_id);
        EXPECT_EQ(id == 3 ? IBV_WC_FLUSH : IBV_WC_RDMA_WRITE, wc.opcode);
    }
    expect_host_to_device(0, 100, 9000);
    expect_host_to_device(20000, 4100, 9000);
    EXPECT_TRUE(as_expected());
}

TEST_P(Flush, OfTheWholeMr) {
    write(host.sge(0, 9000), device.remote(100));
    expect_host_to_device(0, 100, 9000);
    // Address and length have no meaning then.
    EXPECT_EQ(IBV_WC_SUCCESS, flush(device.remote(), 0, IBV_FLUSH_GLOBAL, IBV_FLUSH_MR).status);
    EXPECT_EQ(IBV_WC_SUCCESS,
              flush(device.remote(SIZE + 1000), 8, IBV_FLUSH_GLOBAL, IBV_FLUSH_MR).status);
    EXPECT_TRUE(as_expected());
}

TEST_P(Flush, OfNothing) {
    EXPECT_EQ(IBV_WC_SUCCESS, flush(device.remote(100), 0).status);
    EXPECT_EQ(IBV_WC_SUCCESS, flush(device.remote(SIZE), 0).status);
}

TEST_P(Flush, IsSeenByOthersInOrder) {
    // Data, flush, flag: who sees the flag sees the data.
    set_device_word(8, 0);
    for (std::uint64_t round = 1; round <= 10; ++round) {
        renew_host();
        peer.qp.post_write(1, host.sge(0, 9000), device.remote(4096));
        peer.qp.post_flush(2, device.remote(4096), 9000, IBV_FLUSH_GLOBAL);
        peer.qp.post_atomic_write(3, device.remote(8), round);
        const auto deadline = std::chrono::steady_clock::now() + PATIENCE;
        while (device_word(8) != round) {
            ASSERT_LT(std::chrono::steady_clock::now(), deadline);
            std::this_thread::yield();
        }
        EXPECT_TRUE(has_pattern(device.bytes().subspan(4096, 9000), seed));
        for (int i = 0; i < 3; ++i)
            succeed(peer);
    }
}

TEST_P(Flush, OfMemoryThatMoves) {
    SKIP_IF_FOREIGN();
    write(host.sge(0, 9000), device.remote(100));
    vram.move(device.buffer.fd(), PFN_VRAM_PLACEMENT_SYSTEM);
    EXPECT_EQ(IBV_WC_SUCCESS, flush(device.remote(100), 9000).status);
    expect_host_to_device(0, 100, 9000);
    EXPECT_TRUE(as_expected());
}

// What is refused.

TEST_P(Flush, BeyondTheMr) {
    expect_refused(device.remote(SIZE - 8), 9);
    expect_refused(device.remote(SIZE), 1);
    expect_refused(device.remote(~std::uint64_t{7}), 16);
}

TEST_P(Flush, WithoutTheRight) {
    const auto plain = second_mr(FULL_ACCESS);
    expect_refused({.address = 0, .rkey = plain.rkey()}, 8);
    expect_refused({.address = 0, .rkey = plain.rkey()}, 0, IBV_FLUSH_GLOBAL, IBV_FLUSH_MR);
}

// Rule: I4
TEST_P(Flush, OfRevokedMemory) {
    SKIP_IF_FOREIGN();
    vram.revoke(device.buffer.fd());
    EXPECT_EQ(IBV_WC_REM_ACCESS_ERR, flush(device.remote(), 8).status);
    reconnect();
    EXPECT_EQ(IBV_WC_REM_ACCESS_ERR,
              flush(device.remote(), 0, IBV_FLUSH_GLOBAL, IBV_FLUSH_MR).status);
}

TEST_P(Flush, ToPersistence) {
    // At the very moment when a program would ask for the right ...
    EXPECT_ERRNO(EOPNOTSUPP, device.mr.rereg(IBV_REREG_MR_CHANGE_ACCESS, nullptr,
                                             FULL_ACCESS | IBV_ACCESS_FLUSH_PERSISTENT));
    EXPECT_ERRNO(EOPNOTSUPP, device.mr.rereg(IBV_REREG_MR_CHANGE_ACCESS, nullptr,
                                             FULL_ACCESS | IBV_ACCESS_FLUSH_GLOBAL |
                                                 IBV_ACCESS_FLUSH_PERSISTENT));
    // ... and for a peer that asks nevertheless. The MR keeps the rights it had.
    expect_refused(device.remote(), 8, IBV_FLUSH_PERSISTENT);
    expect_refused(device.remote(), 8, IBV_FLUSH_PERSISTENT | IBV_FLUSH_GLOBAL);
    expect_refused(device.remote(), 0, IBV_FLUSH_PERSISTENT, IBV_FLUSH_MR);
    EXPECT_EQ(IBV_WC_SUCCESS, flush(device.remote(), 8).status);
}

TEST_P(Flush, RightsCannotBeRegistered) {
    EXPECT_ERRNO(EINVAL, second_mr(FULL_ACCESS | IBV_ACCESS_FLUSH_GLOBAL));
    EXPECT_ERRNO(EINVAL, second_mr(FULL_ACCESS | IBV_ACCESS_FLUSH_PERSISTENT));
}

} // namespace
} // namespace pfn
