// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
//
// pfn-perf-move: what it costs when memory moves under MRs: to stop all use of the old
// place, to fault the new one in, and what a stream of writes loses meanwhile. Dma-bufs
// that their exporter moves, against memory of a process that is paged on demand
// (movable.hpp says how that "moves").
//
// Needs rdma_rxe and pfn_vram; a BAR for the variant pfn-bar.
#include "movable.hpp"
#include "pair.hpp"
#include "suite.hpp"

#include "common/error.hpp"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <exception>
#include <format>
#include <functional>
#include <iterator>
#include <thread>

namespace pfn::perf {
namespace {

using Movables = std::vector<std::unique_ptr<Movable>>;

constexpr const char* BASELINE = "odp-remap";

Measurement measurement(const char* metric, const char* parameter, std::uint64_t value) {
    return {.metric = metric,
            .unit = "us",
            .params = {{parameter, static_cast<std::int64_t>(value)}},
            .baseline = BASELINE,
            .variants = {}};
}

/// Bring all of @p mr in, as an access would, and wait for that.
void prefetch(const Pd& pd, const Mr& mr, std::uint64_t iova, std::uint64_t size) {
    advise(pd, IBV_ADVISE_MR_ADVICE_PREFETCH_WRITE, IBV_ADVISE_MR_FLAG_FLUSH,
           {{.addr = iova, .length = static_cast<std::uint32_t>(size), .lkey = mr.lkey()}});
}

/// A thread of writes by the peer, several in flight.
class Stream {
  public:
    static constexpr std::size_t LENGTH = 4 * KIB;

    Stream(const Endpoint& peer, const Source& source, const Mr& mr, std::uint64_t iova,
           std::uint64_t size)
        : thread_([&, iova, size, rkey = mr.rkey()](const std::stop_token& stop) {
              run(stop, peer, source.sge(LENGTH), {.address = iova, .rkey = rkey}, size);
          }) {}

    /// Writes completed so far. Throws if one has failed.
    [[nodiscard]] std::uint64_t completed() const {
        if (failed_)
            std::rethrow_exception(error_);
        return completed_;
    }
    /// Wait until @p more have been completed.
    void wait_for(std::uint64_t more) const {
        const auto until = completed() + more;
        const auto deadline = std::chrono::steady_clock::now() + PATIENCE;
        while (completed() < until) {
            if (std::chrono::steady_clock::now() > deadline)
                throw Timeout("a stream of writes does not go on");
            std::this_thread::sleep_for(std::chrono::milliseconds(1));
        }
    }

  private:
    static constexpr unsigned IN_FLIGHT = 16;

    void run(const std::stop_token& stop, const Endpoint& peer, const ibv_sge& local, Remote first,
             std::uint64_t size) {
        try {
            std::uint64_t posted = 0;
            const auto post = [&] {
                const Remote to{.address = first.address + posted * LENGTH % size,
                                .rkey = first.rkey};
                peer.qp.post_write(posted++, local, to);
            };
            for (unsigned i = 0; i < IN_FLIGHT; ++i)
                post();
            for (std::uint64_t done = 0; done < posted; ++done) {
                complete(peer.cq);
                ++completed_;
                if (!stop.stop_requested())
                    post();
            }
        } catch (...) {
            error_ = std::current_exception();
            failed_ = true;
        }
    }

    std::atomic<std::uint64_t> completed_{0};
    std::exception_ptr error_; ///< if failed_
    std::atomic<bool> failed_{false};
    std::jthread thread_;
};

class Moves {
  public:
    Moves(Record& record, bool quick) : record_(record), quick_(quick) {}

    void faults() {
        for (const std::uint64_t access : {4 * KIB, 64 * KIB, 1 * MIB})
            faults(access);
        for (const std::uint64_t size : {4 * KIB, 64 * KIB, 1 * MIB})
            prefetches(size);
    }

    void quiescing() {
        std::vector<std::uint64_t> counts{1, 100, 1000};
        if (!quick_)
            counts = {1, 10, 100, 1000, 10000};
        for (const auto count : counts)
            quiescing(count);
    }

    void traffic() {
        constexpr std::uint64_t SIZE = 1 * MIB;
        progress("a stream of writes that is moved under");
        Measurement& lost = record_.add(measurement("lost_per_move", "size", SIZE));
        const Movables movables = all_movable(vram_, SIZE);
        const Source source(pair_.peer.pd, Stream::LENGTH);
        by_turns(quick_ ? 3 : 7, movables.size(), [&](std::size_t i) {
            lost.add(movables[i]->name(), lost_us(*movables[i], source, SIZE));
        });
    }

