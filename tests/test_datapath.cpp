// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
//
// Every operation of a reliable connection on device memory, on either side,
// compared byte for byte with what it must do. Each test keeps a shadow of both
// memories and compares all of them, so bytes next to the target count too.
#include "support/rdma_test.hpp"

#include <algorithm>
#include <cstring>

namespace pfn {
namespace {

constexpr std::uint64_t SIZE = 64 * KIB;

// Around words, pages and packets (both 4096 bytes), and several of them.
constexpr std::size_t LENGTHS[] = {1,    2,    7,    8,     9,     63,    4095, 4096,
                                   4097, 8191, 8192, 12289, 20480, 40000, 57344};
constexpr std::size_t OFFSETS[] = {0, 1, 5, 8, 2049, 4088, 4095, 4096, 8190};

class DataPath : public RdmaTest, public testing::WithParamInterface<BufferCase> {
  protected:
    static BufferSpec spec(std::uint64_t size = SIZE) {
        return {.size = size,
                .chunk = GetParam().fragmented ? page_chunk() : 0,
                .placement = GetParam().placement};
    }

    DataPath() {
        fill_pattern(device.bytes(), 1);
        fill_pattern(host.bytes(), 2);
        device_shadow.assign(device.bytes().begin(), device.bytes().end());
        host_shadow.assign(host.bytes().begin(), host.bytes().end());
    }

    /// Both memories are what their shadows say.
    testing::AssertionResult as_expected() const {
        const auto check = [](const char* what, std::span<const std::byte> memory,
                              const std::vector<std::byte>& shadow) {
            const auto bad = std::ranges::mismatch(shadow, memory);
            if (bad.in1 == shadow.end())
                return testing::AssertionSuccess();
            return testing::AssertionFailure()
                   << what << " differs first at byte " << (bad.in1 - shadow.begin());
        };
        if (auto result = check("device memory", device.bytes(), device_shadow); !result)
            return result;
        return check("host memory", host.bytes(), host_shadow);
    }

    /// Data nobody has seen before in the host memory, and its shadow.
    void renew_host() {
        fill_pattern(host.bytes(), ++seed);
        host_shadow.assign(host.bytes().begin(), host.bytes().end());
    }
    void renew_device() {
        fill_pattern(device.bytes(), ++seed);
        device_shadow.assign(device.bytes().begin(), device.bytes().end());
    }

    void expect_host_to_device(std::size_t from, std::size_t to, std::size_t length) {
        std::copy_n(host_shadow.begin() + from, length, device_shadow.begin() + to);
    }
    void expect_device_to_host(std::size_t from, std::size_t to, std::size_t length) {
        std::copy_n(device_shadow.begin() + from, length, host_shadow.begin() + to);
    }

    /// Call op(offset in device memory, offset in host memory, length) for all
    /// sizes at all offsets, and compare everything after each.
    template<typename Op>
    void sweep(Op&& op) {
        for (const std::size_t offset : OFFSETS) {
            for (const std::size_t length : LENGTHS) {
                if (offset + length > SIZE)
                    continue;
                // Another alignment on the host's side.
                const std::size_t host_offset = (offset * 3 + 1) % (SIZE - length + 1);
                op(offset, host_offset, length);
                ASSERT_TRUE(as_expected())
                    << length << " bytes, device " << offset << ", host " << host_offset;
            }
        }
    }

