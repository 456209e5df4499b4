// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
//
// Device memory under what is not a plain reliable connection: receive queues
// that several share, unreliable connections and datagrams.
#include "support/shadow_test.hpp"

#include <optional>

namespace pfn {
namespace {

// Shared receive queue: two connections, one queue of device memory.

class SharedReceive : public ShadowTest {
  protected:
    SharedReceive() {
        connect(gpu_a, peer_a);
        connect(gpu_b, peer_b);
    }

    Srq srq{gpu.pd};
    Qp gpu_a{gpu.context, gpu.pd, gpu.cq, {.srq = srq.get()}};
    Qp gpu_b{gpu.context, gpu.pd, gpu.cq, {.srq = srq.get()}};
    Qp peer_a{peer.context, peer.pd, peer.cq};
    Qp peer_b{peer.context, peer.pd, peer.cq};
};

INSTANTIATE_TEST_SUITE_P(Buffers, SharedReceive, testing::ValuesIn(BUFFER_CASES), case_name);
INSTANTIATE_TEST_SUITE_P(Foreign, SharedReceive, testing::ValuesIn(FOREIGN_CASES), case_name);

TEST_P(SharedReceive, TakesFromWhoeverSends) {
    constexpr std::size_t PIECE = 5000;
    constexpr std::size_t COUNT = SIZE / PIECE;
    for (std::size_t i = 0; i < COUNT; ++i)
        srq.post_recv(i, device.sge(i * PIECE, PIECE));
    for (std::size_t i = 0; i < COUNT; ++i) {
        const bool a = i % 3 != 0;
        const std::size_t length = PIECE - i;
        (a ? peer_a : peer_b).post_send(100, host.sge(i * 77, length));
        succeed(peer);
        const ibv_wc wc = succeed(gpu);
        EXPECT_EQ(i, wc.wr_id); // first come, first served
        EXPECT_EQ((a ? gpu_a : gpu_b).get()->qp_num, wc.qp_num);
        EXPECT_EQ(length, wc.byte_len);
        expect_host_to_device(i * 77, i * PIECE, length);
    }
    EXPECT_TRUE(as_expected());
}

TEST_P(SharedReceive, ScattersIntoDeviceAndOrdinaryMemory) {
    const HostMemory ordinary(gpu.pd, SIZE);
    srq.post_recv(1, {device.sge(4095, 3), ordinary.sge(0, 6000), device.sge(8191, 6000)});
    peer_b.post_send(2, host.sge(1, 12003));
    succeed(peer);
    succeed(gpu);
    expect_host_to_device(1, 4095, 3);
    expect_host_to_device(6004, 8191, 6000);
    EXPECT_TRUE(as_expected());
    EXPECT_TRUE(has_pattern(ordinary.bytes().first(6000), 2, 4));
}

TEST_P(SharedReceive, SurvivesMoves) {
    SKIP_IF_FOREIGN();
    for (std::size_t i = 0; i < 6; ++i)
        srq.post_recv(i, device.sge(i * 10000, 10000));
    for (std::size_t i = 0; i < 6; ++i) {
        vram.move(device.buffer.fd(), i % 2 ? PFN_VRAM_PLACEMENT_VRAM : PFN_VRAM_PLACEMENT_SYSTEM);
        (i % 2 ? peer_a : peer_b).post_send(100, host.sge(i, 10000));
        succeed(peer);
        succeed(gpu);
        expect_host_to_device(i, i * 10000, 10000);
    }
    EXPECT_TRUE(as_expected());
    EXPECT_EQ(6U, query_mr(device.mr).faults);
}

TEST_P(SharedReceive, BadReceiveEndsOneConnectionOnly) {
    const DeviceMemory revoked(vram, gpu.pd, spec());
    srq.post_recv(1, revoked.sge(0, 8));
    srq.post_recv(2, device.sge(4096, 8));
    vram.revoke(revoked.buffer.fd());

    peer_a.post_send(3, host.sge(0, 8));
    EXPECT_EQ(IBV_WC_REM_OP_ERR, complete(peer));
    const ibv_wc failed = gpu.cq.wait();
    EXPECT_EQ(1U, failed.wr_id);
    EXPECT_EQ(gpu_a.get()->qp_num, failed.qp_num);
    EXPECT_EQ(IBV_WC_LOC_PROT_ERR, failed.status) << ibv_wc_status_str(failed.status);

    peer_b.post_send(4, host.sge(0, 8));
    succeed(peer);
    EXPECT_EQ(2U, succeed(gpu).wr_id);
    expect_host_to_device(0, 4096, 8);
    EXPECT_TRUE(as_expected());
}

// Unreliable connection: like a reliable one without acknowledgements. What goes
// wrong at the responder is dropped, and the requester never knows.

class Unreliable : public ShadowTest {
  protected:
    void SetUp() override { reconnect({.type = IBV_QPT_UC}); }

