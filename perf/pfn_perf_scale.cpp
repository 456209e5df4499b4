// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
//
// pfn-perf-scale: what things cost when there are many: up to 64 Ki MRs on 1000 buffers,
// used through 64 QPs, and a buffer of up to 16 Ki ranges. How costs grow is fitted and
// said as an exponent: 0 for O(1), 1 for O(n).
//
// Needs rdma_rxe and pfn_vram.
#include "pair.hpp"
#include "stats.hpp"
#include "suite.hpp"
#include "trace.hpp"

#include "common/error.hpp"
#include "common/meminfo.hpp"

#include <sys/mman.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <format>
#include <functional>
#include <iterator>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

namespace pfn::perf {
namespace {

/// How the medians of a metric's variants grow with a parameter.
class Growth {
  public:
    Growth(Record& record, std::string over) : record_(record), over_(std::move(over)) {}

    /// All that @p m has is known of @p x.
    void add(double x, const Measurement& m) {
        for (const Variant& v : m.variants) {
            Line& line = lines_[m.metric][v.name];
            line.x.push_back(x);
            line.y.push_back(median(v.samples));
        }
    }
    /// Into the record, as measurements "growth".
    void fit() const {
        for (const auto& [metric, lines] : lines_) {
            Measurement& m = record_.add({.metric = "growth",
                                          .unit = "exponent",
                                          .params = {{"of", metric}, {"over", over_}},
                                          .baseline = "",
                                          .variants = {}});
            for (const auto& [variant, line] : lines) {
                const double slope = loglog_slope(line.x, line.y);
                if (std::isfinite(slope)) // too short to be measured is no growth, nor none
                    m.add(variant, slope);
            }
        }
    }

  private:
    struct Line {
        std::vector<double> x;
        std::vector<double> y;
    };
    Record& record_;
    std::string over_;
    std::map<std::string, std::map<std::string, Line>> lines_;
};

/// One kind of MR, more and more of them, each on a page of one of many buffers.
class Population {
  public:
    virtual ~Population() = default;
    Population(const Population&) = delete;
    Population& operator=(const Population&) = delete;

    [[nodiscard]] const std::string& name() const { return name_; }
    void grow(std::size_t count) {
        for (std::size_t i = 0; i < count; ++i)
            mrs_.push_back(make_mr(mrs_.size()));
    }
    void shrink(std::size_t count) {
        for (std::size_t i = 0; i < count; ++i)
            mrs_.pop_back();
    }
    [[nodiscard]] std::size_t size() const { return mrs_.size(); }
    [[nodiscard]] Remote remote(std::size_t index) const {
        return {.address = iova(index), .rkey = mrs_[index].rkey()};
    }

  protected:
    explicit Population(std::string name) : name_(std::move(name)) {}
    [[nodiscard]] virtual Mr make_mr(std::size_t index) const = 0;
    [[nodiscard]] virtual std::uint64_t iova(std::size_t index) const = 0;

  private:
    std::string name_;
    std::vector<Mr> mrs_;
};

/// Pages of this process.
class OfProcess : public Population {
  public:
    OfProcess(std::string name, const Pd& pd, std::size_t buffers, unsigned access)
        : Population(std::move(name)), pd_(pd), access_(access), buffers_(buffers),
          memory_(Mapping::anonymous(buffers * page_size())) {
        std::ranges::fill(memory_.bytes(), std::byte{1});
    }

  protected:
    [[nodiscard]] Mr make_mr(std::size_t index) const override {
        return Mr::host(pd_, page(index), access_);
    }
    [[nodiscard]] std::uint64_t iova(std::size_t index) const override {
        return reinterpret_cast<std::uint64_t>(page(index).data());
    }

  private:
    [[nodiscard]] std::span<std::byte> page(std::size_t index) const {
        return memory_.bytes().subspan(index % buffers_ * page_size(), page_size());
    }
    const Pd& pd_;
    unsigned access_;
    std::size_t buffers_;
    Mapping memory_;
};

class OfDevice : public Population {
  public:
    OfDevice(const Pd& pd, const VramDevice& vram, std::size_t buffers)
        : Population("pfn"), pd_(pd) {
        std::generate_n(std::back_inserter(buffers_), buffers, [&] {
            return vram.alloc({.size = page_size(), .placement = PFN_VRAM_PLACEMENT_SYSTEM});
        });
    }

  protected:
    [[nodiscard]] Mr make_mr(std::size_t index) const override {
        return Mr::dmabuf(pd_, buffers_[index % buffers_.size()].fd(), 0, page_size(), 0);
    }
    [[nodiscard]] std::uint64_t iova(std::size_t /*index*/) const override { return 0; }