    DeviceMemory device{vram, gpu.pd, spec()};
    HostMemory host{peer.pd, SIZE};
    std::vector<std::byte> device_shadow;
    std::vector<std::byte> host_shadow;
    std::uint64_t seed = 10;
};

INSTANTIATE_TEST_SUITE_P(Buffers, DataPath, testing::ValuesIn(BUFFER_CASES), case_name);

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
    const DeviceMemory other(vram, peer.pd, spec());
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

TEST_P(DataPath, GatherFromDevice) {
    std::array<ibv_sge, 3> list{device.sge(4090, 13), device.sge(0, 5000), device.sge(8192, 1)};
    ibv_send_wr wr{};
    wr.opcode = IBV_WR_RDMA_WRITE;
    wr.sg_list = list.data();
    wr.num_sge = list.size();
    wr.wr.rdma.remote_addr = host.remote(100).address;
    wr.wr.rdma.rkey = host.mr.rkey();
    gpu.qp.post(wr);
    ASSERT_EQ(IBV_WC_SUCCESS, complete(gpu));
    expect_device_to_host(4090, 100, 13);
    expect_device_to_host(0, 113, 5000);
    expect_device_to_host(8192, 5113, 1);
    EXPECT_TRUE(as_expected());
}

TEST_P(DataPath, ScatterIntoDevice) {
    std::array<ibv_sge, 3> list{device.sge(4090, 13), device.sge(20000, 9000), device.sge(1, 1)};
    ibv_recv_wr wr{};
    wr.sg_list = list.data();
    wr.num_sge = list.size();
    ibv_recv_wr* bad = nullptr;
    ASSERT_EQ(0, ibv_post_recv(gpu.qp.get(), &wr, &bad));
    peer.qp.post_send(1, host.sge(50, 9014));
    ASSERT_EQ(IBV_WC_SUCCESS, complete(peer));
    ASSERT_EQ(IBV_WC_SUCCESS, complete(gpu));
    expect_host_to_device(50, 4090, 13);
    expect_host_to_device(63, 20000, 9000);
    expect_host_to_device(9063, 1, 1);
    EXPECT_TRUE(as_expected());
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
    expect_host_to_device((Qp::DEPTH - 1) * 64, 4000, 6000);
    EXPECT_TRUE(as_expected());
}

TEST_P(DataPath, MegabyteThereAndBack) {
    const DeviceMemory big(vram, gpu.pd, spec(MIB));
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

class Atomics : public DataPath {
  protected:
    std::uint64_t device_word(std::size_t offset) const {
        std::uint64_t value = 0;
        std::memcpy(&value, device.bytes().subspan(offset).data(), sizeof(value));
        return value;
    }
    void set_device_word(std::size_t offset, std::uint64_t value) {
        std::memcpy(device.bytes().subspan(offset).data(), &value, sizeof(value));
        std::memcpy(device_shadow.data() + offset, &value, sizeof(value));
    }
    void expect_device_word(std::size_t offset, std::uint64_t value) {
        std::memcpy(device_shadow.data() + offset, &value, sizeof(value));
    }
    void expect_host_word(std::size_t offset, std::uint64_t value) {
        std::memcpy(host_shadow.data() + offset, &value, sizeof(value));
    }

    static constexpr std::size_t WORDS[] = {0, 8, 4088, 4096, 8184, 8192, SIZE - 8};
};

INSTANTIATE_TEST_SUITE_P(Buffers, Atomics, testing::ValuesIn(BUFFER_CASES), case_name);

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
    const auto post = [&](auto&& operation) {
        ibv_qp_ex* qp = ibv_qp_to_qp_ex(peer.qp.get());
        ibv_wr_start(qp);
        qp->wr_id = 1;
        qp->wr_flags = IBV_SEND_SIGNALED;
        operation(qp);
        ibv_wr_set_sge(qp, host.mr.lkey(), host.memory.address() + 16, 8);
        ASSERT_EQ(0, ibv_wr_complete(qp));
    };
    post([&](ibv_qp_ex* qp) { ibv_wr_atomic_fetch_add(qp, device.mr.rkey(), 12, 1); });
    EXPECT_EQ(IBV_WC_REM_INV_REQ_ERR, complete(peer));
    EXPECT_TRUE(as_expected());
    reconnect();
    post([&](ibv_qp_ex* qp) { ibv_wr_atomic_cmp_swp(qp, device.mr.rkey(), 4092, 0, 1); });
    EXPECT_EQ(IBV_WC_REM_INV_REQ_ERR, complete(peer));
    EXPECT_TRUE(as_expected());
}

TEST_P(Atomics, WithoutTheRightAreRefused) {
    const auto mr = Mr::dmabuf(gpu.pd, device.buffer.fd(), 0, SIZE, 0,
                               FULL_ACCESS & ~static_cast<unsigned>(IBV_ACCESS_REMOTE_ATOMIC));
    peer.qp.post_fetch_add(1, host.sge(16, 8), {.address = 0, .rkey = mr.rkey()}, 1);
    EXPECT_EQ(IBV_WC_REM_ACCESS_ERR, complete(peer));
    EXPECT_TRUE(as_expected());
}

// What an MR does not allow must not happen.

class Protection : public DataPath {};

INSTANTIATE_TEST_SUITE_P(Buffers, Protection, testing::ValuesIn(BUFFER_CASES), case_name);

TEST_P(Protection, WriteBeyondTheEnd) {
    const auto part = Mr::dmabuf(gpu.pd, device.buffer.fd(), 0, 5000, 0);
    peer.qp.post_write(1, host.sge(0, 1), {.address = 5000, .rkey = part.rkey()});
    EXPECT_EQ(IBV_WC_REM_ACCESS_ERR, complete(peer));
    EXPECT_TRUE(as_expected());
    reconnect();
    peer.qp.post_write(1, host.sge(0, 8), {.address = 4996, .rkey = part.rkey()});
    EXPECT_EQ(IBV_WC_REM_ACCESS_ERR, complete(peer));
    EXPECT_TRUE(as_expected());
}

TEST_P(Protection, ReadBeforeTheStart) {
    const auto part = Mr::dmabuf(gpu.pd, device.buffer.fd(), 5000, 5000, 5000);
    peer.qp.post_read(1, host.sge(0, 8), {.address = 4999, .rkey = part.rkey()});
    EXPECT_EQ(IBV_WC_REM_ACCESS_ERR, complete(peer));
    EXPECT_TRUE(as_expected());
}

TEST_P(Protection, WriteToAReadOnlyMr) {
    const auto mr = Mr::dmabuf(gpu.pd, device.buffer.fd(), 0, SIZE, 0, IBV_ACCESS_REMOTE_READ);
    peer.qp.post_write(1, host.sge(0, 8), {.address = 0, .rkey = mr.rkey()});
    EXPECT_EQ(IBV_WC_REM_ACCESS_ERR, complete(peer));
    EXPECT_TRUE(as_expected());
}

TEST_P(Protection, ReadFromAWriteOnlyMr) {
    const auto mr = Mr::dmabuf(gpu.pd, device.buffer.fd(), 0, SIZE, 0,
                               IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_WRITE);
    peer.qp.post_read(1, host.sge(0, 8), {.address = 0, .rkey = mr.rkey()});
    EXPECT_EQ(IBV_WC_REM_ACCESS_ERR, complete(peer));
    EXPECT_TRUE(as_expected());
}

TEST_P(Protection, WrongKey) {
    peer.qp.post_write(1, host.sge(0, 8), {.address = 0, .rkey = device.mr.rkey() ^ 0x1});
    EXPECT_EQ(IBV_WC_REM_ACCESS_ERR, complete(peer));
    EXPECT_TRUE(as_expected());
}

TEST_P(Protection, KeyOfAnotherProtectionDomain) {
    const Pd other(gpu.context.get());
    const auto mr = Mr::dmabuf(other, device.buffer.fd(), 0, SIZE, 0);
    peer.qp.post_write(1, host.sge(0, 8), {.address = 0, .rkey = mr.rkey()});
    EXPECT_EQ(IBV_WC_REM_ACCESS_ERR, complete(peer));
    EXPECT_TRUE(as_expected());
}

TEST_P(Protection, KeyAfterDereg) {
    auto mr = Mr::dmabuf(gpu.pd, device.buffer.fd(), 0, SIZE, 0);
    const Remote remote{.address = 0, .rkey = mr.rkey()};
    mr.dereg();
    peer.qp.post_write(1, host.sge(0, 8), remote);
    EXPECT_EQ(IBV_WC_REM_ACCESS_ERR, complete(peer));
    EXPECT_TRUE(as_expected());
}

TEST_P(Protection, LocalAccessBeyondTheEnd) {
    // rxe has a status of its own for this, with MRs of any kind: what matters
    // is that it is the same.
    gpu.qp.post_write(1, device.sge(SIZE - 8, 16), host.remote());
    const auto status = complete(gpu);
    EXPECT_NE(IBV_WC_SUCCESS, status);
    EXPECT_TRUE(as_expected());
    reconnect();
    const HostMemory ordinary(gpu.pd, SIZE);
    gpu.qp.post_write(1, ordinary.sge(SIZE - 8, 16), host.remote());
    EXPECT_EQ(complete(gpu), status);
}

// Memory windows. REG_DMABUF_MR cannot ask for IBV_ACCESS_MW_BIND, rereg can.

class Windows : public DataPath {
  protected:
    Windows() {
        device.mr.rereg(IBV_REREG_MR_CHANGE_ACCESS, nullptr, FULL_ACCESS | IBV_ACCESS_MW_BIND);
    }
    ibv_mw_bind_info part(std::uint64_t offset, std::uint64_t length) const {
        return {.mr = device.mr.get(),
                .addr = offset,
                .length = length,
                .mw_access_flags = IBV_ACCESS_REMOTE_WRITE | IBV_ACCESS_REMOTE_READ};
    }
    void use(std::uint32_t rkey) {
        write(host.sge(5, 9000), {.address = 4000, .rkey = rkey});
        expect_host_to_device(5, 4000, 9000);
        EXPECT_TRUE(as_expected());
        read(host.sge(20000, 9000), {.address = 4000, .rkey = rkey});
        expect_device_to_host(4000, 20000, 9000);
        EXPECT_TRUE(as_expected());
        // A right that the window does not have, although the MR does. (rxe as
        // it is checks rights of windows, but bounds of the MR only.)
        peer.qp.post_fetch_add(1, host.sge(0, 8), {.address = 4000, .rkey = rkey}, 1);
        EXPECT_EQ(IBV_WC_REM_ACCESS_ERR, complete(peer));
        EXPECT_TRUE(as_expected());
    }
};

INSTANTIATE_TEST_SUITE_P(Buffers, Windows, testing::ValuesIn(BUFFER_CASES), case_name);

TEST_P(Windows, Type1) {
    const Mw mw(gpu.pd, IBV_MW_TYPE_1);
    ibv_mw_bind bind{.wr_id = 1, .send_flags = IBV_SEND_SIGNALED, .bind_info = part(4000, 9000)};
    ASSERT_EQ(0, ibv_bind_mw(gpu.qp.get(), mw.get(), &bind));
    ASSERT_EQ(IBV_WC_SUCCESS, complete(gpu));
    use(mw.get()->rkey);
}

TEST_P(Windows, Type2) {
    const Mw mw(gpu.pd, IBV_MW_TYPE_2);
    const std::uint32_t rkey = ibv_inc_rkey(mw.get()->rkey);
    gpu.qp.post_bind_mw(1, mw.get(), rkey, part(4000, 9000));
    ASSERT_EQ(IBV_WC_SUCCESS, complete(gpu));
    use(rkey);
}

// Counters.

TEST_P(DataPath, BytesAreCounted) {
    write(host.sge(0, 10001), device.remote(3));
    read(host.sge(0, 20002), device.remote(3));
    const auto info = query_mr(device.mr);
    EXPECT_EQ(10001U, info.bytes_written);
    EXPECT_EQ(20002U, info.bytes_read);
    EXPECT_EQ(0U, info.faults);
}

} // namespace
} // namespace pfn
