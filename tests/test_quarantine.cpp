// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
//
// Moves under full traffic while the exporter poisons the old memory at once and
// looks later if anybody has touched it (pfn_vram_quarantine.c). Whoever is late
// reads poison, which the traffic notices, or writes into it, which the exporter
// notices; or he uses a kernel mapping of a BAR that is gone. tests/mutants has
// the proof that it does.
#include "support/debug_kernel.hpp"
#include "support/long_run.hpp"
#include "support/modules.hpp"
#include "support/quarantine.hpp"
#include "support/traffic.hpp"

#include <chrono>
#include <cstdio>
#include <thread>

namespace pfn {
namespace {

constexpr std::size_t QPS = 8;
constexpr std::size_t MRS = 16;
constexpr std::uint64_t SIZE = (QPS + 1) * Traffic::AREA; ///< the last one is for CPUs
constexpr std::uint32_t VRAM = PFN_VRAM_PLACEMENT_VRAM;
constexpr std::uint32_t SYSTEM = PFN_VRAM_PLACEMENT_SYSTEM;
/// A move takes 10 ms or more: the exporter waits before it looks.
const unsigned MOVES = long_run() ? 20000 : debug_kernel() ? 40 : 250;

class Quarantine : public RdmaTest {
  protected:
    Quarantine() {
        for (std::uint64_t i = 0; i < MRS; ++i) {
            const std::uint64_t iova = i << 32U;
            mrs.push_back(Mr::dmabuf(gpu.pd, buffer.fd(), 0, SIZE, iova));
            views.emplace_back(mrs.back(), iova);
        }
    }

    /// So many moves, of all kinds: each of the four layouts is left for each.
    void move(unsigned count, std::uint32_t flags = 0) {
        for (unsigned i = 0; i < count; ++i, ++moves)
            vram.move(buffer.fd(), moves % 4 < 2 ? SYSTEM : VRAM,
                      (moves + moves / 4) % 2 ? page_chunk() : 0, flags);
    }

    /// All moves have been looked at, and nothing was found.
    void expect_untouched() const {
        const auto deadline = std::chrono::steady_clock::now() + PATIENCE;
        while (QuarantineFindings::now().checked < before.checked + moves &&
               std::chrono::steady_clock::now() < deadline)
            std::this_thread::sleep_for(std::chrono::milliseconds(10));
        EXPECT_EQ(before.checked + moves, QuarantineFindings::now().checked);
        EXPECT_EQ(before.touched, QuarantineFindings::now().touched) << "see the kernel log";
    }

    /// MRs were used between the moves, or there was nothing to be late with.
    void expect_faults() const {
        std::uint64_t faults = 0;
        for (const Mr& mr : mrs)
            faults += query_mr(mr).faults;
        std::printf("%u moves, %llu faults of %zu MRs\n", moves,
                    static_cast<unsigned long long>(faults), MRS);
        EXPECT_GT(faults, moves / 2);
    }

    void traffic_and_moves(std::uint32_t flags) {
        const auto free = vram.info().vram_free;
        Traffics traffics(QPS, gpu, peer, views);
        traffics.start();
        traffics.wait_for_progress(1);
        move(MOVES, flags);
        ASSERT_NO_THROW(traffics.wait_for_progress(1));
        traffics.stop();
        buffer.wait_idle(PATIENCE);
        traffics.check(cpu.bytes());
        expect_untouched();
        expect_faults();
        do // back to VRAM; this waits for the last look, too
            move(1);
        while (moves % 4 != 0);
        EXPECT_EQ(free, vram.info().vram_free) << "old memory is still held";
    }

    ModuleParameter poison{"pfn_vram/poison_old", "5"};
    // Accesses last long enough to meet a move, and not longer than the poison.
    ModuleParameter delay{"ib_umem_pfn/test_access_delay_us", "300"};
    QuarantineFindings before = QuarantineFindings::now();
    unsigned moves = 0;
    DmaBuf buffer = vram.alloc({.size = SIZE});
    Mapping cpu = buffer.map();
    std::vector<Mr> mrs;
    std::vector<View> views;
};

// Rule: I1
TEST_F(Quarantine, NobodyTouchesOldMemoryUnderTraffic) {
    traffic_and_moves(0);
}

// Rule: I1
TEST_F(Quarantine, NorWithAsyncMoves) {
    traffic_and_moves(PFN_VRAM_MOVE_ASYNC);
}

// Rule: L2
TEST_F(Quarantine, NorDoCpusThroughTheirMappings) {
    // Bytes of the CPU's own, at the end; two mappings, so that one may be forgotten.
    const Mapping second = buffer.map();
    std::string error;
    std::atomic<std::uint64_t> rounds = 0;
    {
        const std::jthread writer([&](const std::stop_token& stop) {
            const auto one = cpu.bytes().subspan(QPS * Traffic::AREA);
            const auto other = second.bytes().subspan(QPS * Traffic::AREA);
            for (; !stop.stop_requested() && error.empty(); ++rounds) {
                fill_pattern(one, rounds);
                if (find_mismatch(other, rounds))
                    error = "one mapping does not see what was written through the other";
            }
        });
        move(MOVES);
    }
    EXPECT_EQ("", error);
    EXPECT_GT(rounds, MOVES / 2);
    expect_untouched();
}

// Every move is looked at, whether there is anything to be found or not.
TEST_F(Quarantine, LooksAtEveryMoveAndKeepsTheData) {
    fill_pattern(cpu.bytes(), 1);
    move(8);
    move(8, PFN_VRAM_MOVE_ASYNC);
    EXPECT_TRUE(has_pattern(cpu.bytes(), 1));
    expect_untouched();
}

} // namespace
} // namespace pfn
