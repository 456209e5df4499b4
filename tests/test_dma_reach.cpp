// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
//
// Devices that do not reach everything: refused with the reason, never helped with
// a bounce buffer. And what the IOMMU's mode makes of it.
#include "common/files.hpp"
#include "common/process.hpp"
#include "support/debug_kernel.hpp"
#include "support/dma_test.hpp"

#include <filesystem>
#include <fstream>

namespace pfn {
namespace {

class DmaReach : public DmaTest {
  protected:
    /// The driver anew, for a device with so many address bits.
    void narrow(unsigned bits) {
        edu->close();
        knobs.reset();
        module.reset();
        module.emplace(bits);
        edu.emplace();
        knobs.emplace("pfn_edu/test_knobs", "Y");
        EXPECT_EQ((1ULL << bits) - 1, edu->info().dma_mask);
    }

    void expect_refused(std::uint32_t id, int error, const std::string& reason) {
        for (int i = 0; i < 2; i++) {
            try {
                edu->map(id);
                ADD_FAILURE() << "it was mapped";
            } catch (const EduError& e) {
                EXPECT_EQ(Errno{error}, Errno{e.code().value()});
                EXPECT_TRUE(e.reason().contains(reason)) << e.reason();
            }
        }
        EXPECT_EQ(std::uint32_t{PFN_EDU_UNMAPPED}, edu->query(id).bus);
        EXPECT_ERRNO(error, edu->fetch(id, 0, 8));
    }
};

// Rule: D3
TEST_F(DmaReach, NarrowDevices) {
    // More than there is of RAM that 28 bits reach and that is free.
    const DmaBuf ram =
        vram.alloc({.size = 300 * MIB, .placement = PFN_VRAM_PLACEMENT_SYSTEM, .caps = 0});
    narrow(28);
    const auto id = edu->import(ram.fd(), 0, ram.size());
    if (guest_has_iommu()) {
        // As much as fits below the mask, at addresses that are there.
        expect_refused(id, ENOMEM, "IOMMU has no free address range");
        const auto part = edu->import(ram.fd(), 100 * MIB, 64 * MIB);
        edu->map(part);
        const auto q = edu->query(part);
        EXPECT_EQ(std::uint32_t{PFN_EDU_IOVA}, q.bus);
        EXPECT_LE(q.dma_addr + (64 * MIB), 1ULL << 28);
        edu->fetch(part, 0, 4096);
        edu->store(part, (64 * MIB) - 4096, 4096);
        const Mapping cpu = ram.map();
        const auto bytes = cpu.bytes();
        EXPECT_TRUE(std::ranges::equal(bytes.subspan(100 * MIB, 4096),
                                       bytes.subspan((164 * MIB) - 4096, 4096)));
    } else {
        expect_refused(id, ERANGE, "DMA mask");
    }
}

// Rule: D3
TEST_F(DmaReach, NarrowDevicesAndAPeer) {
    if (!has_bar())
        GTEST_SKIP() << "the VRAM is no PCI device here";
    const DmaBuf buffer = vram.alloc({.size = MIB});
    narrow(28); // the BAR is far above
    const auto id = edu->import(buffer.fd(), 0, buffer.size());
    switch (reach(PFN_VRAM_PLACEMENT_VRAM)) {
    case Reach::NO:
        expect_refused(id, EREMOTEIO, "peer-to-peer");
        break;
    case Reach::FAULTS:
        expect_refused(id, ERANGE, "DMA mask");
        break;
    case Reach::YES:
        if (expected_bus(PFN_VRAM_PLACEMENT_VRAM) == PFN_EDU_IOVA) {
            edu->map(id);
            store_pattern(id, 4096, 256, 1);
            expect_pattern(id, 4096, 256, 1);
        } else {
            expect_refused(id, ERANGE, "DMA mask");
        }
        break;
    }
}

TEST_F(DmaReach, ASwitchThatTheIommuDoesNotKnow) {
    if (!has_bar() || reach(PFN_VRAM_PLACEMENT_VRAM) != Reach::FAULTS)
        GTEST_SKIP() << "only below a switch, and with an IOMMU";
    const DmaBuf buffer = vram.alloc({.size = MIB});
    const Mapping cpu = buffer.map();
    fill_pattern(cpu.bytes(), 1);
    const auto id = edu->import(buffer.fd(), 0, buffer.size());
    edu->map(id);
    EXPECT_EQ(std::uint32_t{PFN_EDU_P2P_BUS}, edu->query(id).bus);
    // QEMU sends everything to the IOMMU, which knows nothing of bus addresses.
    expect_fault([&] { edu->store(id, 0, 256); });
    EXPECT_TRUE(has_pattern(cpu.bytes(), 1));
}

/// The device's IOMMU group does not translate as long as this lives. Its driver
/// must not be bound when it begins or ends.
class Passthrough {
  public:
    explicit Passthrough(const std::string& device)
        : type_("/sys/bus/pci/devices/" + device + "/iommu_group/type") {
        write_file(type_, "identity");
    }
    ~Passthrough() { std::ofstream(type_) << "DMA"; }
    Passthrough(const Passthrough&) = delete;
    Passthrough& operator=(const Passthrough&) = delete;

