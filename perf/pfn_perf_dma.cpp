// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
//
// pfn-perf-dma: what it costs to let a device see a dma-buf, by ranges
// (ib_umem_pfn) and by scatterlist (ib_umem_dmabuf), for the same buffer and the
// same device. Needs the modules pfn_edu and pfn_vram.
//
// Time: both ways by turns (PFN_EDU_IOC_COMPARE). Memory and the IOMMU's work: one way
// alone, in passes of their own, as counting takes time (PFN_EDU_IOC_HOLD, trace.hpp).
#include "record.hpp"
#include "trace.hpp"

#include "common/edu.hpp"
#include "common/error.hpp"
#include "common/vram.hpp"

#include <CLI/CLI.hpp>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <exception>
#include <format>
#include <iostream>
#include <string>
#include <utility>
#include <vector>

namespace pfn {
namespace {

constexpr std::uint64_t KIB = 1024;
constexpr std::uint64_t MIB = 1024 * KIB;
constexpr std::uint64_t GIB = 1024 * MIB;

/// What the kernel's tracepoints say of one mapping.
struct Counted {
    std::uint64_t bytes = 0;       ///< kernel memory while it is mapped
    std::uint64_t iotlb_map = 0;   ///< IOTLB invalidations to map it
    std::uint64_t iotlb_unmap = 0; ///< and to unmap it
};

/// One of the two ways.
struct Cost {
    pfn_edu_cost timed;
    Counted counted; ///< unless timed.error
};

struct Row {
    std::string memory;
    std::uint64_t size;
    std::uint64_t ranges;
    Cost pfn;
    Cost sg;
};

std::string bytes_text(std::uint64_t bytes) {
    static constexpr const char* UNITS[] = {"B", "KiB", "MiB", "GiB", "TiB"};
    std::size_t unit = 0;
    auto value = static_cast<double>(bytes);
    for (; value >= 1024 && unit + 1 < std::size(UNITS); unit++)
        value /= 1024;
    return std::format("{:.{}f} {}", value, value < 10 && unit > 0 ? 1 : 0, UNITS[unit]);
}

std::string time_text(std::uint64_t ns) {
    if (ns < 1'000'000)
        return std::format("{:.1f} us", static_cast<double>(ns) / 1e3);
    return std::format("{:.1f} ms", static_cast<double>(ns) / 1e6);
}

/// How many times cheaper ours is; below 1 it is dearer.
std::string ratio_text(std::uint64_t sg, std::uint64_t ours) {
    if (ours == 0)
        return "-";
    const double ratio = static_cast<double>(sg) / static_cast<double>(ours);
    return std::format("{:.{}f}", ratio, ratio < 100 ? 2 : 0);
}

std::string error_text(int error) {
    return std::string(error < 0 ? strerrorname_np(-error) : "");
}

class Report {
  public:
    Report(std::uint32_t rounds, std::uint64_t max_size) : rounds_(rounds), max_size_(max_size) {}

    void system_memory() {
        for (const std::uint64_t size : {2 * MIB, 64 * MIB, 256 * MIB, GIB}) {
            for (const std::uint64_t chunk : {std::uint64_t{0}, 64 * KIB, 4 * KIB})
                buffer("RAM", size, chunk, PFN_VRAM_PLACEMENT_SYSTEM);
        }
    }

    void peer_memory() {
        if (vram_.info().backend != PFN_VRAM_BACKEND_BAR)
            return;
        for (const std::uint64_t size : {2 * MIB, 32 * MIB}) {
            for (const std::uint64_t chunk : {std::uint64_t{0}, 64 * KIB, 4 * KIB})
                buffer("BAR", size, chunk, PFN_VRAM_PLACEMENT_VRAM);
        }
        const DmaBuf like = vram_.alloc({.size = page_size()});
        for (const std::uint64_t ranges : {1ULL, 64ULL, 1024ULL, 65536ULL})
            synthetic(like, ranges, (1ULL << 40) / ranges);
    }

