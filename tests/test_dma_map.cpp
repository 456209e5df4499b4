// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
//
// The addresses that a device gets: its DMA arrives where it should and nowhere
// else, through an IOMMU and without, in RAM and in another device's memory.
#include "support/debug_kernel.hpp"
#include "support/dma_test.hpp"

#include <algorithm>
#include <vector>

namespace pfn {
namespace {

constexpr std::uint64_t PAGES = 16;

class DmaBuffer : public DmaTest, public testing::WithParamInterface<BufferCase> {
  protected:
    void SetUp() override {
        DmaTest::SetUp();
        size = PAGES * page_size();
        buffer = vram.alloc({.size = size,
                             .chunk = GetParam().fragmented ? page_size() : 0,
                             .placement = GetParam().placement});
        cpu = buffer.map();
        way = reach(GetParam().placement);
    }
    void TearDown() override {
        cpu = {};
        buffer = {};
        DmaTest::TearDown();
    }

    /// Ranges that @p pages pages of the buffer have.
    [[nodiscard]] std::uint64_t ranges(std::uint64_t pages) const {
        return GetParam().fragmented ? pages : 1;
    }

    std::uint64_t size = 0;
    DmaBuf buffer;
    Mapping cpu;
    Reach way = Reach::YES;
};

INSTANTIATE_TEST_SUITE_P(Buffers, DmaBuffer, testing::ValuesIn(BUFFER_CASES), case_name);

// Rule: D3
TEST_P(DmaBuffer, AddressesSayWhichBusTheyAreOf) {
    const auto id = edu->import(buffer.fd(), 0, size);
    EXPECT_EQ(std::uint32_t{PFN_EDU_UNMAPPED}, edu->query(id).bus);
    if (way == Reach::NO) {
        try {
            edu->map(id);
            FAIL() << "there should be no way to this memory";
        } catch (const EduError& e) {
            EXPECT_EQ(Errno{EREMOTEIO}, Errno{e.code().value()});
            EXPECT_TRUE(e.reason().contains("peer-to-peer")) << e.reason();
        }
        EXPECT_EQ(std::uint32_t{PFN_EDU_UNMAPPED}, edu->query(id).bus);
        return;
    }

    edu->map(id);
    const auto q = edu->query(id);
    const auto bus = expected_bus(GetParam().placement);
    EXPECT_EQ(std::uint32_t{bus}, q.bus);
    EXPECT_EQ(is_peer(GetParam().placement) ? 0U : 1U, q.coherent);
    EXPECT_EQ(1U, q.writable);
    EXPECT_EQ(0U, q.metadata_bytes) << "nothing has to be stored";
    EXPECT_EQ(bus == PFN_EDU_IOVA ? 1 : ranges(PAGES), q.extents);
    EXPECT_EQ(0U, q.dma_addr % page_size());
    EXPECT_EQ(1U, q.maps);
    EXPECT_EQ(0U, q.stops);

    edu->unmap(id);
    EXPECT_EQ(std::uint32_t{PFN_EDU_UNMAPPED}, edu->query(id).bus);
    EXPECT_EQ(0U, edu->query(id).stops) << "that was our own wish";
    edu->map(id);
    EXPECT_EQ(2U, edu->query(id).maps);
}

// The blocks of a page table are the addresses that the device really has.
TEST_P(DmaBuffer, BlocksForAPageTable) {
    if (way == Reach::NO)
        GTEST_SKIP() << "no DMA to this memory in this guest";
    const std::uint64_t page = page_size();
    const auto id = edu->import(buffer.fd(), 0, size);
    const auto pages = edu->blocks(id, page, 0); // maps, as a transfer does
    const auto q = edu->query(id);
    EXPECT_EQ(1U, q.maps);
    EXPECT_EQ(page, pages.pgsz);
    ASSERT_EQ(PAGES, pages.addr.size());
    EXPECT_EQ(q.dma_addr, pages.addr[0]);
    for (std::uint64_t i = 1; i < PAGES; ++i) {
        if (q.bus == PFN_EDU_IOVA) {
            EXPECT_EQ(q.dma_addr + (i * page), pages.addr[i]) << "page " << i;
            continue;
        }
        // Without translation for each mapping, a page is where it is for everybody.
        const auto alone = edu->import(buffer.fd(), i * page, page);
        edu->map(alone);
        EXPECT_EQ(edu->query(alone).dma_addr, pages.addr[i]) << "page " << i;
        edu->release(alone);
    }

    // The fewest: the same pages, whatever blocks they are in.
    const auto few = edu->blocks(id, ~0ULL, 0);
    if (q.extents == 1) {
        // All that the two addresses have in common, up to one block for it all.
        EXPECT_GE(few.pgsz, std::min<std::uint64_t>(size, q.dma_addr & -q.dma_addr));
    }
    ASSERT_GE(few.pgsz, page);
    const std::uint64_t before = q.dma_addr - few.addr.at(0); // in the first block
    EXPECT_EQ((before + size - 1) / few.pgsz + 1, few.addr.size());
    for (std::uint64_t i = 0; i < PAGES; ++i) {
        const std::uint64_t at = before + (i * page);
        EXPECT_EQ(pages.addr[i], few.addr.at(at / few.pgsz) + (at % few.pgsz)) << "page " << i;
    }
}

TEST_P(DmaBuffer, BlocksOfAPart) {
    if (way == Reach::NO)
        GTEST_SKIP() << "no DMA to this memory in this guest";
    const std::uint64_t page = page_size();
    const std::uint64_t length = (3 * page) + 256;
    constexpr std::uint64_t IOVA = 0x7f0000000000;
    const auto id = edu->import(buffer.fd(), (4 * page) + 512, length); // ends in page 7
    const auto pages = edu->blocks(id, page, IOVA + 512);
    EXPECT_EQ(4U, pages.addr.size());
    EXPECT_EQ(edu->query(id).dma_addr - 512, pages.addr.at(0));

    // Blocks smaller than a page begin where the bytes do.
    const auto small = edu->blocks(id, 512, IOVA + 512);
    EXPECT_EQ((length + 511) / 512, small.addr.size());
    EXPECT_EQ(pages.addr.at(0) + 512, small.addr.at(0));
    EXPECT_EQ(pages.addr.at(3), small.addr.at((3 * page / 512) - 1));

    EXPECT_ERRNO(EINVAL, edu->blocks(id, page, IOVA)) << "it is elsewhere in its page";
    EXPECT_ERRNO(EINVAL, edu->blocks(id, 1ULL << 30, IOVA + 512)) << "no block is that large";
    EXPECT_ERRNO(EINVAL, edu->blocks(id, 0, IOVA + 512));
    EXPECT_ERRNO(ENOSPC, edu->blocks(id, page, IOVA + 512, 3));
    EXPECT_ERRNO(EINVAL, edu->blocks(id, page, IOVA + 512, PFN_EDU_MAX_BLOCKS + 1));
    EXPECT_ERRNO(ENOENT, edu->blocks(id + 1, page, IOVA + 512));
}

TEST_P(DmaBuffer, DataArriveBothWaysAndNowhereElse) {
    if (way != Reach::YES)
        GTEST_SKIP() << "no DMA to this memory in this guest";
    fill_pattern(cpu.bytes(), 1);
    const auto id = edu->import(buffer.fd(), 0, size);

    // Out of two pages, into two others, at odd places.
    const std::uint64_t from = (3 * page_size()) - 1000;
    const std::uint64_t to = (9 * page_size()) - 2008;
    const auto out = edu->fetch(id, from, PFN_EDU_MEM_SIZE);
    const auto in = edu->store(id, to, PFN_EDU_MEM_SIZE);
    const bool split = edu->query(id).extents > 1;
    EXPECT_EQ(split ? 2U : 1U, out.pieces);
    EXPECT_EQ(split ? 2U : 1U, in.pieces);

    const auto bytes = cpu.bytes();
    EXPECT_TRUE(has_pattern(bytes.first(to), 1));
    EXPECT_TRUE(has_pattern(bytes.subspan(to, PFN_EDU_MEM_SIZE), 1, from));
    const auto after = to + PFN_EDU_MEM_SIZE;
    EXPECT_TRUE(has_pattern(bytes.subspan(after), 1, after));
}

// Rule: D2
TEST_P(DmaBuffer, PartsHaveTheirOwnAddresses) {
    if (way != Reach::YES)
        GTEST_SKIP() << "no DMA to this memory in this guest";
    fill_pattern(cpu.bytes(), 2);
    // From the middle of page 4 to the middle of page 7.
    const std::uint64_t offset = (4 * page_size()) + 512;
    const std::uint64_t length = (3 * page_size()) + 256;
    const auto id = edu->import(buffer.fd(), offset, length);
    EXPECT_ERRNO(EINVAL, edu->fetch(id, length - 8, 16));
    EXPECT_ERRNO(EINVAL, edu->fetch(id, length, 1));
    EXPECT_ERRNO(EINVAL, edu->fetch(id, ~0ULL, 1));
    EXPECT_ERRNO(EINVAL, edu->fetch(id, 0, 0));
    EXPECT_ERRNO(EINVAL, edu->fetch(id, 0, PFN_EDU_MEM_SIZE + 1));
    EXPECT_ERRNO(EINVAL, edu->fetch(id, 0, 16, PFN_EDU_MEM_SIZE - 8));
    EXPECT_ERRNO(ENOENT, edu->fetch(id + 1, 0, 8));

    // The last bytes to the place of the first.
    edu->fetch(id, length - 1024, 1024);
    const auto q = edu->query(id);
    EXPECT_EQ(q.bus == PFN_EDU_IOVA ? 1 : ranges(4), q.extents);
    EXPECT_EQ(512U, q.dma_addr % page_size());
    const auto in = edu->store(id, 0, 1024);
    EXPECT_EQ(q.dma_addr, in.dma_addr);

    const auto bytes = cpu.bytes();
    EXPECT_TRUE(has_pattern(bytes.first(offset), 2));
    EXPECT_TRUE(has_pattern(bytes.subspan(offset, 1024), 2, offset + length - 1024));
    EXPECT_TRUE(has_pattern(bytes.subspan(offset + 1024), 2, offset + 1024));
}

// Rule: D2
TEST_P(DmaBuffer, ReadOnlyImportsAreNotWrittenTo) {
    if (way != Reach::YES)
        GTEST_SKIP() << "no DMA to this memory in this guest";
    fill_pattern(cpu.bytes(), 3);
    const auto id =
        edu->import(buffer.fd(), 0, size, PFN_MR_MODE_DEFAULT, std::uint32_t{PFN_EDU_READ_ONLY});
    edu->fetch(id, page_size(), 256);
    EXPECT_EQ(0U, edu->query(id).writable);
    EXPECT_ERRNO(EACCES, edu->store(id, 0, 256));
    if (edu->query(id).bus == PFN_EDU_IOVA) {
        // The IOMMU knows, too.
        expect_fault([&] { edu->store(id, 0, 256, 0, PFN_EDU_STALE); });
    }
    EXPECT_TRUE(has_pattern(cpu.bytes(), 3));
}

TEST_P(DmaBuffer, ManyImportsOfOneBuffer) {
    if (way != Reach::YES)
        GTEST_SKIP() << "no DMA to this memory in this guest";
    // The kernel's DMA debugging WARNs about more than 7 mappings of one place.
    const bool counted = debug_kernel() && !guest_has_iommu();
    std::vector<std::uint32_t> ids;
    for (int i = 0; i < 20; i++) {
        ids.push_back(edu->import(buffer.fd(), i * 512, size / 2));
        if (!counted)
            edu->map(ids.back());
    }
    EXPECT_EQ(20U, vram.buf_info(buffer.fd()).attachments);
    for (std::size_t i = 0; i < ids.size(); i += 2)
        edu->release(ids[i]);
    fill_pattern(cpu.bytes(), 4);
    edu->fetch(ids[7], 0, 512);
    edu->store(ids[9], 0, 512);
    EXPECT_TRUE(has_pattern(cpu.bytes().subspan(9 * 512, 512), 4, 7 * 512));
    edu->close();
    EXPECT_EQ(0U, vram.buf_info(buffer.fd()).attachments);
}

} // namespace
} // namespace pfn
