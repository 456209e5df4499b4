// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
//
// Every operation of a reliable connection on device memory, on either side,
// compared byte for byte with what it must do. What goes with each of them, and
// other transports, is the subject of test_verbs_*.cpp.
#include "support/long_run.hpp"
#include "support/shadow_test.hpp"

namespace pfn {
namespace {

// Around words, pages and packets (both 4096 bytes), and several of them.
constexpr std::size_t LENGTHS[] = {1,    2,    7,    8,     9,     63,    4095, 4096,
                                   4097, 8191, 8192, 12289, 20480, 40000, 57344};
constexpr std::size_t OFFSETS[] = {0, 1, 5, 8, 2049, 4088, 4095, 4096, 8190};

class DataPath : public ShadowTest {
  protected:
    /// Call op(offset in device memory, offset in host memory, length) and compare
    /// everything after each: all lengths and all offsets, but only the long run
    /// has all pairs of them.
    template<typename Op>
    void sweep(const Op& op) {
        unsigned pair = 0;
        for (const std::size_t offset : OFFSETS) {
            for (const std::size_t length : LENGTHS) {
                // 4 and the number of lengths have no common divisor.
                const bool skip = pair++ % 4 != 0 && !long_run();
                if (skip || offset + length > SIZE)
                    continue;
                // Another alignment on the host's side.
                const std::size_t host_offset = (offset * 3 + 1) % (SIZE - length + 1);
                op(offset, host_offset, length);
                ASSERT_TRUE(as_expected())
                    << length << " bytes, device " << offset << ", host " << host_offset;
            }
        }
    }
};

INSTANTIATE_TEST_SUITE_P(Buffers, DataPath, testing::ValuesIn(BUFFER_CASES), case_name);
INSTANTIATE_TEST_SUITE_P(Foreign, DataPath, testing::ValuesIn(FOREIGN_CASES), case_name);

// The peer asks, device memory is the target.

TEST_P(DataPath, WriteToDevice) {
    renew_host();
    sweep([&](std::size_t offset, std::size_t host_offset, std::size_t length) {
        write(host.sge(host_offset, length), device.remote(offset));
        expect_host_to_device(host_offset, offset, length);
    });
}

TEST_P(DataPath, ReadFromDevice) {
    sweep([&](std::size_t offset, std::size_t host_offset, std::size_t length) {
        read(host.sge(host_offset, length), device.remote(offset));
        expect_device_to_host(offset, host_offset, length);
    });
}

TEST_P(DataPath, WriteWithImmediateToDevice) {
    renew_host();
    std::uint32_t imm = 0x1000;
    sweep([&](std::size_t offset, std::size_t host_offset, std::size_t length) {
        gpu.qp.post_recv(7, {});
        peer.qp.post_write_imm(8, host.sge(host_offset, length), device.remote(offset), ++imm);
        ASSERT_EQ(IBV_WC_SUCCESS, complete(peer));
        const ibv_wc wc = gpu.cq.wait();
        ASSERT_EQ(IBV_WC_SUCCESS, wc.status);
        EXPECT_EQ(IBV_WC_RECV_RDMA_WITH_IMM, wc.opcode);
        EXPECT_EQ(imm, wc.imm_data);
        EXPECT_EQ(length, wc.byte_len);
        expect_host_to_device(host_offset, offset, length);
    });
}

TEST_P(DataPath, SendIntoDevice) {
    renew_host();
    sweep([&](std::size_t offset, std::size_t host_offset, std::size_t length) {
        gpu.qp.post_recv(7, device.sge(offset, length));
        peer.qp.post_send(8, host.sge(host_offset, length));
        ASSERT_EQ(IBV_WC_SUCCESS, complete(peer));
        const ibv_wc wc = gpu.cq.wait();
        ASSERT_EQ(IBV_WC_SUCCESS, wc.status);
        EXPECT_EQ(length, wc.byte_len);
        expect_host_to_device(host_offset, offset, length);
    });
}

TEST_P(DataPath, SendWithImmediateIntoDevice) {
    gpu.qp.post_recv(7, device.sge(4090, 20000));
    peer.qp.post_send_imm(8, host.sge(1, 15000), 0x1234);
    ASSERT_EQ(IBV_WC_SUCCESS, complete(peer));
    const ibv_wc wc = succeed(gpu);
    EXPECT_EQ(IBV_WC_RECV, wc.opcode);
    EXPECT_TRUE(wc.wc_flags & IBV_WC_WITH_IMM);
    EXPECT_EQ(0x1234U, wc.imm_data);
    EXPECT_EQ(15000U, wc.byte_len);
    expect_host_to_device(1, 4090, 15000);
    EXPECT_TRUE(as_expected());
}

// The gpu asks, device memory is its local side.

TEST_P(DataPath, SendFromDevice) {
    sweep([&](std::size_t offset, std::size_t host_offset, std::size_t length) {
        peer.qp.post_recv(7, host.sge(host_offset, length));
        gpu.qp.post_send(8, device.sge(offset, length));
        ASSERT_EQ(IBV_WC_SUCCESS, complete(gpu));
        ASSERT_EQ(IBV_WC_SUCCESS, complete(peer));
        expect_device_to_host(offset, host_offset, length);
    });
}

TEST_P(DataPath, WriteFromDevice) {
    sweep([&](std::size_t offset, std::size_t host_offset, std::size_t length) {
        gpu.qp.post_write(8, device.sge(offset, length), host.remote(host_offset));
        ASSERT_EQ(IBV_WC_SUCCESS, complete(gpu));
        expect_device_to_host(offset, host_offset, length);
    });
}

TEST_P(DataPath, ReadIntoDevice) {
    renew_host();
    sweep([&](std::size_t offset, std::size_t host_offset, std::size_t length) {
        gpu.qp.post_read(8, device.sge(offset, length), host.remote(host_offset));
        ASSERT_EQ(IBV_WC_SUCCESS, complete(gpu));
        expect_host_to_device(host_offset, offset, length);
    });
}

TEST_P(DataPath, DeviceToDevice) {
    const DeviceMemory other(peer.pd, buffer());
    fill_pattern(other.bytes(), 77);
    // One way ...
    gpu.qp.post_write(1, device.sge(3, 20000), other.remote(4099));
    ASSERT_EQ(IBV_WC_SUCCESS, complete(gpu));
    EXPECT_TRUE(has_pattern(other.bytes().first(4099), 77));
    EXPECT_TRUE(has_pattern(other.bytes().subspan(4099, 20000), 1, 3));
    EXPECT_TRUE(has_pattern(other.bytes().subspan(24099), 77, 24099));
    // ... and the other.
    fill_pattern(other.bytes(), 78);
    gpu.qp.post_read(2, device.sge(8191, 30001), other.remote(1));
    ASSERT_EQ(IBV_WC_SUCCESS, complete(gpu));
    EXPECT_TRUE(has_pattern(device.bytes().first(8191), 1));
    EXPECT_TRUE(has_pattern(device.bytes().subspan(8191, 30001), 78, 1));
    EXPECT_TRUE(has_pattern(device.bytes().subspan(38192), 1, 38192));
}

TEST_P(DataPath, ZeroLengthTouchesNothing) {
    peer.qp.post_write(1, {}, device.remote(10));
    EXPECT_EQ(IBV_WC_SUCCESS, complete(peer));
    peer.qp.post_read(2, {}, device.remote(10));
    EXPECT_EQ(IBV_WC_SUCCESS, complete(peer));
    EXPECT_TRUE(as_expected());
}

TEST_P(DataPath, ManyAtOnceArriveInOrder) {
    // All to one place: the last one posted must be what stays.
    for (std::size_t i = 0; i < Qp::DEPTH; ++i)
        peer.qp.post_write(i, host.sge(i * 64, 6000), device.remote(4000));
    for (std::size_t i = 0; i < Qp::DEPTH; ++i) {
        const ibv_wc wc = peer.cq.wait();
        ASSERT_EQ(IBV_WC_SUCCESS, wc.status);
        ASSERT_EQ(i, wc.wr_id);
    }
    expect_host_to_device((std::size_t{Qp::DEPTH} - 1) * 64, 4000, 6000);
    EXPECT_TRUE(as_expected());
}

TEST_P(DataPath, MegabyteThereAndBack) {
    const DeviceMemory big(gpu.pd, buffer(MIB));
    const HostMemory there(peer.pd, MIB);
    const HostMemory back(peer.pd, MIB);
    fill_pattern(there.bytes(), 5);
    write(there.sge(0, MIB), big.remote());
    EXPECT_TRUE(has_pattern(big.bytes(), 5));
    read(back.sge(0, MIB), big.remote());
    EXPECT_TRUE(has_pattern(back.bytes(), 5));
}

TEST_P(DataPath, PartOfABufferAtAnotherAddress) {
    constexpr std::uint64_t IOVA = 0x700000000000 + 123;
    constexpr std::uint64_t OFFSET = 3 * 4096 + 123;
    const auto part = Mr::dmabuf(gpu.pd, device.buffer.fd(), OFFSET, 10000, IOVA);
    write(host.sge(1, 10000), {.address = IOVA, .rkey = part.rkey()});
    expect_host_to_device(1, OFFSET, 10000);
    EXPECT_TRUE(as_expected());
    read(host.sge(30000, 500), {.address = IOVA + 9500, .rkey = part.rkey()});
    expect_device_to_host(OFFSET + 9500, 30000, 500);
    EXPECT_TRUE(as_expected());
}

// Atomics.

class Atomics : public ShadowTest {
  protected:
    static constexpr std::size_t WORDS[] = {0, 8, 4088, 4096, 8184, 8192, SIZE - 8};
};

INSTANTIATE_TEST_SUITE_P(Buffers, Atomics, testing::ValuesIn(BUFFER_CASES), case_name);
INSTANTIATE_TEST_SUITE_P(Foreign, Atomics, testing::ValuesIn(FOREIGN_CASES), case_name);

TEST_P(Atomics, FetchAndAdd) {
    for (const std::size_t offset : WORDS) {
        const auto before = device_word(offset);
        peer.qp.post_fetch_add(1, host.sge(16, 8), device.remote(offset), 0x100000001);
        ASSERT_EQ(IBV_WC_SUCCESS, complete(peer));
        expect_host_word(16, before);
        expect_device_word(offset, before + 0x100000001);
        ASSERT_TRUE(as_expected()) << offset;
    }
}

TEST_P(Atomics, FetchAndAddWrapsAround) {
    set_device_word(8, ~std::uint64_t{0});
    peer.qp.post_fetch_add(1, host.sge(0, 8), device.remote(8), 1);
    ASSERT_EQ(IBV_WC_SUCCESS, complete(peer));
    expect_host_word(0, ~std::uint64_t{0});
    expect_device_word(8, 0);
    EXPECT_TRUE(as_expected());
}

TEST_P(Atomics, CompareAndSwapThatMatches) {
    for (const std::size_t offset : WORDS) {
        const auto before = device_word(offset);
        peer.qp.post_cmp_swap(1, host.sge(24, 8), device.remote(offset), before, offset + 99);
        ASSERT_EQ(IBV_WC_SUCCESS, complete(peer));
        expect_host_word(24, before);
        expect_device_word(offset, offset + 99);
        ASSERT_TRUE(as_expected()) << offset;
    }
}

TEST_P(Atomics, CompareAndSwapThatDoesNot) {
    const auto before = device_word(4088);
    peer.qp.post_cmp_swap(1, host.sge(24, 8), device.remote(4088), before + 1, 99);
    ASSERT_EQ(IBV_WC_SUCCESS, complete(peer));
    expect_host_word(24, before);
    EXPECT_TRUE(as_expected());
}

TEST_P(Atomics, AtomicWrite) {
    for (const std::size_t offset : WORDS) {
        const std::uint64_t value = 0x1122334455667788 + offset;
        peer.qp.post_atomic_write(1, device.remote(offset), value);
        ASSERT_EQ(IBV_WC_SUCCESS, complete(peer));
        expect_device_word(offset, value);
        ASSERT_TRUE(as_expected()) << offset;
    }
}

TEST_P(Atomics, ResultIntoDevice) {
    set_device_word(4096, 0);
    std::uint64_t before = 0;
    std::memcpy(&before, host_shadow.data() + 8, sizeof(before));
    gpu.qp.post_fetch_add(1, device.sge(4096, 8), host.remote(8), 5);
    // the host's word must be aligned; its page is
    ASSERT_EQ(IBV_WC_SUCCESS, complete(gpu));
    expect_device_word(4096, before);
    expect_host_word(8, before + 5);
    EXPECT_TRUE(as_expected());
}

TEST_P(Atomics, ManyAddsAddUp) {
    set_device_word(8192, 0);
    constexpr std::uint64_t ROUNDS = 10;
    for (std::uint64_t round = 0; round < ROUNDS; ++round) {
        for (unsigned i = 0; i < Qp::DEPTH / 2; ++i)
            peer.qp.post_fetch_add(i, host.sge(0, 8), device.remote(8192), 1);
        for (unsigned i = 0; i < Qp::DEPTH / 2; ++i)
            ASSERT_EQ(IBV_WC_SUCCESS, complete(peer));
    }
    EXPECT_EQ(ROUNDS * Qp::DEPTH / 2, device_word(8192));
}

TEST_P(Atomics, UnalignedIsRefusedAndTouchesNothing) {
    // ibv_post_send() of librxe refuses these by itself; the newer interface
    // does not look, so the other side must.
    const auto into_host = [&](ibv_qp_ex* qp) {
        ibv_wr_set_sge(qp, host.mr.lkey(), host.memory.address() + 16, 8);
    };
    peer.qp.post_wr(1, [&](ibv_qp_ex* qp) {
        ibv_wr_atomic_fetch_add(qp, device.mr.rkey(), 12, 1);
        into_host(qp);
    });
    EXPECT_EQ(IBV_WC_REM_INV_REQ_ERR, complete(peer));
    EXPECT_TRUE(as_expected());
    reconnect();
    peer.qp.post_wr(1, [&](ibv_qp_ex* qp) {
        ibv_wr_atomic_cmp_swp(qp, device.mr.rkey(), 4092, 0, 1);
        into_host(qp);
    });
    EXPECT_EQ(IBV_WC_REM_INV_REQ_ERR, complete(peer));
    EXPECT_TRUE(as_expected());
    reconnect();
    peer.qp.post_atomic_write(1, device.remote(12), 1);
    EXPECT_EQ(IBV_WC_REM_INV_REQ_ERR, complete(peer));
    EXPECT_TRUE(as_expected());
}

// Counters.

TEST_P(DataPath, BytesAreCounted) {
    reconnect({.ack_timeout = 20}); // a READ that is sent again counts again
    write(host.sge(0, 10001), device.remote(3));
    read(host.sge(0, 20002), device.remote(3));
    const auto info = query_mr(device.mr);
    EXPECT_EQ(10001U, info.bytes_written);
    EXPECT_EQ(20002U, info.bytes_read);
    EXPECT_EQ(0U, info.faults);
}

} // namespace
} // namespace pfn
