// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
//
// pfn-perf-reg: what ibv_reg_mr() of ordinary memory costs with transparent
// registration and without, by turns, in one process; and what it costs to register
// a dma-buf by address and by descriptor. Needs rdma_rxe, pfn_vram, and root, since it
// switches rdma_rxe's parameter transparent_dmabuf, which it sets back.
#include "common/error.hpp"
#include "common/verbs.hpp"
#include "common/vram.hpp"

#include <CLI/CLI.hpp>
#include <sys/mman.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <exception>
#include <format>
#include <fstream>
#include <functional>
#include <iostream>
#include <string>
#include <thread>
#include <vector>

namespace pfn {
namespace {

constexpr std::uint64_t KIB = 1024;
constexpr std::uint64_t MIB = 1024 * KIB;

/// The parameter of rdma_rxe, as it was before at the end.
class Switch {
  public:
    Switch() {
        if (!std::getline(std::ifstream(PATH), before_))
            throw_errno("read " + std::string(PATH));
    }
    ~Switch() { std::ofstream(PATH) << before_; }
    Switch(const Switch&) = delete;
    Switch& operator=(const Switch&) = delete;

    static void set(bool on) {
        std::ofstream out(PATH);
        out << (on ? "1" : "0") << std::flush;
        if (!out)
            throw_errno("write " + std::string(PATH));
    }

  private:
    static constexpr const char* PATH = "/sys/module/rdma_rxe/parameters/transparent_dmabuf";
    std::string before_;
};

/// One of two ways to do the same.
struct Way {
    bool transparent; ///< with the parameter on
    std::function<Mr()> reg;
};

/// Nanoseconds that each of @p calls registrations takes, after one that is not
/// counted; nor is deregistering.
void time_ns(const Way& way, std::uint32_t calls, std::vector<double>& out) {
    using Clock = std::chrono::steady_clock;
    Switch::set(way.transparent);
    (void)way.reg();
    for (std::uint32_t i = 0; i < calls; ++i) {
        const auto start = Clock::now();
        const Mr mr = way.reg();
        out.push_back(std::chrono::duration<double, std::nano>(Clock::now() - start).count());
    }
}

double median(std::vector<double> values) {
    const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
    std::ranges::nth_element(values, middle);
    return *middle;
}

/// Two ways to do the same, measured by turns.
struct Row {
    std::string memory;
    std::uint64_t size;
    double with_ns; ///< medians
    double without_ns;

    [[nodiscard]] double ratio() const { return with_ns / without_ns; }
};

/// Mappings beside those that are registered, so that there is something to search.
class Crowd {
  public:
    explicit Crowd(std::size_t count) : memory_(Mapping::anonymous(2 * count * page_size())) {
        for (std::size_t i = 0; i < count; ++i) {
            if (::mprotect(memory_.bytes().data() + 2 * i * page_size(), page_size(), PROT_READ))
                throw_errno("mprotect");
        }
    }

  private:
    Mapping memory_;
};

/// A thread that changes the address space all the time.
class Mapper {
  public:
    Mapper()
        : thread_([](const std::stop_token& stop) {
              while (!stop.stop_requested()) {
                  const Mapping memory = Mapping::anonymous(256 * KIB);
                  std::ranges::fill(memory.bytes(), std::byte{1});
              }
          }) {}

  private:
    std::jthread thread_;
};

class Report {
  public:
    Report(const std::string& device, std::uint32_t turns, std::uint32_t calls)
        : turns_(turns), calls_(calls), context_(device), pd_(context_.get()) {}

    /// The cost of looking for a dma-buf where there is none.
    void ordinary(std::uint64_t size, const std::string& memory = "ordinary") {
        const Mapping mapping = Mapping::anonymous(size);
        std::ranges::fill(mapping.bytes(), std::byte{1});
        const auto reg = [&] { return Mr::host(pd_, mapping.bytes()); };
        ordinary_.push_back(measure(memory, size, {true, reg}, {false, reg}));
    }

    /// A dma-buf by address against by descriptor.
    void dmabuf(std::uint64_t size) {
        const DmaBuf buffer = vram_.alloc({.size = size, .placement = PFN_VRAM_PLACEMENT_SYSTEM});
        const Mapping mapping = buffer.map();
        const auto by_address = [&] { return Mr::host(pd_, mapping.bytes()); };
        const auto by_fd = [&] { return Mr::dmabuf(pd_, buffer.fd(), 0, size, 0); };
        dmabuf_.push_back(measure("dma-buf", size, {true, by_address}, {true, by_fd}));
    }

