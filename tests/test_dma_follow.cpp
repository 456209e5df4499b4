// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
//
// A device follows its buffer: once the exporter has taken the memory back the
// same DMA does not reach it, and after mapping anew it reaches the new place.
#include "common/files.hpp"
#include "common/process.hpp"
#include "support/dma_test.hpp"
#include "support/mover.hpp"
#include "support/quarantine.hpp"

#include <algorithm>
#include <csignal>
#include <fstream>
#include <future>
#include <optional>
#include <thread>

namespace pfn {
namespace {

using namespace std::chrono_literals;

constexpr std::uint64_t SIZE = 64 * KIB;
constexpr auto PATIENCE = 120s;

/// Old memory is poisoned when it is moved away from, and looked at after a time in
/// which edu ends any transfer (100 ms) that it should not have been in.
class OldMemory {
  public:
    /// So many moves were looked at, and nobody had touched what they left.
    void expect_untouched_by(std::uint64_t moves) const {
        const auto now = QuarantineFindings::now();
        EXPECT_EQ(before_.checked + moves, now.checked);
        EXPECT_EQ(before_.touched, now.touched) << "see the kernel log";
    }

  private:
    ModuleParameter poison_{"pfn_vram/poison_old", "300"};
    QuarantineFindings before_ = QuarantineFindings::now();
};

/// At the end PCI devices that were removed come back.
struct Rescan {
    Rescan() = default;
    ~Rescan() { std::ofstream("/sys/bus/pci/rescan") << "1"; }
    Rescan(const Rescan&) = delete;
    Rescan& operator=(const Rescan&) = delete;
};

class DmaFollow : public DmaTest {
  protected:
    [[nodiscard]] DmaBuf alloc(std::uint32_t placement = PFN_VRAM_PLACEMENT_SYSTEM) const {
        return vram.alloc({.size = SIZE, .chunk = page_size(), .placement = placement});
    }
    /// Where moves lead to and DMA arrives.
    [[nodiscard]] std::uint32_t elsewhere() const {
        return reach(PFN_VRAM_PLACEMENT_VRAM) == Reach::YES ? PFN_VRAM_PLACEMENT_VRAM
                                                            : PFN_VRAM_PLACEMENT_SYSTEM;
    }

