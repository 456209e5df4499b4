// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
//
// pfn-perf-dma: what it costs to let a device see a dma-buf, by ranges
// (ib_umem_pfn) and by scatterlist (ib_umem_dmabuf), for the same buffer and the
// same device, by turns. Needs the modules pfn_edu and pfn_vram; see
// PFN_EDU_IOC_COMPARE for what is measured.
#include "common/edu.hpp"
#include "common/error.hpp"
#include "common/vram.hpp"

#include <CLI/CLI.hpp>

#include <cstdint>
#include <cstring>
#include <exception>
#include <format>
#include <fstream>
#include <iostream>
#include <string>
#include <vector>

namespace pfn {
namespace {

constexpr std::uint64_t KIB = 1024;
constexpr std::uint64_t MIB = 1024 * KIB;
constexpr std::uint64_t GIB = 1024 * MIB;

struct Row {
    std::string memory;
    std::uint64_t size;
    std::uint64_t ranges;
    std::uint32_t rounds;
    pfn_edu_compare result;
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
        std::cout << std::format("{:23}  {:^37}  {:^37}  {:^20}\n", "", "by ranges (ib_umem_pfn)",
                                 "by scatterlist (ib_umem_dmabuf)", "scatterlist : ranges")
                  << std::format("{:<6}{:>9}{:>8}  {:>9}{:>10}{:>10}{:>8}  {:>9}{:>10}{:>10}{:>8}  "
                                 "{:>6}{:>7}{:>7}\n",
                                 "memory", "size", "ranges", "map", "unmap", "memory", "pieces",
                                 "map", "unmap", "memory", "pieces", "map", "unmap", "memory");
        for (const Row& row : rows_)
            print_row(row);
        std::cout << "Times: the least of all rounds. Memory: the kernel's while mapped, computed "
                     "from what is allocated and\nnot measured, without the IOMMU's page "
                     "tables, which are the same. Pieces: DMA addresses that a "
                     "driver has to look at.\n";
    }

    void write_json(std::ostream& out) const {
        out << "[";
        for (std::size_t i = 0; i < rows_.size(); i++) {
            const Row& row = rows_[i];
            out << (i ? ",\n " : "\n ")
                << std::format(R"({{"memory":"{}","size":{},"ranges":{},"rounds":{},)", row.memory,
                               row.size, row.ranges, row.rounds);
            json_cost(out, "pfn", row.result.pfn);
            out << ",";
            json_cost(out, "sg", row.result.sg);
            out << "}";
        }
        out << "\n]\n";
    }

    [[nodiscard]] bool failed() const { return failed_; }

  private:
    void buffer(const char* memory, std::uint64_t size, std::uint64_t chunk,
                std::uint32_t placement) {
        if (size > max_size_)
            return;
        const DmaBuf buffer = vram_.alloc(
            {.size = size, .chunk = chunk, .placement = placement, .caps = PFN_VRAM_CAP_PIN});
        add({.memory = memory,
             .size = size,
             .ranges = vram_.buf_info(buffer.fd()).ranges,
             .rounds = rounds_,
             .result = edu_.compare(buffer.fd(), buffer.fd(), rounds_)});
    }

    void synthetic(const DmaBuf& like, std::uint64_t ranges, std::uint64_t size) {
        const auto pair = edu_.synthetic(like.fd(), ranges, size);
        add({.memory = "none",
             .size = ranges * size,
             .ranges = ranges,
             .rounds = rounds_,
             .result = edu_.compare(pair.ranges.get(), pair.scatterlist.get(), rounds_)});
    }

    void add(const Row& row) {
        failed_ = failed_ || row.result.pfn.error != 0;
        rows_.push_back(row);
    }

    static void print_row(const Row& row) {
        const pfn_edu_cost& p = row.result.pfn;
        const pfn_edu_cost& s = row.result.sg;
        std::cout << std::format("{:<6}{:>9}{:>8}  ", row.memory, bytes_text(row.size), row.ranges)
                  << cost_text(p) << "  " << cost_text(s) << "  ";
        if (p.error == 0 && s.error == 0)
            std::cout << std::format("{:>6}{:>7}{:>7}", ratio_text(s.map_ns, p.map_ns),
                                     ratio_text(s.unmap_ns, p.unmap_ns),
                                     ratio_text(s.bytes, p.bytes));
        std::cout << "\n";
    }

    static std::string cost_text(const pfn_edu_cost& c) {
        if (c.error != 0)
            return std::format("{:>37}", "fails: " + error_text(c.error));
        return std::format("{:>9}{:>10}{:>10}{:>8}", time_text(c.map_ns), time_text(c.unmap_ns),
                           bytes_text(c.bytes), static_cast<std::uint64_t>(c.extents));
    }

    static void json_cost(std::ostream& out, const char* name, const pfn_edu_cost& c) {
        out << std::format(R"("{}":{{"error":{},"map_ns":{},"map_ns_sum":{},"unmap_ns":{},)", name,
                           static_cast<int>(c.error), static_cast<std::uint64_t>(c.map_ns),
                           static_cast<std::uint64_t>(c.map_ns_sum),
                           static_cast<std::uint64_t>(c.unmap_ns))
            << std::format(R"("unmap_ns_sum":{},"extents":{},"bytes":{}}})",
                           static_cast<std::uint64_t>(c.unmap_ns_sum),
                           static_cast<std::uint64_t>(c.extents),
                           static_cast<std::uint64_t>(c.bytes));
    }

    std::uint32_t rounds_;
    std::uint64_t max_size_;
    VramDevice vram_;
    EduDevice edu_;
    std::vector<Row> rows_;
    bool failed_ = false;
};

int run(int argc, char** argv) {
    CLI::App app("Mapping a dma-buf for a device: by ranges against by scatterlist");
    std::uint32_t rounds = 20;
    std::uint64_t max_mib = 1024;
    std::string json;
    app.add_option("--rounds", rounds, "times each way is measured, by turns")
        ->check(CLI::Range(1, 1000))
        ->capture_default_str();
    app.add_option("--max-mib", max_mib, "largest buffer in RAM")->capture_default_str();
    app.add_option("--json", json, "write all figures to this file");
    CLI11_PARSE(app, argc, argv);

    Report report(rounds, max_mib * MIB);
    report.system_memory();
    report.peer_memory();
    report.print();
    if (!json.empty()) {
        std::ofstream out(json);
        report.write_json(out);
        if (!out.flush())
            throw_errno("write " + json);
    }
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