  private:
    std::string type_;
};

TEST_F(DmaReach, IommuInPassthrough) {
    if (!guest_has_iommu())
        GTEST_SKIP() << "no IOMMU";
    if (guest_p2p() == "switch")
        GTEST_SKIP() << "edu shares its IOMMU group with others there";
    const std::string device = edu->info().bus_name;
    const DmaBuf buffer = vram.alloc(
        {.size = 16 * page_size(), .chunk = page_size(), .placement = PFN_VRAM_PLACEMENT_SYSTEM});
    write_file("/sys/bus/pci/drivers/pfn_edu/unbind", device);
    edu->close();
    {
        const Passthrough passthrough(device);
        write_file("/sys/bus/pci/drivers/pfn_edu/bind", device);
        {
            const Mapping cpu = buffer.map();
            fill_pattern(cpu.bytes(), 1);
            const EduDevice direct;
            const auto id = direct.import(buffer.fd(), 0, buffer.size());
            direct.fetch(id, page_size() - 64, 128);
            direct.store(id, 5 * page_size(), 128);
            EXPECT_EQ(std::uint32_t{PFN_EDU_DIRECT}, direct.query(id).bus);
            EXPECT_EQ(16U, direct.query(id).extents);
            EXPECT_TRUE(
                has_pattern(cpu.bytes().subspan(5 * page_size(), 128), 1, page_size() - 64));
            direct.unmap(id);
            EXPECT_ERRNO(EOPNOTSUPP, direct.store(id, 0, 8, 0, PFN_EDU_STALE));
        }
        write_file("/sys/bus/pci/drivers/pfn_edu/unbind", device);
    }
    write_file("/sys/bus/pci/drivers/pfn_edu/bind", device);
}

TEST_F(DmaReach, ComparisonOfTheTwoWays) {
    const DmaBuf buffer =
        vram.alloc({.size = 4 * MIB, .chunk = page_size(), .placement = PFN_VRAM_PLACEMENT_SYSTEM});
    const auto c = edu->compare(buffer.fd(), buffer.fd(), 3);
    EXPECT_EQ(0, c.pfn.error);
    EXPECT_EQ(0, c.sg.error);
    EXPECT_EQ(guest_has_iommu() ? 1U : 1024U, c.pfn.extents);
    EXPECT_LE(c.pfn.extents, c.sg.extents);
    EXPECT_GT(c.pfn.map_ns, 0U);
    EXPECT_GT(c.sg.unmap_ns, 0U);
    EXPECT_LT(c.pfn.bytes, 2048U);
    if (!debug_kernel()) { // which hides the pages of a scatterlist from importers
        EXPECT_GT(c.sg.bytes, 1024 * 32U);
    }
    EXPECT_EQ(0U, vram.buf_info(buffer.fd()).attachments);
    EXPECT_ERRNO(EINVAL, (void)edu->compare(buffer.fd(), buffer.fd(), 0));
    EXPECT_ERRNO(EBADF, (void)edu->compare(-1, buffer.fd(), 1));
}

TEST_F(DmaReach, MemoryThatDoesNotExistCanBeMapped) {
    if (!has_bar() || reach(PFN_VRAM_PLACEMENT_VRAM) == Reach::NO)
        GTEST_SKIP() << "no peer in reach";
    const DmaBuf like = vram.alloc({.size = page_size()});
    const bool iova = expected_bus(PFN_VRAM_PLACEMENT_VRAM) == PFN_EDU_IOVA;
    // The kernel maps a range as a whole and unmaps it by scatterlist entry, which are
    // of less than 4 GiB; without an IOMMU DMA debugging notices.
    const std::uint64_t size = debug_kernel() && !iova ? 1ULL << 31 : 1ULL << 40;
    const auto one = edu->synthetic(like.fd(), 1, size);
    auto c = edu->compare(one.ranges.get(), one.scatterlist.get(), 1);
    EXPECT_EQ(0, c.pfn.error);
    EXPECT_EQ(1U, c.pfn.extents);
    EXPECT_EQ(0, c.sg.error);
    EXPECT_EQ(size == 1ULL << 40 ? 257U : 1U, c.sg.extents);

    const auto many = edu->synthetic(like.fd(), 64, 2 * MIB);
    c = edu->compare(many.ranges.get(), many.scatterlist.get(), 1);
    EXPECT_EQ(0, c.pfn.error);
    EXPECT_EQ(iova ? 1U : 64U, c.pfn.extents);
    // The kernel's own way links every range to the same place, see docs/design.md.
    EXPECT_EQ(iova ? -EADDRINUSE : 0, c.sg.error);
    // The scatterlist that our exporters give does not.
    c = edu->compare(many.ranges.get(), many.ranges.get(), 1);
    EXPECT_EQ(0, c.sg.error);
    EXPECT_EQ(iova ? 1U : 64U, c.sg.extents);

    EXPECT_ERRNO(EINVAL, (void)edu->synthetic(like.fd(), 0, MIB));
    EXPECT_ERRNO(EINVAL, (void)edu->synthetic(like.fd(), 1, 100));
    knobs.reset();
    EXPECT_ERRNO(EPERM, (void)edu->synthetic(like.fd(), 1, MIB));
}

} // namespace
} // namespace pfn
