// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
//
// Transparent registration: ibv_reg_mr() on an address where a dma-buf is mapped
// registers the dma-buf. What the MR is then, and what it can do; test_transparent_vma
// is about which mappings count.
#include "common/process.hpp"
#include "support/mover.hpp"
#include "support/rdma_test.hpp"

#include <sys/mman.h>
#include <sys/stat.h>

#include <algorithm>

namespace pfn {
namespace {

constexpr std::uint64_t SIZE = 64 * KIB;

std::uint64_t inode(const DmaBuf& buffer) {
    struct stat st{};
    if (::fstat(buffer.fd(), &st) < 0)
        throw_errno("fstat");
    return st.st_ino;
}

/// A buffer of any exporter, and a mapping of all of it.
class Transparent : public RdmaTest, public testing::WithParamInterface<BufferCase> {
  protected:
    [[nodiscard]] DmaBuf alloc() const {
        if (GetParam().foreign())
            return foreign_buffer(GetParam().exporter, SIZE);
        return vram.alloc({.size = SIZE,
                           .chunk = GetParam().fragmented ? page_chunk() : 0,
                           .placement = GetParam().placement});
    }
    [[nodiscard]] std::uint32_t backend() const {
        return GetParam().foreign() ? PFN_MR_BACKEND_VMAP : PFN_MR_BACKEND_PFN;
    }
    /// What a peer says to reach the byte at @p offset of the mapping.
    [[nodiscard]] Remote remote(const Mr& mr, std::uint64_t offset = 0) const {
        return {.address = cpu.address() + offset, .rkey = mr.rkey()};
    }
    [[nodiscard]] Mr reg(std::uint64_t offset = 0, std::uint64_t length = SIZE,
                         unsigned access = FULL_ACCESS) const {
        return Mr::host(gpu.pd, cpu.bytes().subspan(offset, length), access);
    }

    /// The peer fills all of the MR with a pattern and reads it back.
    void write_and_read(Remote where, std::uint64_t seed) {
        fill_pattern(host.bytes(), seed);
        write(host.sge(0, SIZE), where);
        std::ranges::fill(host.bytes(), std::byte{0});
        read(host.sge(0, SIZE), where);
        EXPECT_TRUE(has_pattern(host.bytes(), seed));
    }
    void expect_refused(Remote where) {
        peer.qp.post_write(1, host.sge(0, 8), where);
        const auto status = complete(peer);
        EXPECT_EQ(IBV_WC_REM_ACCESS_ERR, status) << ibv_wc_status_str(status);
        reconnect();
    }