    /// DMA to the address that @p id had: must fault and write nothing.
    void expect_stale(std::uint32_t id) {
        EXPECT_EQ(std::uint32_t{PFN_EDU_UNMAPPED}, edu->query(id).bus);
        if (!guest_has_iommu()) {
            EXPECT_ERRNO(EOPNOTSUPP, edu->store(id, 0, 512, 0, PFN_EDU_STALE));
            return;
        }
        expect_fault([&] { edu->store(id, 0, 512, 0, PFN_EDU_STALE); });
    }
};

// Rule: D1
TEST_F(DmaFollow, AfterUnmapTheIommuStopsIt) {
    const DmaBuf buffer = alloc();
    const Mapping cpu = buffer.map();
    const auto id = edu->import(buffer.fd(), 0, SIZE);
    store_pattern(id, 4096, 512, 1);
    fill_pattern(cpu.bytes(), 2);
    edu->unmap(id);
    expect_stale(id);
    EXPECT_TRUE(has_pattern(cpu.bytes(), 2));
    // What worked at that address works again after the map that it needs.
    store_pattern(id, 4096, 512, 3);
    EXPECT_TRUE(has_pattern(cpu.bytes().subspan(4096, 512), 3, 4096));
}

// Rule: D1
TEST_F(DmaFollow, AfterAMoveTheOldPlaceIsOutOfReach) {
    const OldMemory old;
    const DmaBuf buffer = alloc();
    const Mapping cpu = buffer.map();
    const auto id = edu->import(buffer.fd(), 0, SIZE);
    store_pattern(id, 8192, 1024, 4);
    vram.move(buffer.fd(), elsewhere(), page_size());
    old.expect_untouched_by(1);
    EXPECT_EQ(1U, edu->query(id).stops);
    expect_stale(id);

    expect_pattern(id, 8192, 1024, 4);
    EXPECT_EQ(2U, edu->query(id).maps);
    EXPECT_EQ(std::uint32_t{expected_bus(elsewhere())}, edu->query(id).bus);
    store_pattern(id, 0, 1024, 5);
    EXPECT_TRUE(has_pattern(cpu.bytes().first(1024), 5));
    EXPECT_TRUE(has_pattern(cpu.bytes().subspan(8192, 1024), 4, 8192));
}

// Rule: D1
TEST_F(DmaFollow, MovesUnderTraffic) {
    const OldMemory old;
    const DmaBuf buffer = alloc();
    const Mapping cpu = buffer.map();
    const auto id = edu->import(buffer.fd(), 0, SIZE);
    std::atomic<bool> end = false;
    std::atomic<unsigned> moves = 0;
    auto mover = std::async(std::launch::async, [&] {
        for (; !end; ++moves) {
            vram.move(buffer.fd(),
                      moves % 2 ? std::uint32_t{PFN_VRAM_PLACEMENT_SYSTEM} : elsewhere(),
                      page_size());
            std::this_thread::sleep_for(5ms); // the lock is not fair
        }
    });
    const auto few_moves = [&] {
        return moves < 3 && mover.wait_for(0s) == std::future_status::timeout;
    };
    for (std::uint64_t i = 0; i < 8 || few_moves(); i++)
        store_pattern(id, i % 8 * 8192, 2048, 10 + i % 8);
    for (std::uint64_t i = 0; i < 8; i += 3)
        expect_pattern(id, i * 8192, 2048, 10 + i);
    end = true;
    EXPECT_EQ(std::future_status::ready, mover.wait_for(PATIENCE));
    EXPECT_NO_THROW(mover.get());
    EXPECT_GT(moves.load(), 2U);
    old.expect_untouched_by(moves);
    EXPECT_GT(edu->query(id).stops, 1U);
    for (std::uint64_t i = 0; i < 8; i++)
        EXPECT_TRUE(has_pattern(cpu.bytes().subspan(i * 8192, 2048), 10 + i, i * 8192));
}

// Rule: D1
TEST_F(DmaFollow, AMoveWaitsForTheEngine) {
    const OldMemory old;
    const DmaBuf buffer = alloc();
    const Mapping cpu = buffer.map();
    const auto id = edu->import(buffer.fd(), 0, SIZE);
    constexpr std::uint32_t LENGTH = PFN_EDU_MEM_SIZE;
    store_pattern(id, 0, LENGTH, 1); // which stays in the device's memory
    unsigned moves = 0;
    unsigned waits = 0;
    while (waits == 0 && moves < 20) {
        fill_pattern(cpu.bytes(), 2);
        edu->map(id);
        const auto maps = edu->query(id).maps;
        // The engine runs for 100 ms; a move in that time has to wait for its end.
        auto transfer = std::async(std::launch::async, [&] { return edu->store(id, 0, LENGTH); });
        std::this_thread::sleep_for(20ms);
        const bool running = transfer.wait_for(0ms) != std::future_status::ready;
        vram.move(buffer.fd(), PFN_VRAM_PLACEMENT_SYSTEM, page_size());
        moves++;
        EXPECT_NO_THROW(transfer.get());
        // Had it not begun yet, it would have had to map again.
        waits += running && edu->query(id).maps == maps;
        EXPECT_TRUE(has_pattern(cpu.bytes().first(LENGTH), 1));
        EXPECT_TRUE(has_pattern(cpu.bytes().subspan(LENGTH), 2, LENGTH));
    }
    EXPECT_GT(waits, 0U) << "no move has met a transfer";
    EXPECT_EQ(moves, edu->query(id).stops);
    old.expect_untouched_by(moves);
}

TEST_F(DmaFollow, PinnedBuffersStay) {
    const DmaBuf buffer = alloc();
    const auto id = edu->import(buffer.fd(), 0, SIZE, PFN_MR_MODE_PINNED);
    edu->map(id);
    EXPECT_ERRNO(EBUSY, vram.move(buffer.fd(), PFN_VRAM_PLACEMENT_SYSTEM));
    EXPECT_EQ(0U, edu->query(id).stops);
    const DmaBuf loose =
        vram.alloc({.size = SIZE, .caps = PFN_VRAM_CAP_MOVE | PFN_VRAM_CAP_REVOKE});
    try {
        (void)edu->import(loose.fd(), 0, SIZE, PFN_MR_MODE_PINNED);
        FAIL() << "nobody can promise that";
    } catch (const EduError& e) {
        EXPECT_EQ(Errno{EOPNOTSUPP}, Errno{e.code().value()});
        EXPECT_TRUE(e.reason().contains("PINNED")) << e.reason();
    }
}

// Rule: D1, I4
TEST_F(DmaFollow, RevokedIsForGood) {
    const DmaBuf buffer = alloc();
    const auto id = edu->import(buffer.fd(), 0, SIZE, PFN_MR_MODE_REVOCABLE);
    store_pattern(id, 0, 512, 6);
    vram.revoke(buffer.fd());
    expect_stale(id);
    EXPECT_ERRNO(ENODEV, edu->fetch(id, 0, 512));
    EXPECT_ERRNO(ENODEV, edu->map(id));
    vram.restore(buffer.fd(), PFN_VRAM_PLACEMENT_SYSTEM);
    EXPECT_ERRNO(ENODEV, edu->fetch(id, 0, 512));
    const auto again = edu->import(buffer.fd(), 0, SIZE);
    store_pattern(again, 0, 512, 7);
    edu->release(id);
}

TEST_F(DmaFollow, KilledInTheMiddleOfATransfer) {
    const DmaBuf buffer = alloc();
    const Mapping cpu = buffer.map();
    for (int i = 0; i < 3; i++) {
        auto child = Child::fork([&](Channel& parent) {
            const EduDevice own;
            const auto id = own.import(buffer.fd(), 0, SIZE);
            own.map(id);
            parent.send(1);
            for (;;)
                own.store(id, 0, PFN_EDU_MEM_SIZE);
            return 0;
        });
        EXPECT_EQ(1, child.channel().recv<int>(PATIENCE));
        std::this_thread::sleep_for(i * 40ms);
        child.kill(SIGKILL);
        EXPECT_EQ((Exit{.status = 0, .signal = SIGKILL}), child.wait(PATIENCE));
        EXPECT_EQ(0U, vram.buf_info(buffer.fd()).attachments);
        fill_pattern(cpu.bytes(), 8);
        std::this_thread::sleep_for(200ms);
        EXPECT_TRUE(has_pattern(cpu.bytes(), 8)) << "the engine went on";
    }
    const auto id = edu->import(buffer.fd(), 0, SIZE);
    store_pattern(id, 0, 512, 9);
}

// Rule: D4
TEST_F(DmaFollow, UnbindingTheDeviceEndsItsImports) {
    const std::string device = edu->info().bus_name;
    const DmaBuf buffer = alloc();
    const auto id = edu->import(buffer.fd(), 0, SIZE);
    edu->map(id);
    (void)edu->import(buffer.fd(), 0, SIZE);
    EXPECT_EQ(2U, vram.buf_info(buffer.fd()).attachments);
    auto transfers = std::async(std::launch::async, [&] {
        return errno_of([&] {
            for (;;)
                edu->store(id, 0, 4096);
        });
    });
    std::this_thread::sleep_for(50ms);
    write_file("/sys/bus/pci/drivers/pfn_edu/unbind", device);
    EXPECT_EQ(Errno{ENODEV}, Errno{transfers.get()});
    EXPECT_EQ(0U, vram.buf_info(buffer.fd()).attachments);
    EXPECT_ERRNO(ENODEV, (void)edu->info());
    EXPECT_ERRNO(ENODEV, (void)edu->import(buffer.fd(), 0, SIZE));

    write_file("/sys/bus/pci/drivers/pfn_edu/bind", device);
    EXPECT_ERRNO(ENODEV, (void)edu->info()); // that file is about the old one
    const EduDevice fresh;
    const auto other = fresh.import(buffer.fd(), 0, SIZE);
    fresh.store(other, 0, 64);
    fresh.release(other);
}

// Rule: D4, E3
TEST_F(DmaFollow, UnpluggingThePeerEndsTheMapping) {
    if (!has_bar())
        GTEST_SKIP() << "the VRAM is no PCI device here";
    if (reach(PFN_VRAM_PLACEMENT_VRAM) != Reach::YES)
        GTEST_SKIP() << "no DMA to the BAR in this guest";
    const std::string device = vram.info().bus_name;
    const bool iova = expected_bus(PFN_VRAM_PLACEMENT_VRAM) == PFN_EDU_IOVA;
    const DmaBuf buffer = alloc(PFN_VRAM_PLACEMENT_VRAM);
    // Even a promise not to move does not keep a device in its slot.
    const auto id = edu->import(buffer.fd(), 0, SIZE, PFN_MR_MODE_PINNED);
    edu->map(id);
    auto transfers = std::async(std::launch::async, [&] {
        return errno_of([&] {
            for (;;)
                edu->fetch(id, 0, 4096);
        });
    });
    std::this_thread::sleep_for(150ms);
    write_file("/sys/bus/pci/devices/" + device + "/remove", "1");
    auto rescan = std::make_optional<Rescan>();
    EXPECT_EQ(Errno{ENODEV}, Errno{transfers.get()});
    EXPECT_EQ(std::uint32_t{PFN_EDU_UNMAPPED}, edu->query(id).bus);
    EXPECT_EQ(1U, edu->query(id).stops);
    if (iova)
        expect_stale(id);

    rescan.reset();
    const auto deadline = std::chrono::steady_clock::now() + PATIENCE;
    while (errno_of([] { const VramDevice back; }) != 0 &&
           std::chrono::steady_clock::now() < deadline)
        std::this_thread::sleep_for(10ms);
    vram = VramDevice();
    const DmaBuf fresh = alloc(PFN_VRAM_PLACEMENT_VRAM);
    const auto again = edu->import(fresh.fd(), 0, SIZE);
    store_pattern(again, 0, 512, 1);
    edu->release(id);
}

} // namespace
} // namespace pfn
