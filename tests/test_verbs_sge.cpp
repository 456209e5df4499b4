// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
//
// Work requests on several pieces of memory, device memory and ordinary memory
// mixed, and on none that is registered: inline data.
#include "support/shadow_test.hpp"

namespace pfn {
namespace {

class Pieces : public ShadowTest {
  protected:
    /// Ordinary memory of the gpu's process, and more device memory of its, of
    /// another shape: always pfn_vram's, so it moves and is revoked whosever the
    /// first is.
    HostMemory ordinary{gpu.pd, SIZE};
    DeviceMemory other{vram,
                       gpu.pd,
                       {.size = SIZE,
                        .chunk = GetParam().fragmented ? 0 : page_chunk(),
                        .placement = PFN_VRAM_PLACEMENT_SYSTEM}};

    // Pieces that begin and end amid words, pages and packets (4096 bytes).
    [[nodiscard]] SgList mixed() const {
        return {device.sge(4090, 13), ordinary.sge(100, 5001), other.sge(8191, 9002),
                device.sge(20000, 12280)};
    }
    static constexpr std::size_t MIXED_LENGTH = 13 + 5001 + 9002 + 12280;

    /// @p data is what the pieces of mixed() contain.
    [[nodiscard]] testing::AssertionResult is_gathered(std::span<const std::byte> data) const {
        if (auto result = has_pattern(data.first(13), 1, 4090); !result)
            return result << " (first piece)";
        if (auto result = has_pattern(data.subspan(13, 5001), 3, 100); !result)
            return result << " (second piece)";
        if (auto result = has_pattern(data.subspan(5014, 9002), 4, 8191); !result)
            return result << " (third piece)";
        return has_pattern(data.subspan(14016, 12280), 1, 20000) << " (last piece)";
    }

    /// The pieces of mixed() contain the pattern of the host from its byte
    /// @p from on, and nothing but they has changed.
    testing::AssertionResult is_scattered(std::size_t from) {
        expect_host_to_device(from, 4090, 13);
        expect_host_to_device(from + 14016, 20000, 12280);
        if (auto result = as_expected(); !result)
            return result;
        return (untouched_but(ordinary.bytes(), 3, 100, 5001, from + 13) &&
                untouched_but(other.bytes(), 4, 8191, 9002, from + 5014))
                   ? testing::AssertionSuccess()
                   : testing::AssertionFailure() << "a piece, or what is next to it, is wrong";
    }

    /// @p memory is the pattern of @p own, but @p length bytes at @p at are the
    /// host's from its byte @p position on.
    static bool untouched_but(std::span<const std::byte> memory, std::uint64_t own, std::size_t at,
                              std::size_t length, std::size_t position) {
        return has_pattern(memory.first(at), own) &&
               has_pattern(memory.subspan(at, length), 2, position) &&
               has_pattern(memory.subspan(at + length), own, at + length);
    }