    DmaBuf buffer = alloc();
    Mapping cpu = buffer.map();
    HostMemory host{peer.pd, SIZE};
};

INSTANTIATE_TEST_SUITE_P(Buffers, Transparent, testing::ValuesIn(BUFFER_CASES), case_name);
INSTANTIATE_TEST_SUITE_P(Foreign, Transparent, testing::ValuesIn(FOREIGN_CASES), case_name);

// Rule: V1
TEST_P(Transparent, TheMrIsOneOfTheDmaBuf) {
    const Mr mr = reg();
    const auto info = query_mr(mr);
    EXPECT_EQ(backend(), info.backend);
    EXPECT_EQ(inode(buffer), info.dmabuf_ino);
    EXPECT_EQ(0U, info.offset);
    EXPECT_EQ(PFN_MR_STATE_PRESENT, info.state);
    // As ibv_reg_dmabuf_mr() has it.
    EXPECT_EQ(query_mr(Mr::dmabuf(gpu.pd, buffer.fd(), 0, SIZE, 0)).mode, info.mode);
}

// Rule: V1
TEST_P(Transparent, PeerAndCpuSeeTheSame) {
    reconnect({.ack_timeout = 20}); // a READ that is sent again counts again
    const Mr mr = reg();
    write_and_read(remote(mr), 1);
    EXPECT_TRUE(has_pattern(cpu.bytes(), 1));
    fill_pattern(cpu.bytes(), 2);
    read(host.sge(0, SIZE), remote(mr));
    EXPECT_TRUE(has_pattern(host.bytes(), 2));
    EXPECT_EQ(2 * SIZE, query_mr(mr).bytes_read);
}

TEST_P(Transparent, AtomicsWork) {
    const Mr mr = reg();
    std::ranges::fill(cpu.bytes(), std::byte{0});
    for (int i = 0; i < 3; ++i) {
        peer.qp.post_fetch_add(1, host.sge(0, 8), remote(mr, page_size() + 8), 5);
        ASSERT_EQ(IBV_WC_SUCCESS, complete(peer));
    }
    EXPECT_EQ(10U, host.word());
    std::uint64_t sum = 0;
    std::memcpy(&sum, cpu.bytes().subspan(page_size() + 8).data(), sizeof(sum));
    EXPECT_EQ(15U, sum);
}

TEST_P(Transparent, WorksAsLocalMemory) {
    const Mr mr = reg();
    fill_pattern(cpu.bytes(), 3);
    const ibv_sge all{.addr = cpu.address(), .length = SIZE, .lkey = mr.lkey()};
    gpu.qp.post_write(1, all, host.remote());
    ASSERT_EQ(IBV_WC_SUCCESS, complete(gpu));
    EXPECT_TRUE(has_pattern(host.bytes(), 3));
    fill_pattern(host.bytes(), 4);
    gpu.qp.post_read(2, all, host.remote());
    ASSERT_EQ(IBV_WC_SUCCESS, complete(gpu));
    EXPECT_TRUE(has_pattern(cpu.bytes(), 4));
}

// Rule: V1
TEST_P(Transparent, PartsAtAnyOffsetAndLength) {
    const std::uint64_t page = page_size();
    for (const std::uint64_t offset :
         {std::uint64_t{0}, std::uint64_t{1}, page - 1, page, page + 17, SIZE - 8, SIZE - 1}) {
        for (const std::uint64_t length :
             {std::uint64_t{1}, std::uint64_t{8}, page + 1, SIZE - offset}) {
            if (length > SIZE - offset)
                continue;
            SCOPED_TRACE(std::to_string(length) + " bytes at " + std::to_string(offset));
            const Mr mr = reg(offset, length);
            EXPECT_EQ(offset, query_mr(mr).offset);
            fill_pattern(cpu.bytes(), 5);
            fill_pattern(host.bytes(), 6, offset);
            write(host.sge(0, length), remote(mr, offset));
            EXPECT_TRUE(has_pattern(cpu.bytes().first(offset), 5));
            EXPECT_TRUE(has_pattern(cpu.bytes().subspan(offset, length), 6, offset));
            EXPECT_TRUE(has_pattern(cpu.bytes().subspan(offset + length), 5, offset + length));
        }
    }
}

TEST_P(Transparent, BeyondTheMrIsRefused) {
    const Mr mr = reg(page_size(), page_size());
    expect_refused(remote(mr, page_size() - 8));
    expect_refused(remote(mr, 2 * page_size() - 4));
    expect_refused(remote(mr, 0));
}

TEST_P(Transparent, PeersMayUseAnotherAddress) {
    const std::uint64_t iova = 0x123450000000 + 100;
    auto* const raw =
        ibv_reg_mr_iova(gpu.pd.get(), cpu.bytes().data() + 100, SIZE - 100, iova, FULL_ACCESS);
    ASSERT_NE(nullptr, raw) << strerrorname_np(errno);
    fill_pattern(host.bytes(), 7, 100);
    write(host.sge(0, SIZE - 100), {.address = iova, .rkey = raw->rkey});
    EXPECT_TRUE(has_pattern(cpu.bytes().subspan(100), 7, 100));
    EXPECT_EQ(0, ibv_dereg_mr(raw));
}

// uverbs does not let a dma-buf's fd be registered with these.
TEST_P(Transparent, AllAccessFlagsOfOrdinaryMemoryThatADmaBufCanHave) {
    const Mr mr = reg(0, SIZE,
                      FULL_ACCESS | IBV_ACCESS_MW_BIND | IBV_ACCESS_FLUSH_GLOBAL |
                          IBV_ACCESS_RELAXED_ORDERING);
    write_and_read(remote(mr), 8);
    peer.qp.post_flush(1, remote(mr), SIZE, IBV_FLUSH_GLOBAL);
    EXPECT_EQ(IBV_WC_SUCCESS, complete(peer));
}

TEST_P(Transparent, PersistenceIsEOPNOTSUPP) {
    EXPECT_ERRNO(EOPNOTSUPP, reg(0, SIZE, FULL_ACCESS | IBV_ACCESS_FLUSH_PERSISTENT));
}

TEST_P(Transparent, LengthZeroIsEINVAL) {
    EXPECT_ERRNO(EINVAL, reg(0, 0));
}

TEST_P(Transparent, NoWrapAround) {
    const std::uint64_t top = ~std::uint64_t{0} - page_size() + 1;
    EXPECT_ERRNO(EINVAL, ModeMr::by_address(gpu.pd, 0, cpu.address(), top, cpu.address()));
    EXPECT_ERRNO(EINVAL, ModeMr::by_address(gpu.pd, 0, cpu.address(), 2 * page_size(), top));
}

// The driver's attributes, for who registers by the method that takes them.
TEST_P(Transparent, ModeMayBeChosen) {
    for (const std::uint32_t mode :
         {PFN_MR_MODE_PINNED, PFN_MR_MODE_REVOCABLE, PFN_MR_MODE_DYNAMIC}) {
        const auto mr = ModeMr::by_address(gpu.pd, mode, cpu.address() + page_size(), page_size(),
                                           cpu.address());
        EXPECT_EQ(mode, mr.query().mode);
        EXPECT_EQ(page_size(), mr.query().offset);
        write(host.sge(0, page_size()), {.address = cpu.address(), .rkey = mr.rkey()});
    }
}

TEST_P(Transparent, RightsMayChange) {
    const Mr mr = reg(0, SIZE, IBV_ACCESS_REMOTE_READ);
    expect_refused(remote(mr));
    mr.rereg(IBV_REREG_MR_CHANGE_ACCESS, nullptr, FULL_ACCESS);
    write_and_read(remote(mr), 9);
}

TEST_P(Transparent, PrefetchTakesAddressesOfTheMapping) {
    SKIP_IF_FOREIGN();
    const Mr mr = reg(page_size(), page_size());
    vram.move(buffer.fd(), PFN_VRAM_PLACEMENT_SYSTEM);
    advise(gpu.pd, IBV_ADVISE_MR_ADVICE_PREFETCH, IBV_ADVISE_MR_FLAG_FLUSH,
           ibv_sge{.addr = cpu.address() + page_size(), .length = 8, .lkey = mr.lkey()});
    EXPECT_EQ(1U, query_mr(mr).prefetches);
    EXPECT_ERRNO(EFAULT, advise(gpu.pd, IBV_ADVISE_MR_ADVICE_PREFETCH, IBV_ADVISE_MR_FLAG_FLUSH,
                                ibv_sge{.addr = cpu.address(), .length = 8, .lkey = mr.lkey()}));
}

// What becomes of the MR.

// Rule: V4
TEST_P(Transparent, FollowsTheBufferWhileItMoves) {
    SKIP_IF_FOREIGN();
    const Mr mr = reg();
    Mover mover(vram, buffer.fd());
    for (std::uint64_t seed = 100; mover.moves() < 6; ++seed)
        write_and_read(remote(mr), seed);
    mover.stop();
    // The mover may have been quicker than the first write.
    write_and_read(remote(mr), 10);
    EXPECT_TRUE(has_pattern(cpu.bytes(), 10));
    EXPECT_GT(query_mr(mr).faults, 0U);
}

// Rule: V4
TEST_P(Transparent, RevokedIsRevoked) {
    SKIP_IF_FOREIGN();
    const Mr mr = reg();
    write_and_read(remote(mr), 11);
    vram.revoke(buffer.fd());
    expect_refused(remote(mr));
    EXPECT_EQ(PFN_MR_STATE_REVOKED, query_mr(mr).state);
    EXPECT_ERRNO(ENODEV, reg());
    EXPECT_EQ(1U, vram.buf_info(buffer.fd()).attachments);
    vram.restore(buffer.fd());
    expect_refused(remote(mr));
    const Mr fresh = reg();
    write_and_read(remote(fresh), 12);
    EXPECT_TRUE(has_pattern(cpu.bytes(), 12));
}

// Rule: V4
TEST_P(Transparent, OutlivesDescriptorAndMapping) {
    const Mapping other = buffer.map();
    buffer.close();
    const Mr mr = reg();
    const Remote where = remote(mr);
    cpu = {};
    write_and_read(where, 13);
    EXPECT_TRUE(has_pattern(other.bytes(), 13));
}

// Rule: V4
TEST_P(Transparent, DoesNotSeeWhatIsMappedThereLater) {
    const Mapping other = buffer.map();
    const Mr mr = reg();
    ASSERT_EQ(cpu.bytes().data(), ::mmap(cpu.bytes().data(), SIZE, PROT_READ | PROT_WRITE,
                                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0));
    write_and_read(remote(mr), 14);
    EXPECT_TRUE(all_zero(cpu.bytes()));
    EXPECT_TRUE(has_pattern(other.bytes(), 14));
    EXPECT_ERRNO(EOPNOTSUPP, query_mr(reg())); // ordinary memory now
}

// Rule: V4
TEST_P(Transparent, MovedMappingIsFoundWhereItIs) {
    const Mr before = reg();
    const Mapping place = Mapping::anonymous(SIZE);
    ASSERT_EQ(place.bytes().data(), ::mremap(cpu.bytes().data(), SIZE, SIZE,
                                             MREMAP_MAYMOVE | MREMAP_FIXED, place.bytes().data()));
    EXPECT_ERRNO(EFAULT, reg()); // nothing is mapped there any more
    const auto part = place.bytes().subspan(page_size(), page_size());
    const Mr mr = Mr::host(gpu.pd, part);
    EXPECT_EQ(page_size(), query_mr(mr).offset);
    write_and_read(remote(before), 15); // its address is only a number to peers
    EXPECT_TRUE(has_pattern(place.bytes(), 15));
}

TEST_P(Transparent, NothingIsLeftBehind) {
    SKIP_IF_FOREIGN();
    for (int i = 0; i < 10; ++i) {
        const Mr mr = reg();
        EXPECT_ERRNO(EINVAL, reg(0, 0));
        EXPECT_ERRNO(EOPNOTSUPP, reg(0, SIZE, FULL_ACCESS | IBV_ACCESS_FLUSH_PERSISTENT));
    }
    EXPECT_EQ(0U, vram.buf_info(buffer.fd()).attachments);
    const auto buffers = vram.info().buffers;
    {
        const Mr mr = reg();
    }
    cpu = {};
    buffer.close();
    EXPECT_EQ(buffers - 1, vram.info().buffers);
}

// Rule: V1
TEST_P(Transparent, ForkedProcessRegistersWhatItInherits) {
    const Mr mine = reg();
    Child child = Child::fork([&](Channel&) {
        const Endpoint other(GPU_DEVICE);
        const Mr mr = Mr::host(other.pd, cpu.bytes());
        return query_mr(mr).dmabuf_ino == inode(buffer) ? 0 : 1;
    });
    EXPECT_EQ(Exit{}, child.wait(PATIENCE));
    write_and_read(remote(mine), 16);
    EXPECT_TRUE(has_pattern(cpu.bytes(), 16));
}

// A process that is killed takes the MR with it.
TEST_P(Transparent, ProcessMayDieWithIt) {
    SKIP_IF_FOREIGN();
    Child child = Child::fork([&](Channel& parent) {
        const Endpoint other(GPU_DEVICE);
        const Mr mr = Mr::host(other.pd, cpu.bytes());
        parent.send(1);
        (void)parent.recv<int>(PATIENCE);
        return 1;
    });
    (void)child.channel().recv<int>();
    EXPECT_EQ(1U, vram.buf_info(buffer.fd()).attachments);
    child.kill(SIGKILL);
    EXPECT_EQ((Exit{.signal = SIGKILL}), child.wait(PATIENCE));
    EXPECT_EQ(0U, vram.buf_info(buffer.fd()).attachments);
}

class TransparentRefusal : public RdmaTest {};

// The exporter's answer is the one that ibv_reg_dmabuf_mr() gets.
TEST_F(TransparentRefusal, ByTheExporter) {
    const DmaBuf mover = vram.alloc({.size = SIZE, .caps = PFN_VRAM_CAP_MOVE});
    const Mapping mapped = mover.map();
    EXPECT_ERRNO(EOPNOTSUPP, ModeMr::by_address(gpu.pd, PFN_MR_MODE_PINNED, mapped.address(), SIZE,
                                                mapped.address()));
    EXPECT_EQ(PFN_MR_MODE_DYNAMIC, query_mr(Mr::host(gpu.pd, mapped.bytes())).mode);
}

} // namespace
} // namespace pfn