    /// Has everything that was sent before arrived (or been dropped)?
    void drain() {
        gpu.qp.post_recv(1000, {});
        peer.qp.post_write_imm(1001, {}, {}, 5);
        succeed(peer);
        EXPECT_EQ(1000U, succeed(gpu).wr_id);
    }
};

INSTANTIATE_TEST_SUITE_P(Buffers, Unreliable, testing::ValuesIn(BUFFER_CASES), case_name);
INSTANTIATE_TEST_SUITE_P(Foreign, Unreliable, testing::ValuesIn(FOREIGN_CASES), case_name);

TEST_P(Unreliable, SendIntoDevice) {
    gpu.qp.post_recv(1, device.sge(4090, 20000));
    peer.qp.post_send(2, host.sge(3, 15000));
    succeed(peer);
    EXPECT_EQ(15000U, succeed(gpu).byte_len);
    expect_host_to_device(3, 4090, 15000);
    EXPECT_TRUE(as_expected());
}

TEST_P(Unreliable, SendFromDeviceWithImmediate) {
    peer.qp.post_recv(1, host.sge(3, 20000));
    gpu.qp.post_send_imm(2, device.sge(4090, 15000), 77);
    succeed(gpu);
    const ibv_wc wc = succeed(peer);
    EXPECT_EQ(15000U, wc.byte_len);
    EXPECT_EQ(77U, wc.imm_data);
    expect_device_to_host(4090, 3, 15000);
    EXPECT_TRUE(as_expected());
}

TEST_P(Unreliable, WriteIntoDevice) {
    peer.qp.post_write(2, host.sge(3, 15000), device.remote(4090));
    succeed(peer);
    drain();
    expect_host_to_device(3, 4090, 15000);
    EXPECT_TRUE(as_expected());
}

TEST_P(Unreliable, WriteWithImmediateFromDeviceToDevice) {
    const DeviceMemory other(peer.pd, buffer());
    fill_pattern(other.bytes(), 9);
    gpu.qp.post_recv(1, {});
    peer.qp.post_write_imm(2, other.sge(5, 15000), device.remote(4090), 78);
    succeed(peer);
    const ibv_wc wc = succeed(gpu);
    EXPECT_EQ(IBV_WC_RECV_RDMA_WITH_IMM, wc.opcode);
    EXPECT_EQ(78U, wc.imm_data);
    EXPECT_TRUE(has_pattern(device.bytes().first(4090), 1));
    EXPECT_TRUE(has_pattern(device.bytes().subspan(4090, 15000), 9, 5));
    EXPECT_TRUE(has_pattern(device.bytes().subspan(19090), 1, 19090));
}

TEST_P(Unreliable, WriteThatIsNotAllowedIsDropped) {
    const auto readonly = second_mr(IBV_ACCESS_REMOTE_READ);
    for (const Remote remote : {device.remote(SIZE - 8), device.remote(SIZE),
                                Remote{.address = 0, .rkey = readonly.rkey()}}) {
        peer.qp.post_write(1, host.sge(0, 10000), remote);
        succeed(peer);
        drain();
        EXPECT_TRUE(as_expected());
    }
    // The connection goes on.
    peer.qp.post_write(1, host.sge(0, 10000), device.remote(1));
    succeed(peer);
    drain();
    expect_host_to_device(0, 1, 10000);
    EXPECT_TRUE(as_expected());
}

TEST_P(Unreliable, WriteIntoRevokedMemoryIsDropped) {
    const DeviceMemory revoked(vram, gpu.pd, spec());
    vram.revoke(revoked.buffer.fd());
    peer.qp.post_write(1, host.sge(0, 10000), revoked.remote());
    succeed(peer);
    drain();
    EXPECT_EQ(0U, query_mr(revoked.mr).bytes_written);
    peer.qp.post_write(1, host.sge(0, 10000), device.remote(1));
    succeed(peer);
    drain();
    expect_host_to_device(0, 1, 10000);
    EXPECT_TRUE(as_expected());
}

TEST_P(Unreliable, ReceiveIntoRevokedMemoryIsAnErrorThere) {
    SKIP_IF_FOREIGN();
    const DeviceMemory revoked(vram, gpu.pd, spec());
    gpu.qp.post_recv(1, revoked.sge(0, 8));
    vram.revoke(revoked.buffer.fd());
    peer.qp.post_send(2, host.sge(0, 8));
    succeed(peer);
    EXPECT_EQ(IBV_WC_LOC_PROT_ERR, complete(gpu));
}

TEST_P(Unreliable, SourceThatIsRevokedIsAnErrorHere) {
    SKIP_IF_FOREIGN();
    vram.revoke(device.buffer.fd());
    gpu.qp.post_write(1, device.sge(0, 10000), host.remote());
    EXPECT_EQ(IBV_WC_LOC_PROT_ERR, complete(gpu));
}

TEST_P(Unreliable, CannotReadOrDoAtomics) {
    peer.qp.post_read(1, host.sge(0, 8), device.remote());
    EXPECT_EQ(IBV_WC_LOC_QP_OP_ERR, complete(peer));
    reconnect({.type = IBV_QPT_UC});
    peer.qp.post_fetch_add(1, host.sge(0, 8), device.remote(), 1);
    EXPECT_EQ(IBV_WC_LOC_QP_OP_ERR, complete(peer));
    EXPECT_TRUE(as_expected());
}

// Datagrams: 40 bytes in front of the data say where they came from (GRH; with
// IPv4 that is 20 bytes of nothing and the IP header).

class Datagram : public ShadowTest {
  protected:
    static constexpr std::size_t GRH = sizeof(ibv_grh);
    static constexpr std::size_t MOST = 4096; ///< of data; the MTU