    void print() const {
        std::cout << std::format("{:23}  {:^44}  {:^44}  {:^28}\n", "", "by ranges (ib_umem_pfn)",
                                 "by scatterlist (ib_umem_dmabuf)", "scatterlist : ranges")
                  << std::format("{:<6}{:>9}{:>8}  ", "memory", "size", "ranges")
                  << std::format(
                         "{0:>9}{1:>10}{2:>10}{3:>7}{4:>8}  {0:>9}{1:>10}{2:>10}{3:>7}{4:>8}  ",
                         "map", "unmap", "memory", "IOTLB", "pieces")
                  << std::format("{:>6}{:>7}{:>8}{:>7}\n", "map", "unmap", "memory", "IOTLB");
        for (const Row& row : rows_)
            print_row(row);
        std::cout << "Times: the least of all rounds. Memory: what the kernel allocates for a "
                     "mapping and keeps, measured by its\ntracepoints; without the IOMMU's page "
                     "tables, which are the same. "
                  << (has_iommu_ ? "IOTLB: invalidations to map + to unmap.\n"
                                 : "IOTLB: there is no IOMMU, and nothing to do.\n")
                  << "Pieces: DMA addresses that a driver has to look at.\n";
    }

    [[nodiscard]] const perf::Record& record() const { return record_; }
    [[nodiscard]] bool failed() const { return failed_; }

  private:
    void buffer(const char* memory, std::uint64_t size, std::uint64_t chunk,
                std::uint32_t placement) {
        if (size > max_size_)
            return;
        const DmaBuf buffer = vram_.alloc(
            {.size = size, .chunk = chunk, .placement = placement, .caps = PFN_VRAM_CAP_PIN});
        add(memory, size, vram_.buf_info(buffer.fd()).ranges, buffer.fd(), buffer.fd());
    }

    void synthetic(const DmaBuf& like, std::uint64_t ranges, std::uint64_t size) {
        const auto pair = edu_.synthetic(like.fd(), ranges, size);
        add("none", ranges * size, ranges, pair.ranges.get(), pair.scatterlist.get());
    }

    void add(const char* memory, std::uint64_t size, std::uint64_t ranges, int pfn_fd, int sg_fd) {
        const auto begin = [&](const char* metric, const char* unit) -> perf::Measurement& {
            return record_.add({.metric = metric,
                                .unit = unit,
                                .params = {{"memory", memory},
                                           {"size", static_cast<std::int64_t>(size)},
                                           {"ranges", static_cast<std::int64_t>(ranges)},
                                           {"iommu", has_iommu_ ? "on" : "off"}},
                                .baseline = "sg",
                                .variants = {}});
        };
        perf::Measurement& map = begin("dma_map", "us");
        perf::Measurement& unmap = begin("dma_unmap", "us");
        Row row{.memory = memory, .size = size, .ranges = ranges, .pfn = {}, .sg = {}};
        for (std::uint32_t round = 0; round < rounds_; round++) {
            const pfn_edu_compare timed = edu_.compare(pfn_fd, sg_fd, 1);
            failed_ = failed_ || timed.pfn.error != 0;
            add_round(map, unmap, "sg", timed.sg, row.sg.timed, round);
            add_round(map, unmap, "pfn", timed.pfn, row.pfn.timed, round);
        }
        row.pfn = count(row.pfn.timed, pfn_fd, PFN_EDU_BY_RANGES);
        row.sg = count(row.sg.timed, sg_fd, PFN_EDU_BY_SCATTERLIST);
        perf::Measurement& bytes = begin("dma_bytes", "B");
        perf::Measurement& computed = begin("dma_computed_bytes", "B");
        perf::Measurement& iotlb = begin("dma_iotlb_invalidations", "times");
        perf::Measurement& pieces = begin("dma_pieces", "pieces");
        for (const auto& [variant, cost] : {std::pair("sg", &row.sg), std::pair("pfn", &row.pfn)}) {
            if (cost->timed.error != 0)
                continue;
            bytes.add(variant, static_cast<double>(cost->counted.bytes));
            computed.add(variant, static_cast<double>(cost->timed.bytes));
            pieces.add(variant, static_cast<double>(cost->timed.extents));
            if (has_iommu_ && trace_.knows_iotlb())
                iotlb.add(variant,
                          static_cast<double>(cost->counted.iotlb_map + cost->counted.iotlb_unmap));
        }
        rows_.push_back(std::move(row));
    }

    /// Into @p least, too, which is what the table shows.
    static void add_round(perf::Measurement& map, perf::Measurement& unmap, const char* variant,
                          const pfn_edu_cost& timed, pfn_edu_cost& least, std::uint32_t round) {
        if (timed.error == 0) {
            map.add(variant, static_cast<double>(timed.map_ns) / 1e3);
            unmap.add(variant, static_cast<double>(timed.unmap_ns) / 1e3);
        }
        const pfn_edu_cost before = round == 0 ? timed : least;
        least = timed;
        least.map_ns = std::min(before.map_ns, timed.map_ns);
        least.unmap_ns = std::min(before.unmap_ns, timed.unmap_ns);
    }