    void print() const {
        print_table("ibv_reg_mr() of ordinary memory", "on", "off", ordinary_);
        std::cout << "\n";
        print_table("registering a dma-buf", "address", "fd", dmabuf_);
        std::cout << std::format(
            "\nMedians of {} calls each, {} at a turn. on, off: rdma_rxe's transparent_dmabuf.\n",
            turns_ * calls_, calls_);
    }

    void write_json(std::ostream& out) const {
        out << "{";
        json_table(out, "ordinary", "on_ns", "off_ns", ordinary_);
        out << ",\n";
        json_table(out, "dmabuf", "address_ns", "fd_ns", dmabuf_);
        out << "}\n";
    }

  private:
    [[nodiscard]] Row measure(const std::string& memory, std::uint64_t size, const Way& with,
                              const Way& without) const {
        std::vector<double> a;
        std::vector<double> b;
        for (std::uint32_t i = 0; i < turns_; ++i) {
            // Each goes first half of the time.
            if (i % 2)
                time_ns(with, calls_, a);
            time_ns(without, calls_, b);
            if (i % 2 == 0)
                time_ns(with, calls_, a);
        }
        return {.memory = memory, .size = size, .with_ns = median(a), .without_ns = median(b)};
    }

    static void print_table(const char* title, const char* with, const char* without,
                            const std::vector<Row>& rows) {
        std::cout << std::format("{}\n{:<36}{:>10}{:>12}{:>12}{:>8}{:>10}\n", title, "memory",
                                 "KiB", with, without, "ratio", "more");
        for (const Row& row : rows)
            std::cout << std::format("{:<36}{:>10}{:>9.1f} us{:>9.1f} us{:>8.3f}{:>7.2f} us\n",
                                     row.memory, row.size / KIB, row.with_ns / 1e3,
                                     row.without_ns / 1e3, row.ratio(),
                                     (row.with_ns - row.without_ns) / 1e3);
    }

    static void json_table(std::ostream& out, const char* name, const char* with,
                           const char* without, const std::vector<Row>& rows) {
        out << std::format("\"{}\":[", name);
        for (std::size_t i = 0; i < rows.size(); ++i)
            out << (i ? ",\n " : "\n ")
                << std::format(
                       R"({{"memory":"{}","size":{},"{}":{:.0f},"{}":{:.0f},"ratio":{:.4f}}})",
                       rows[i].memory, rows[i].size, with, rows[i].with_ns, without,
                       rows[i].without_ns, rows[i].ratio());
        out << "]";
    }

    std::uint32_t turns_;
    std::uint32_t calls_;
    Switch switch_;
    Context context_;
    Pd pd_;
    VramDevice vram_;
    std::vector<Row> ordinary_;
    std::vector<Row> dmabuf_;
};

int run(int argc, char** argv) {
    CLI::App app("What transparent registration costs those who don't need it");
    std::string device = "rxe_gpu";
    std::uint32_t turns = 100;
    std::uint32_t calls = 30;
    std::string json;
    app.add_option("--device", device, "RDMA device")->capture_default_str();
    app.add_option("--turns", turns, "times each way has its turn")
        ->check(CLI::Range(1, 100000))
        ->capture_default_str();
    app.add_option("--calls", calls,
                   "registrations at a turn; few: what others do in between shows")
        ->check(CLI::Range(1, 100000))
        ->capture_default_str();
    app.add_option("--json", json, "write all figures to this file");
    CLI11_PARSE(app, argc, argv);

    Report report(device, turns, calls);
    for (const std::uint64_t size : {4 * KIB, 64 * KIB, 1 * MIB, 4 * MIB})
        report.ordinary(size);
    {
        const Crowd crowd(10000);
        report.ordinary(4 * KIB, "ordinary, 20000 mappings beside");
    }
    {
        const Mapper mapper;
        report.ordinary(4 * KIB, "ordinary, a thread maps and unmaps");
    }
    for (const std::uint64_t size : {64 * KIB, 4 * MIB})
        report.dmabuf(size);
    report.print();
    if (!json.empty()) {
        std::ofstream out(json);
        report.write_json(out);
        if (!out.flush())
            throw_errno("write " + json);
    }
    return 0;
}

} // namespace
} // namespace pfn

int main(int argc, char** argv) {
    try {
        return pfn::run(argc, argv);
    } catch (const std::exception& e) {
        std::cerr << "pfn-perf-reg: " << e.what() << "\n";
        return 1;
    }
}