    void SetUp() override {
        for (Endpoint* endpoint : {&gpu, &peer}) {
            endpoint->qp = Qp(endpoint->context, endpoint->pd, endpoint->cq,
                              {.type = IBV_QPT_UD, .inline_bytes = 128});
            endpoint->qp.activate();
        }
        to_gpu.emplace(peer.pd, peer.qp.path_to(gpu.qp.address()));
        to_peer.emplace(gpu.pd, gpu.qp.path_to(peer.qp.address()));
    }

    void send_to_gpu(const ibv_sge& data, std::uint32_t qkey = Qp::QKEY) {
        peer.qp.post_datagram(1, data, *to_gpu, gpu.qp.get()->qp_num, qkey);
        succeed(peer);
    }

    /// The 40 bytes at @p offset say that a datagram went from the peer to the gpu.
    [[nodiscard]] testing::AssertionResult is_grh(std::size_t offset) const {
        const auto header = device.bytes().subspan(offset, GRH);
        const auto equal = [&](std::size_t at, const ibv_gid& gid) {
            return std::ranges::equal(header.subspan(at, 4),
                                      std::as_bytes(std::span(gid.raw).subspan(12)));
        };
        if (header[20] != std::byte{0x45})
            return testing::AssertionFailure() << "no IPv4 header";
        if (!equal(32, peer.qp.address().gid) || !equal(36, gpu.qp.address().gid))
            return testing::AssertionFailure() << "other addresses than the sender's and mine";
        return testing::AssertionSuccess();
    }

    /// Whatever the header at @p offset contains is what is expected.
    void expect_grh(std::size_t offset) {
        EXPECT_TRUE(is_grh(offset));
        const auto header = device.bytes().subspan(offset, GRH);
        std::ranges::copy(header, device_shadow.begin() + static_cast<std::ptrdiff_t>(offset));
    }