  private:
    /// The first write after a move, less the one after it.
    void faults(std::uint64_t access) {
        constexpr std::uint64_t SIZE = 1 * MIB;
        progress(std::format("the first write of {} after a move", size_name(access)));
        Measurement& fault = record_.add(measurement("fault", "access", access));
        Measurement& warm = record_.add(measurement("write", "access", access));
        const Movables movables = all_movable(vram_, SIZE);
        const Source source(pair_.peer.pd, access);
        std::vector<Mr> mrs;
        for (const auto& m : movables)
            mrs.push_back(m->make_mr(pair_.gpu.pd));

        const std::size_t rounds = access > 64 * KIB ? 20 : 100;
        by_turns(quick_ ? 7 : rounds, movables.size(), [&](std::size_t i) {
            Movable& m = *movables[i];
            const Remote to{.address = m.iova(), .rkey = mrs[i].rkey()};
            const auto once = [&] { write(pair_.peer, source.sge(access), to); };
            m.prepare();
            once();
            m.take();
            m.settle();
            const double first = time_us(once);
            const double second = time_us(once);
            fault.add(m.name(), first - second);
            warm.add(m.name(), second);
        });
    }

    /// The same without a network in it: how long it takes to bring an MR in.
    void prefetches(std::uint64_t size) {
        progress(std::format("bringing {} in after a move", size_name(size)));
        Measurement& in = record_.add(measurement("prefetch", "size", size));
        const Movables movables = all_movable(vram_, size);
        std::vector<Mr> mrs;
        for (const auto& m : movables)
            mrs.push_back(m->make_mr(pair_.gpu.pd));

        by_turns(quick_ ? 7 : 200, movables.size(), [&](std::size_t i) {
            Movable& m = *movables[i];
            m.prepare();
            prefetch(pair_.gpu.pd, mrs[i], m.iova(), size); // the peer's way to here is warm
            m.take();
            m.settle();
            in.add(m.name(), time_us([&] { prefetch(pair_.gpu.pd, mrs[i], m.iova(), size); }));
        });
    }

    /// With so many MRs on the memory, all of them in use.
    void quiescing(std::uint64_t count) {
        constexpr std::uint64_t SIZE = 16 * KIB;
        progress(std::format("stopping {} MRs", count));
        Measurement& quiesce = record_.add(measurement("quiesce", "mrs", count));
        Measurement& each = record_.add(measurement("quiesce_per_mr", "mrs", count));
        const std::size_t rounds = std::clamp<std::size_t>((quick_ ? 300 : 20000) / count, 3, 100);
        const Movables movables = all_movable(vram_, SIZE);
        std::vector<std::vector<Mr>> mrs(movables.size());
        for (std::size_t i = 0; i < movables.size(); ++i)
            std::generate_n(std::back_inserter(mrs[i]), count,
                            [&] { return movables[i]->make_mr(pair_.gpu.pd); });

        by_turns(rounds, movables.size(), [&](std::size_t i) {
            Movable& m = *movables[i];
            m.prepare();
            for (const Mr& mr : mrs[i])
                prefetch(pair_.gpu.pd, mr, m.iova(), SIZE);
            const double us = m.take();
            m.settle();
            quiesce.add(m.name(), us);
            each.add(m.name(), us / static_cast<double>(count));
        });
    }

    /// Microseconds' worth of a stream that a move costs it, those included that the
    /// bytes take to get to their new place, if they are copied.
    double lost_us(Movable& m, const Source& source, std::uint64_t size) const {
        constexpr std::chrono::milliseconds WINDOW{10};
        const unsigned moves = quick_ ? 4 : 10;
        const Mr mr = m.make_mr(pair_.gpu.pd);
        const Stream stream(pair_.peer, source, mr, m.iova(), size);
        stream.wait_for(2 * size / Stream::LENGTH); // all of it is there then

        struct Slice {
            double us = 0;
            double writes = 0;
        };
        const auto watch = [&](Slice& slice, const std::function<void()>& begin) {
            const auto before = stream.completed();
            slice.us += time_us([&] {
                begin();
                std::this_thread::sleep_for(WINDOW);
            });
            slice.writes += static_cast<double>(stream.completed() - before);
        };
        Slice quiet;
        Slice moved;
        for (unsigned i = 0; i < moves; ++i) {
            m.prepare();
            stream.wait_for(size / Stream::LENGTH);
            watch(quiet, [] {});
            watch(moved, [&] { m.take(); });
            m.settle();
        }
        if (quiet.writes == 0)
            throw Timeout("a stream of writes stood still");
        return (moved.us - moved.writes * quiet.us / quiet.writes) / moves;
    }

    Record& record_;
    bool quick_;
    VramDevice vram_;
    Pair pair_;
};

void measure(Record& record, bool quick) {
    Moves moves(record, quick);
    moves.faults();
    moves.quiescing();
    moves.traffic();
}

} // namespace
} // namespace pfn::perf

int main(int argc, char** argv) {
    return pfn::perf::suite_main(argc, argv,
                                 {.name = "move",
                                  .what = "What it costs when memory moves under MRs",
                                  .measure = pfn::perf::measure});
}