  private:
    const Pd& pd_;
    std::vector<DmaBuf> buffers_;
};

/// Many queue pairs between the two devices.
class Lanes {
  public:
    Lanes(std::size_t count, const Pair& pair)
        : cq_(pair.peer.context.get(), static_cast<int>(2 * count)),
          source_(pair.peer.pd, page_size()) {
        for (std::size_t i = 0; i < count; ++i) {
            Lane& lane = lanes_.emplace_back(Qp(pair.gpu.context, pair.gpu.pd, pair.gpu.cq),
                                             Qp(pair.peer.context, pair.peer.pd, cq_));
            connect(lane.gpu, lane.peer);
        }
    }
    [[nodiscard]] std::size_t count() const { return lanes_.size(); }

    /// A page written on each lane, to where @p to says, and wait for all.
    void write(const std::function<Remote()>& to) const {
        for (const Lane& lane : lanes_)
            lane.peer.post_write(0, source_.sge(page_size()), to());
        for (std::size_t i = 0; i < lanes_.size(); ++i)
            complete(cq_);
    }

  private:
    struct Lane {
        Qp gpu;
        Qp peer;
    };
    Cq cq_;
    Source source_;
    std::vector<Lane> lanes_;
};

/// A buffer that moves, or memory that is taken away, under a few MRs.
class Victim {
  public:
    static constexpr std::size_t MRS = 64;

    Victim(const Pd& pd, const VramDevice& vram)
        : pd_(pd), vram_(vram),
          buffer_(vram.alloc({.size = page_size(), .placement = PFN_VRAM_PLACEMENT_SYSTEM})),
          memory_(Mapping::anonymous(page_size())) {
        for (std::size_t i = 0; i < MRS; ++i) {
            device_.push_back(Mr::dmabuf(pd, buffer_.fd(), 0, page_size(), 0));
            process_.push_back(Mr::host(pd, memory_.bytes(), FULL_ACCESS | IBV_ACCESS_ON_DEMAND));
        }
    }
    /// Microseconds to stop all use of the buffer.
    double move() const {
        prefetch(device_, 0);
        const auto move = vram_.move(buffer_.fd(), PFN_VRAM_PLACEMENT_SYSTEM);
        return static_cast<double>(move.quiesce_ns) / 1e3;
    }
    /// The same with paging.
    double drop() const {
        prefetch(process_, memory_.address());
        return time_us([&] {
            if (::madvise(memory_.bytes().data(), page_size(), MADV_DONTNEED))
                throw_errno("madvise");
        });
    }

  private:
    void prefetch(const std::vector<Mr>& mrs, std::uint64_t iova) const {
        for (const Mr& mr : mrs)
            advise(pd_, IBV_ADVISE_MR_ADVICE_PREFETCH_WRITE, IBV_ADVISE_MR_FLAG_FLUSH,
                   {{.addr = iova,
                     .length = static_cast<std::uint32_t>(page_size()),
                     .lkey = mr.lkey()}});
    }

    const Pd& pd_;
    const VramDevice& vram_;
    DmaBuf buffer_;
    Mapping memory_;
    std::vector<Mr> device_;
    std::vector<Mr> process_;
};

class Scale {
    static constexpr std::size_t CALLS = 32; ///< in a sample

  public:
    Scale(Record& record, bool quick)
        : record_(record), quick_(quick), lanes_(quick ? 8 : 64, pair_) {}

    void many_mrs() {
        const std::size_t buffers = quick_ ? 100 : 1000;
        const Pd& pd = pair_.gpu.pd;
        std::vector<std::unique_ptr<Population>> all;
        all.push_back(std::make_unique<OfProcess>("host", pd, buffers, FULL_ACCESS));
        all.push_back(
            std::make_unique<OfProcess>("odp", pd, buffers, FULL_ACCESS | IBV_ACCESS_ON_DEMAND));
        all.push_back(std::make_unique<OfDevice>(pd, vram_, buffers));
        std::vector<std::size_t> counts{256, 1024, 4096};
        if (!quick_)
            counts = {1024, 4096, 16384, 65536};

        const Victim victim(pd, vram_);
        Growth growth(record_, "MRs");
        for (const std::size_t count : counts) {
            progress(std::format("{} MRs of each kind, on {} buffers", count, buffers));
            fill(all, count);
            with_so_many(all, victim, count, growth);
        }
        growth.fit();
    }

    void many_ranges() {
        const std::uint64_t size = quick_ ? 16 * MIB : 64 * MIB;
        Growth growth(record_, "ranges");
        for (std::uint64_t ranges = size / MIB; ranges <= size / page_size(); ranges *= 4) {
            progress(std::format("a buffer of {} ranges", ranges));
            with_so_many_ranges(size, ranges, growth);
        }
        growth.fit();
    }

  private:
    Measurement& begin(const char* metric, const char* unit, const char* parameter,
                       std::uint64_t value, const char* baseline) {
        return record_.add({.metric = metric,
                            .unit = unit,
                            .params = {{parameter, static_cast<std::int64_t>(value)}},
                            .baseline = baseline,
                            .variants = {}});
    }