    std::optional<Ah> to_gpu;
    std::optional<Ah> to_peer;
};

INSTANTIATE_TEST_SUITE_P(Buffers, Datagram, testing::ValuesIn(BUFFER_CASES), case_name);
INSTANTIATE_TEST_SUITE_P(Foreign, Datagram, testing::ValuesIn(FOREIGN_CASES), case_name);

TEST_P(Datagram, ArrivesWithItsHeaderInDevice) {
    // The header within a page, and across pages.
    for (const std::size_t offset :
         {std::size_t{0}, std::size_t{4096 - 7}, std::size_t{8192 - GRH}}) {
        for (const std::size_t length : {std::size_t{1}, std::size_t{100}, MOST}) {
            gpu.qp.post_recv(2, device.sge(offset, GRH + MOST));
            send_to_gpu(host.sge(5, length));
            const ibv_wc wc = succeed(gpu);
            EXPECT_EQ(GRH + length, wc.byte_len);
            EXPECT_TRUE(wc.wc_flags & IBV_WC_GRH);
            EXPECT_EQ(peer.qp.get()->qp_num, wc.src_qp);
            expect_grh(offset);
            expect_host_to_device(5, offset + GRH, length);
            ASSERT_TRUE(as_expected()) << length << " bytes at " << offset;
        }
    }
}

TEST_P(Datagram, HeaderAndDataInDifferentPieces) {
    const HostMemory ordinary(gpu.pd, 4096);
    gpu.qp.post_recv(2, {device.sge(4096, GRH), ordinary.sge(0, 10), device.sge(100, 90)});
    send_to_gpu(host.sge(5, 100));
    succeed(gpu);
    expect_grh(4096);
    EXPECT_TRUE(has_pattern(ordinary.bytes().first(10), 2, 5));
    expect_host_to_device(15, 100, 90);
    EXPECT_TRUE(as_expected());
}

TEST_P(Datagram, LeavesFromDevice) {
    const HostMemory received(peer.pd, GRH + MOST);
    for (const std::size_t length : {std::size_t{1}, std::size_t{100}, MOST}) {
        peer.qp.post_recv(1, received.sge(0, GRH + MOST));
        gpu.qp.post_datagram(2, device.sge(4090, length), *to_peer, peer.qp.get()->qp_num);
        succeed(gpu);
        EXPECT_EQ(GRH + length, succeed(peer).byte_len);
        EXPECT_TRUE(has_pattern(received.bytes().subspan(GRH, length), 1, 4090));
    }
}

TEST_P(Datagram, CanBeAnsweredByItsHeaderInDevice) {
    gpu.qp.post_recv(2, device.sge(64, GRH + 8));
    send_to_gpu(host.sge(0, 8));
    ibv_wc wc = succeed(gpu);
    // libibverbs reads the header where it is: in device memory.
    ibv_ah_attr back{};
    ASSERT_EQ(0, ibv_init_ah_from_wc(gpu.context.get(), 1, &wc,
                                     reinterpret_cast<ibv_grh*>(device.bytes().subspan(64).data()),
                                     &back));
    const Ah answer(gpu.pd, back);
    const HostMemory received(peer.pd, GRH + 8);
    peer.qp.post_recv(3, received.sge(0, GRH + 8));
    gpu.qp.post_datagram(4, device.sge(64 + GRH, 8), answer, wc.src_qp);
    succeed(gpu);
    succeed(peer);
    EXPECT_TRUE(has_pattern(received.bytes().subspan(GRH, 8), 2));
}

TEST_P(Datagram, SurvivesAMove) {
    SKIP_IF_FOREIGN();
    gpu.qp.post_recv(2, device.sge(4000, GRH + 200));
    vram.move(device.buffer.fd(), PFN_VRAM_PLACEMENT_SYSTEM);
    send_to_gpu(host.sge(5, 200));
    succeed(gpu);
    expect_grh(4000);
    expect_host_to_device(5, 4000 + GRH, 200);
    EXPECT_TRUE(as_expected());
}

TEST_P(Datagram, ThatDoesNotFitIsDropped) {
    // Without room for the header not even a byte of data fits.
    gpu.qp.post_recv(2, device.sge(4096, GRH));
    send_to_gpu(host.sge(5, 1));
    // One without data fits, into the receive that is still there.
    send_to_gpu({});
    const ibv_wc wc = succeed(gpu);
    EXPECT_EQ(GRH, wc.byte_len);
    expect_grh(4096);
    EXPECT_TRUE(as_expected());
}

TEST_P(Datagram, WithAnotherKeyIsDropped) {
    gpu.qp.post_recv(2, device.sge(4096, GRH + 8));
    send_to_gpu(host.sge(5, 8), Qp::QKEY + 1);
    send_to_gpu(host.sge(5, 3));
    EXPECT_EQ(GRH + 3, succeed(gpu).byte_len);
    expect_grh(4096);
    expect_host_to_device(5, 4096 + GRH, 3);
    EXPECT_TRUE(as_expected());
}

TEST_P(Datagram, BadReceiveIsAnErrorThereOnly) {
    SKIP_IF_FOREIGN();
    const DeviceMemory revoked(vram, gpu.pd, spec());
    gpu.qp.post_recv(2, revoked.sge(0, GRH + 8));
    vram.revoke(revoked.buffer.fd());
    send_to_gpu(host.sge(0, 8));
    EXPECT_EQ(IBV_WC_LOC_PROT_ERR, complete(gpu));
}

TEST_P(Datagram, BadSourceIsAnErrorHere) {
    SKIP_IF_FOREIGN();
    vram.revoke(device.buffer.fd());
    gpu.qp.post_datagram(2, device.sge(0, 8), *to_peer, peer.qp.get()->qp_num);
    EXPECT_EQ(IBV_WC_LOC_PROT_ERR, complete(gpu));
}

} // namespace
} // namespace pfn
