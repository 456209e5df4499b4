// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
//
// What ./lab perf dma measures with: that it ends when it should and gives back what
// it took. Nobody looks at the figures here.
#include "support/dma_test.hpp"

#include <chrono>
#include <fstream>
#include <future>
#include <string>

namespace pfn {
namespace {

using namespace std::chrono_literals;

class DmaCost : public DmaTest {
  protected:
    /// In single pages: scatterlists that the kernel's DMA debugging accepts.
    [[nodiscard]] DmaBuf alloc(std::uint64_t size) const {
        return vram.alloc({.size = size,
                           .chunk = page_size(),
                           .placement = PFN_VRAM_PLACEMENT_SYSTEM,
                           .caps = PFN_VRAM_CAP_PIN});
    }
    [[nodiscard]] std::uint64_t attachments(const DmaBuf& buffer) const {
        return vram.buf_info(buffer.fd()).attachments;
    }
};

TEST_F(DmaCost, HoldsUntilDroppedOrClosed) {
    const DmaBuf buffer = alloc(64 * KIB);
    for (const std::uint32_t way : {PFN_EDU_BY_RANGES, PFN_EDU_BY_SCATTERLIST}) {
        edu->hold(buffer.fd(), way, 1);
        edu->hold(buffer.fd(), way, 2);
        EXPECT_EQ(3U, attachments(buffer));
        edu->drop();
        EXPECT_EQ(0U, attachments(buffer));
        edu->drop();

        edu->hold(buffer.fd(), way, 2);
        edu.emplace();
        EXPECT_EQ(0U, attachments(buffer)) << "closed";
    }
}

TEST_F(DmaCost, HoldsWithinLimits) {
    const DmaBuf buffer = alloc(64 * KIB);
    EXPECT_ERRNO(EINVAL, edu->hold(buffer.fd(), 2, 1));
    EXPECT_ERRNO(EBADF, edu->hold(-1, PFN_EDU_BY_RANGES, 1));
    EXPECT_ERRNO(ENOSPC, edu->hold(buffer.fd(), PFN_EDU_BY_RANGES, PFN_EDU_MAX_HELD + 1));
    edu->hold(buffer.fd(), PFN_EDU_BY_RANGES, 2);
    EXPECT_ERRNO(ENOSPC, edu->hold(buffer.fd(), PFN_EDU_BY_RANGES, PFN_EDU_MAX_HELD - 1));
    EXPECT_ERRNO(EBUSY, edu->hold(buffer.fd(), PFN_EDU_BY_SCATTERLIST, 1));
    EXPECT_EQ(2U, attachments(buffer));
    knobs.reset();
    EXPECT_ERRNO(EPERM, edu->hold(buffer.fd(), PFN_EDU_BY_RANGES, 1));
    edu->drop();
    EXPECT_EQ(0U, attachments(buffer));
}

// Rule: D4
TEST_F(DmaCost, UnbindingDropsWhatIsHeld) {
    const DmaBuf buffer = alloc(64 * KIB);
    const std::string device = edu->info().bus_name;
    edu->hold(buffer.fd(), PFN_EDU_BY_RANGES, 2);
    std::ofstream("/sys/bus/pci/drivers/pfn_edu/unbind") << device << std::flush;
    EXPECT_EQ(0U, attachments(buffer));
    EXPECT_ERRNO(ENODEV, edu->drop());
}

// Rule: D4
TEST_F(DmaCost, UnbindingDoesNotWaitForAllRounds) {
    const DmaBuf buffer = alloc(16 * MIB);
    const std::string device = edu->info().bus_name;
    auto rounds = std::async(std::launch::async, [&] {
        return errno_of([&] { (void)edu->compare(buffer.fd(), buffer.fd(), 1000); });
    });
    while (attachments(buffer) == 0)
        ASSERT_NE(std::future_status::ready, rounds.wait_for(0s));
    std::ofstream("/sys/bus/pci/drivers/pfn_edu/unbind") << device << std::flush;
    // Or it would have come to its end.
    EXPECT_EQ(Errno{ENODEV}, Errno{rounds.get()});
    EXPECT_EQ(0U, attachments(buffer));
}

} // namespace
} // namespace pfn