    Pieces() {
        fill_pattern(ordinary.bytes(), 3);
        fill_pattern(other.bytes(), 4);
    }
};

INSTANTIATE_TEST_SUITE_P(Buffers, Pieces, testing::ValuesIn(BUFFER_CASES), case_name);
INSTANTIATE_TEST_SUITE_P(Foreign, Pieces, testing::ValuesIn(FOREIGN_CASES), case_name);

TEST_P(Pieces, AreGatheredBySend) {
    peer.qp.post_recv(1, host.sge(7, MIXED_LENGTH));
    gpu.qp.post_send(2, mixed());
    succeed(gpu);
    EXPECT_EQ(MIXED_LENGTH, succeed(peer).byte_len);
    EXPECT_TRUE(is_gathered(host.bytes().subspan(7)));
    EXPECT_TRUE(has_pattern(host.bytes().first(7), 2));
    EXPECT_TRUE(has_pattern(host.bytes().subspan(7 + MIXED_LENGTH), 2, 7 + MIXED_LENGTH));
}

TEST_P(Pieces, AreGatheredByWrite) {
    gpu.qp.post_write(2, mixed(), host.remote(4001));
    succeed(gpu);
    EXPECT_TRUE(is_gathered(host.bytes().subspan(4001)));
    EXPECT_TRUE(has_pattern(host.bytes().first(4001), 2));
}

TEST_P(Pieces, AreGatheredByTheNewerInterface) {
    gpu.qp.post_wr(1, [&](ibv_qp_ex* qp) {
        SgList list = mixed();
        ibv_wr_rdma_write(qp, host.mr.rkey(), host.remote(4001).address);
        ibv_wr_set_sge_list(qp, static_cast<std::size_t>(list.count()), list.data());
    });
    EXPECT_EQ(MIXED_LENGTH, succeed(gpu).byte_len);
    EXPECT_TRUE(is_gathered(host.bytes().subspan(4001)));
    EXPECT_TRUE(has_pattern(host.bytes().first(4001), 2));
}

TEST_P(Pieces, AreScatteredByReceive) {
    gpu.qp.post_recv(1, mixed());
    peer.qp.post_send(2, host.sge(33, MIXED_LENGTH));
    succeed(peer);
    EXPECT_EQ(MIXED_LENGTH, succeed(gpu).byte_len);
    EXPECT_TRUE(is_scattered(33));
}

TEST_P(Pieces, AreScatteredByRead) {
    gpu.qp.post_read(1, mixed(), host.remote(33));
    succeed(gpu);
    EXPECT_TRUE(is_scattered(33));
}

TEST_P(Pieces, OfBothSides) {
    const HostMemory more(peer.pd, SIZE);
    gpu.qp.post_send(1, mixed());
    peer.qp.post_recv(2, {more.sge(0, 4097), host.sge(0, 10), more.sge(4097, 40000)});
    succeed(gpu);
    succeed(peer);
    std::vector<std::byte> all(more.bytes().begin(), more.bytes().begin() + 4097);
    all.insert(all.end(), host.bytes().begin(), host.bytes().begin() + 10);
    all.insert(all.end(), more.bytes().begin() + 4097, more.bytes().begin() + MIXED_LENGTH - 10);
    EXPECT_TRUE(is_gathered(all));
}

TEST_P(Pieces, MayBeOfLengthZero) {
    gpu.qp.post_write(
        1, {device.sge(0, 0), device.sge(100, 10), ordinary.sge(0, 0), other.sge(50, 5000)},
        host.remote());
    succeed(gpu);
    EXPECT_TRUE(has_pattern(host.bytes().first(10), 1, 100));
    EXPECT_TRUE(has_pattern(host.bytes().subspan(10, 5000), 4, 50));
    EXPECT_TRUE(has_pattern(host.bytes().subspan(5010), 2, 5010));
}

TEST_P(Pieces, MayOverlapWhenTheyAreOnlyRead) {
    gpu.qp.post_write(1, {device.sge(0, 9000), device.sge(0, 9000), device.sge(4500, 9000)},
                      host.remote());
    succeed(gpu);
    EXPECT_TRUE(has_pattern(host.bytes().first(9000), 1));
    EXPECT_TRUE(has_pattern(host.bytes().subspan(9000, 9000), 1));
    EXPECT_TRUE(has_pattern(host.bytes().subspan(18000, 9000), 1, 4500));
}

TEST_P(Pieces, GoOnWhenOneOfThemMoves) {
    vram.move(other.buffer.fd(), PFN_VRAM_PLACEMENT_VRAM);
    gpu.qp.post_read(1, mixed(), host.remote(33));
    succeed(gpu);
    EXPECT_TRUE(is_scattered(33));
    EXPECT_EQ(1U, query_mr(other.mr).faults);
    EXPECT_EQ(0U, query_mr(device.mr).faults);
}

// A piece that cannot be used: the whole request fails, what comes after it stays
// as it was, and whatever is before it may have been transferred.

// Rule: I4
TEST_P(Pieces, ARevokedOneFailsWhatIsSent) {
    vram.revoke(other.buffer.fd());
    gpu.qp.post_write(1, mixed(), host.remote());
    EXPECT_EQ(IBV_WC_LOC_PROT_ERR, complete(gpu));
    EXPECT_TRUE(has_pattern(host.bytes().subspan(5014), 2, 5014));
    reconnect();
    peer.qp.post_recv(1, host.sge(0, SIZE));
    gpu.qp.post_send(2, mixed());
    EXPECT_EQ(IBV_WC_LOC_PROT_ERR, complete(gpu));
    EXPECT_TRUE(has_pattern(host.bytes().subspan(5014), 2, 5014));
}

// Rule: I4
TEST_P(Pieces, ARevokedOneFailsWhatIsRead) {
    vram.revoke(other.buffer.fd());
    gpu.qp.post_read(1, mixed(), host.remote());
    EXPECT_EQ(IBV_WC_LOC_PROT_ERR, complete(gpu));
    EXPECT_TRUE(has_pattern(device.bytes().subspan(20000), 1, 20000));
    EXPECT_TRUE(has_pattern(ordinary.bytes().first(100), 3));
    EXPECT_TRUE(has_pattern(ordinary.bytes().subspan(5101), 3, 5101));
}

// Rule: I4
TEST_P(Pieces, ARevokedOneFailsTheReceive) {
    gpu.qp.post_recv(1, mixed());
    vram.revoke(other.buffer.fd());
    peer.qp.post_send(2, host.sge(0, MIXED_LENGTH));
    EXPECT_EQ(IBV_WC_LOC_PROT_ERR, complete(gpu));
    EXPECT_EQ(IBV_WC_REM_OP_ERR, complete(peer));
    EXPECT_TRUE(has_pattern(device.bytes().subspan(20000), 1, 20000));
    EXPECT_TRUE(has_pattern(ordinary.bytes().subspan(5101), 3, 5101));
}

TEST_P(Pieces, OneBeyondItsMrFailsTheRequest) {
    const SgList bad{device.sge(0, 5000), ordinary.sge(SIZE - 10, 11), device.sge(30000, 5000)};
    const SgList worse{device.sge(0, 5000), other.sge(SIZE - 10, 11), device.sge(30000, 5000)};
    for (const SgList& list : {bad, worse}) {
        gpu.qp.post_write(1, list, host.remote());
        EXPECT_EQ(IBV_WC_LOC_PROT_ERR, complete(gpu));
        EXPECT_TRUE(has_pattern(host.bytes().subspan(5010), 2, 5010));
        reconnect();
        gpu.qp.post_read(1, list, host.remote());
        EXPECT_EQ(IBV_WC_LOC_PROT_ERR, complete(gpu));
        EXPECT_TRUE(has_pattern(device.bytes().subspan(30000), 1, 30000));
        reconnect();
        gpu.qp.post_recv(1, list);
        peer.qp.post_send(2, host.sge(0, 10011));
        EXPECT_EQ(IBV_WC_LOC_PROT_ERR, complete(gpu));
        EXPECT_EQ(IBV_WC_REM_OP_ERR, complete(peer));
        EXPECT_TRUE(has_pattern(device.bytes().subspan(30000), 1, 30000));
        reconnect();
    }
}

TEST_P(Pieces, TooFewForWhatArrives) {
    gpu.qp.post_recv(1, {device.sge(0, 3000), ordinary.sge(0, 3000)});
    peer.qp.post_send(2, host.sge(0, 6001));
    const auto receiver = complete(gpu);
    EXPECT_EQ(IBV_WC_LOC_QP_OP_ERR, receiver) << ibv_wc_status_str(receiver);
    const auto sender = complete(peer);
    EXPECT_EQ(IBV_WC_REM_OP_ERR, sender) << ibv_wc_status_str(sender);
    EXPECT_TRUE(has_pattern(device.bytes().subspan(3000), 1, 3000));
    EXPECT_TRUE(has_pattern(ordinary.bytes().subspan(3000), 3, 3000));
}

// Inline: the CPU copies the data when the request is posted, no MR is used. It
// may be device memory all the same, through a mapping.

class Inline : public ShadowTest {
  protected:
    static constexpr unsigned BYTES = 200;