    Cost count(const pfn_edu_cost& timed, int fd, pfn_edu_way way) {
        constexpr std::uint32_t MAPPINGS = 2;
        Cost cost{.timed = timed, .counted = {}};
        if (timed.error != 0)
            return cost;
        edu_.hold(fd, way, 1); // what all mappings share is there then
        trace_.start();
        edu_.hold(fd, way, MAPPINGS);
        trace_.stop();
        cost.counted.bytes = trace_.kept().bytes() / MAPPINGS;
        cost.counted.iotlb_map = trace_.iotlb_invalidations() / MAPPINGS;
        trace_.start();
        edu_.drop();
        trace_.stop();
        cost.counted.iotlb_unmap = trace_.iotlb_invalidations() / (MAPPINGS + 1);
        return cost;
    }

    /// Does one translate what the device does?
    [[nodiscard]] bool find_iommu() const {
        const DmaBuf buffer =
            vram_.alloc({.size = page_size(), .placement = PFN_VRAM_PLACEMENT_SYSTEM});
        const auto id = edu_.import(buffer.fd(), 0, buffer.size());
        edu_.map(id);
        const bool found = edu_.query(id).bus == PFN_EDU_IOVA;
        edu_.release(id);
        return found;
    }

    void print_row(const Row& row) const {
        const Cost& p = row.pfn;
        const Cost& s = row.sg;
        std::cout << std::format("{:<6}{:>9}{:>8}  ", row.memory, bytes_text(row.size), row.ranges)
                  << cost_text(p) << "  " << cost_text(s) << "  ";
        if (p.timed.error == 0 && s.timed.error == 0)
            std::cout << std::format("{:>6}{:>7}{:>8}{:>7}",
                                     ratio_text(s.timed.map_ns, p.timed.map_ns),
                                     ratio_text(s.timed.unmap_ns, p.timed.unmap_ns),
                                     ratio_text(s.counted.bytes, p.counted.bytes),
                                     ratio_text(s.counted.iotlb_map + s.counted.iotlb_unmap,
                                                p.counted.iotlb_map + p.counted.iotlb_unmap));
        std::cout << "\n";
    }

    [[nodiscard]] std::string iotlb_text(const Counted& c) const {
        if (!has_iommu_)
            return "-";
        return trace_.knows_iotlb() ? std::format("{}+{}", c.iotlb_map, c.iotlb_unmap) : "?";
    }

    [[nodiscard]] std::string cost_text(const Cost& c) const {
        if (c.timed.error != 0)
            return std::format("{:>44}", "fails: " + error_text(c.timed.error));
        return std::format("{:>9}{:>10}{:>10}{:>7}{:>8}", time_text(c.timed.map_ns),
                           time_text(c.timed.unmap_ns), bytes_text(c.counted.bytes),
                           iotlb_text(c.counted), static_cast<std::uint64_t>(c.timed.extents));
    }

    std::uint32_t rounds_;
    std::uint64_t max_size_;
    VramDevice vram_;
    EduDevice edu_;
    Trace trace_;
    bool has_iommu_ = find_iommu();
    perf::Record record_{"dma"};
    std::vector<Row> rows_;
    bool failed_ = false;
};

int run(int argc, char** argv) {
    CLI::App app("Mapping a dma-buf for a device: by ranges against by scatterlist");
    std::uint32_t rounds = 20;
    std::uint64_t max_mib = 1024;
    bool quick = false;
    std::string json;
    app.add_option("--rounds", rounds, "times each way is measured, by turns")
        ->check(CLI::Range(1, 1000))
        ->capture_default_str();
    app.add_option("--max-mib", max_mib, "largest buffer in RAM")->capture_default_str();
    app.add_option("--json", json, "write all samples to this file");
    app.add_flag("--quick", quick, "as --rounds 3 --max-mib 64");
    CLI11_PARSE(app, argc, argv);
    if (quick) {
        rounds = 3;
        max_mib = 64;
    }

    Report report(rounds, max_mib * MIB);
    report.system_memory();
    report.peer_memory();
    report.print();
    report.record().write_json(json);
    return report.failed() ? 1 : 0;
}

} // namespace
} // namespace pfn

int main(int argc, char** argv) {
    try {
        return pfn::run(argc, argv);
    } catch (const std::exception& e) {
        std::cerr << "pfn-perf-dma: " << e.what() << "\n";
        return 1;
    }
}