    /// Until there are @p count of each, and see what that takes.
    void fill(const std::vector<std::unique_ptr<Population>>& all, std::size_t count) {
        Measurement& bytes = begin("mr_bytes", "B", "mrs", count, "host");
        for (const auto& p : all) {
            const std::size_t more = count - p->size();
            const auto before = static_cast<double>(read_meminfo().slab_unreclaimable);
            p->grow(more);
            if (more < 2048) // slabs are whole pages, and have room
                continue;
            const auto after = static_cast<double>(read_meminfo().slab_unreclaimable);
            bytes.add(p->name(), std::max(after - before, 0.0) / static_cast<double>(more));
        }
    }

    void with_so_many(const std::vector<std::unique_ptr<Population>>& all, const Victim& victim,
                      std::size_t count, Growth& growth) {
        Measurement& reg = begin("reg", "us", "mrs", count, "host");
        Measurement& dereg = begin("dereg", "us", "mrs", count, "host");
        Measurement& write = begin("write", "us", "mrs", count, "host");
        Measurement& quiesce = begin("quiesce_64_mrs", "us", "mrs", count, "odp");
        const std::size_t rounds = quick_ ? 5 : 15;
        by_turns(rounds, all.size(), [&](std::size_t i) {
            Population& p = *all[i];
            reg.add(p.name(), time_us([&] { p.grow(CALLS); }) / CALLS);
            dereg.add(p.name(), time_us([&] { p.shrink(CALLS); }) / CALLS);
            std::uniform_int_distribution<std::size_t> any(0, p.size() - 1);
            write.add(p.name(), time_us([&] {
                                    lanes_.write([&] { return p.remote(any(random_)); });
                                }) / static_cast<double>(lanes_.count()));
        });
        by_turns(rounds, 2, [&](std::size_t i) {
            if (i == 0)
                quiesce.add("odp", victim.drop());
            else
                quiesce.add("pfn", victim.move());
        });
        for (const Measurement* m : {&reg, &dereg, &write, &quiesce})
            growth.add(static_cast<double>(count), *m);
    }

    void with_so_many_ranges(std::uint64_t size, std::uint64_t ranges, Growth& growth) {
        const Pd& pd = pair_.gpu.pd;
        Measurement& reg = begin("reg", "us", "ranges", ranges, "");
        Measurement& write = begin("write", "us", "ranges", ranges, "");
        Measurement& importer = begin("importer_bytes", "B", "ranges", ranges, "");
        Measurement& exporter = begin("exporter_bytes", "B", "ranges", ranges, "");
        for (unsigned round = 0; round < (quick_ ? 3U : 9U); ++round) {
            const DmaBuf buffer = vram_.alloc(
                {.size = size, .chunk = size / ranges, .placement = PFN_VRAM_PLACEMENT_SYSTEM});
            const auto make = [&] { return Mr::dmabuf(pd, buffer.fd(), 0, size, 0); };
            reg.add("pfn-first", time_us([&] { (void)make(); }));
            std::vector<Mr> mrs(CALLS);
            trace_.start();
            std::ranges::generate(mrs, make);
            trace_.stop();
            importer.add("pfn", static_cast<double>(trace_.kept().bytes()) / CALLS);
            exporter.add("pfn", static_cast<double>(vram_.buf_info(buffer.fd()).metadata_bytes));
            reg.add("pfn", time_us([&] {
                               for (std::size_t i = 0; i < CALLS; ++i)
                                   (void)make();
                           }) / CALLS);
            write.add("pfn", time_us([&] { write_anywhere(mrs.front(), size); }) /
                                 static_cast<double>(lanes_.count()));
        }
        for (const Measurement* m : {&reg, &write, &importer, &exporter})
            growth.add(static_cast<double>(ranges), *m);
    }

    void write_anywhere(const Mr& mr, std::uint64_t size) {
        std::uniform_int_distribution<std::uint64_t> any(0, size - page_size());
        lanes_.write([&] { return Remote{.address = any(random_), .rkey = mr.rkey()}; });
    }

    Record& record_;
    bool quick_;
    VramDevice vram_;
    Pair pair_;
    Lanes lanes_;
    Trace trace_;
    std::mt19937_64 random_; // NOLINT(cert-msc32-c,cert-msc51-cpp): the same every time
};

void measure(Record& record, bool quick) {
    Scale scale(record, quick);
    scale.many_mrs();
    scale.many_ranges();
}

} // namespace
} // namespace pfn::perf

int main(int argc, char** argv) {
    return pfn::perf::suite_main(argc, argv,
                                 {.name = "scale",
                                  .what = "What things cost when there are many",
                                  .measure = pfn::perf::measure});
}
