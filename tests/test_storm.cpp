// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
//
// Moves as fast as the exporter can, under as much traffic as there can be:
// nothing may be lost, and everybody must get on.
#include "support/debug_kernel.hpp"
#include "support/long_run.hpp"
#include "support/modules.hpp"
#include "support/traffic.hpp"

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <functional>
#include <thread>

namespace pfn {
namespace {

constexpr std::size_t QPS = 8;
constexpr std::size_t MRS = 64;
constexpr std::uint64_t SIZE = QPS * Traffic::AREA;
/// The debug kernel takes ten times as long for a move.
const unsigned MOVES_PER_PHASE = debug_kernel() && !long_run() ? 100 : 1000;

class Storm : public RdmaTest {
  protected:
    Storm() {
        for (std::uint64_t i = 0; i < MRS; ++i) {
            const std::uint64_t iova = i << 32U;
            mrs.push_back(Mr::dmabuf(gpu.pd, buffer.fd(), 0, SIZE, iova));
            views.emplace_back(mrs.back(), iova);
        }
    }

    /// All kinds of moves in turn.
    void move(unsigned i) {
        vram.move(buffer.fd(), i % 2 ? PFN_VRAM_PLACEMENT_VRAM : PFN_VRAM_PLACEMENT_SYSTEM,
                  i % 3 ? 0 : page_chunk(), i % 5 < 2 ? PFN_VRAM_MOVE_ASYNC : 0);
    }

    /// What each queue pair has completed since @p before, which becomes now.
    static std::vector<std::uint64_t> progress(const Traffics& traffics,
                                               std::vector<std::uint64_t>& before) {
        auto now = traffics.completed();
        std::vector<std::uint64_t> done(now.size());
        std::ranges::transform(now, before, done.begin(), std::minus<>());
        before = std::move(now);
        return done;
    }

    DmaBuf buffer = vram.alloc({.size = SIZE});
    Mapping cpu = buffer.map();
    std::vector<Mr> mrs;
    std::vector<View> views;
};

TEST_F(Storm, EveryQueuePairGetsOnAndNothingIsLost) {
    const unsigned phases = long_run() ? 1000 : debug_kernel() ? 2 : 10;
    const auto before_all = vram.info();
    Traffics traffics(QPS, gpu, peer, views);
    traffics.start();
    traffics.wait_for_progress(1); // what is measured is a storm, not its start
    auto before = traffics.completed();
    std::uint64_t worst = ~std::uint64_t{0};
    unsigned moves = 0;
    for (unsigned phase = 1; phase <= phases; ++phase) {
        for (unsigned i = 0; i < MOVES_PER_PHASE; ++i)
            move(moves++);
        const auto done = progress(traffics, before);
        const auto [least, most] = std::ranges::minmax(done);
        worst = std::min(worst, least);
        if (phase % std::max(phases / 10, 1U) == 0)
            std::printf("moves %6u: a queue pair has completed %llu to %llu requests in the "
                        "last %u\n",
                        moves, static_cast<unsigned long long>(least),
                        static_cast<unsigned long long>(most), MOVES_PER_PHASE);
        ASSERT_GT(least, 0U) << "a queue pair starves after " << moves << " moves";
    }
    std::printf("at least %llu requests of each of %zu queue pairs in %u moves\n",
                static_cast<unsigned long long>(worst), QPS, MOVES_PER_PHASE);
    RecordProperty("least_requests_in_1000_moves", std::to_string(worst));
    traffics.stop();
    buffer.wait_idle(PATIENCE);
    traffics.check(cpu.bytes());

    EXPECT_EQ(moves, vram.buf_info(buffer.fd()).generation);
    EXPECT_EQ(MRS, vram.buf_info(buffer.fd()).attachments);
    std::uint64_t faults = 0;
    for (const Mr& mr : mrs) {
        const auto info = query_mr(mr);
        EXPECT_LE(info.faults, info.invalidations);
        EXPECT_LE(info.invalidations, moves);
        faults += info.faults;
    }
    // It was a storm for the MRs, too.
    EXPECT_GT(faults, moves / 10);
    vram.move(buffer.fd(), PFN_VRAM_PLACEMENT_VRAM);
    EXPECT_EQ(before_all.vram_free, vram.info().vram_free) << "old memory is still held";
}

// There is always a move on its way: a fault that waits for its end finds the
// next one begun, and must get its turn nevertheless.
TEST_F(Storm, FaultsGetTheirTurnBetweenTwoMovers) {
    const ModuleParameter slow("pfn_vram/copy_delay_ms", "2");
    Traffics traffics(QPS, gpu, peer, views);
    traffics.start();
    std::atomic<unsigned> moves = 0;
    std::string error[2];
    {
        const auto mover = [&](const std::stop_token& stop, std::string& failed) {
            try {
                while (!stop.stop_requested())
                    vram.move(buffer.fd(), PFN_VRAM_PLACEMENT_SYSTEM,
                              moves++ % 2 ? page_chunk() : 0, PFN_VRAM_MOVE_ASYNC);
            } catch (const std::exception& e) {
                failed = e.what();
            }
        };
        const std::jthread one(mover, std::ref(error[0]));
        const std::jthread two(mover, std::ref(error[1]));
        for (int phase = 0; phase < 5; ++phase)
            ASSERT_NO_THROW(traffics.wait_for_progress(64));
    }
    EXPECT_EQ("", error[0]);
    EXPECT_EQ("", error[1]);
    std::printf("5 x 64 requests of each queue pair in %u moves\n", moves.load());
    EXPECT_GT(moves.load(), 20U);
    traffics.stop();
    buffer.wait_idle(PATIENCE);
    traffics.check(cpu.bytes());
}

} // namespace
} // namespace pfn