    void SetUp() override { reconnect({.inline_bytes = BYTES}); }

    /// Device memory as the CPU sees it; no MR that anybody knows.
    [[nodiscard]] ibv_sge cpu_sge(std::size_t offset, std::size_t length) const {
        return {.addr = device.cpu.address() + offset,
                .length = static_cast<std::uint32_t>(length),
                .lkey = 0};
    }
};

INSTANTIATE_TEST_SUITE_P(Buffers, Inline, testing::ValuesIn(BUFFER_CASES), case_name);
INSTANTIATE_TEST_SUITE_P(Foreign, Inline, testing::ValuesIn(FOREIGN_CASES), case_name);

TEST_P(Inline, WriteIntoDevice) {
    const ibv_sge unregistered{.addr = host.memory.address() + 5, .length = BYTES, .lkey = 0};
    peer.qp.post_write(1, unregistered, device.remote(4000), IBV_SEND_INLINE);
    succeed(peer);
    expect_host_to_device(5, 4000, BYTES);
    EXPECT_TRUE(as_expected());
}

TEST_P(Inline, SendIntoDevice) {
    gpu.qp.post_recv(1, device.sge(4000, BYTES));
    peer.qp.post_send(2, host.sge(5, BYTES), IBV_SEND_INLINE);
    succeed(peer);
    EXPECT_EQ(BYTES, succeed(gpu).byte_len);
    expect_host_to_device(5, 4000, BYTES);
    EXPECT_TRUE(as_expected());
}

TEST_P(Inline, DataIsThatOfTheTimeOfPosting) {
    gpu.qp.post_send(1, {cpu_sge(4090, 13), cpu_sge(1, BYTES - 13)}, IBV_SEND_INLINE);
    // No receive is there yet, so nothing can have been delivered.
    fill_pattern(device.bytes().first(8192), 99);
    if (!GetParam().foreign())
        vram.move(device.buffer.fd(), PFN_VRAM_PLACEMENT_SYSTEM);
    peer.qp.post_recv(2, host.sge(0, BYTES));
    succeed(gpu);
    EXPECT_EQ(BYTES, succeed(peer).byte_len);
    EXPECT_TRUE(has_pattern(host.bytes().first(13), 1, 4090));
    EXPECT_TRUE(has_pattern(host.bytes().subspan(13, BYTES - 13), 1, 1));
    EXPECT_TRUE(has_pattern(host.bytes().subspan(BYTES), 2, BYTES));
    EXPECT_EQ(0U, query_mr(device.mr).faults);
}

TEST_P(Inline, NeedsNoMr) {
    SKIP_IF_FOREIGN();
    gpu.qp.post_send(1, cpu_sge(0, BYTES), IBV_SEND_INLINE);
    vram.revoke(device.buffer.fd());
    peer.qp.post_recv(2, host.sge(0, BYTES));
    succeed(gpu);
    succeed(peer);
    EXPECT_TRUE(has_pattern(host.bytes().first(BYTES), 1));
}

TEST_P(Inline, WithTheNewerInterface) {
    peer.qp.post_wr(1, [&](ibv_qp_ex* qp) {
        ibv_wr_rdma_write(qp, device.mr.rkey(), 4000);
        ibv_wr_set_inline_data(qp, host.bytes().subspan(5).data(), BYTES);
    });
    succeed(peer);
    expect_host_to_device(5, 4000, BYTES);
    EXPECT_TRUE(as_expected());
    const std::array<ibv_data_buf, 2> pieces{
        {{.addr = host.bytes().subspan(70).data(), .length = 100},
         {.addr = host.bytes().subspan(9).data(), .length = 3}}};
    peer.qp.post_wr(1, [&](ibv_qp_ex* qp) {
        ibv_wr_rdma_write(qp, device.mr.rkey(), 8190);
        ibv_wr_set_inline_data_list(qp, pieces.size(), pieces.data());
    });
    succeed(peer);
    expect_host_to_device(70, 8190, 100);
    expect_host_to_device(9, 8290, 3);
    EXPECT_TRUE(as_expected());
}

TEST_P(Inline, TooMuchIsRefused) {
    EXPECT_ERRNO(EINVAL,
                 peer.qp.post_write(1, host.sge(0, 4096), device.remote(), IBV_SEND_INLINE));
    write(host.sge(0, 8), device.remote());
    expect_host_to_device(0, 0, 8);
    EXPECT_TRUE(as_expected());
}

} // namespace
} // namespace pfn
