// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
#include "perftest_suite.hpp"

#include "perftest_pair.hpp"

#include "common/files.hpp"
#include "common/text.hpp"
#include "common/vram.hpp"

#include <CLI/CLI.hpp>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <exception>
#include <filesystem>
#include <format>
#include <iostream>
#include <stdexcept>

namespace pfn::perf {
namespace {

/// Memory that the server's MR is of.
struct Memory {
    std::string name;
    Options options;
};

std::vector<Memory> memories() {
    std::vector<Memory> all{
        {.name = "host", .options = {}},
        {.name = "odp", .options = {"--odp"}},
        {.name = "pfn-system", .options = {"--use_pfn_vram", "--pfn_placement=system"}},
        {.name = "pfn-fragmented",
         .options = {"--use_pfn_vram", "--pfn_placement=system",
                     std::format("--pfn_chunk={}", page_size())}},
        {.name = "heap", .options = {"--use_dmabuf_heap"}},
    };
    if (VramDevice().info().backend == PFN_VRAM_BACKEND_BAR)
        all.push_back({.name = "pfn-bar", .options = {"--use_pfn_vram"}});
    return all;
}

/// perftest's report, written by the client.
class Report {
  public:
    Report() : path_(std::format("/tmp/pfn-perf-{}.json", ::getpid())) {}
    ~Report() {
        std::error_code ignored;
        std::filesystem::remove(path_, ignored);
    }
    Report(const Report&) = delete;
    Report& operator=(const Report&) = delete;

    [[nodiscard]] Options options() const { return {"--out_json", "--out_json_file=" + path_}; }
    [[nodiscard]] std::string read() const { return read_file(path_); }

  private:
    std::string path_;
};

/// One run of perftest.
double sample(const PerftestSuite& suite, const PerftestCase& c, const Memory& memory) {
    const Report report;
    PerftestPair pair{.program = c.program,
                      .both = {"-n", std::to_string(c.count)},
                      .server = memory.options,
                      .client = report.options()};
    if (!c.program.starts_with("ib_atomic")) // whose messages are 8 bytes
        pair.both.insert(pair.both.end(), {"-s", std::to_string(c.size)});
    // Inline data would not be read from the MR.
    if (c.program.starts_with("ib_write") || c.program.starts_with("ib_send"))
        pair.both.insert(pair.both.end(), {"-I", "0"});
    const PerftestEnds ends = run_perftest(pair);
    if (!ends.good())
        throw std::runtime_error(std::format("{} on {} failed\n{}{}", c.program, memory.name,
                                             ends.server.output, ends.client.output));
    try {
        return suite.result(report.read(), c);
    } catch (const std::runtime_error& e) {
        throw std::runtime_error(
            std::format("{} on {}: {}\n{}", c.program, memory.name, e.what(), ends.client.output));
    }
}

struct CommandLine {
    bool quick = false;
    std::string json;
    std::size_t rounds = 0;
    std::string program;
    std::uint64_t size = 0;
    std::vector<std::string> memory;
};

std::vector<PerftestCase> chosen(const PerftestSuite& suite, const CommandLine& line) {
    std::vector<PerftestCase> cases = line.quick ? suite.quick : suite.full;
    std::erase_if(cases, [&line](const PerftestCase& c) {
        return (!line.program.empty() && c.program != line.program) ||
               (line.size != 0 && c.size != line.size);
    });
    return cases;
}

std::vector<Memory> chosen(const CommandLine& line) {
    std::vector<Memory> all = memories();
    std::erase_if(all, [&line](const Memory& m) {
        return !line.memory.empty() && !std::ranges::contains(line.memory, m.name);
    });
    return all;
}

Record measure(const PerftestSuite& suite, const CommandLine& line) {
    Record record(suite.name);
    const auto cases = chosen(suite, line);
    const auto memory = chosen(line);
    std::size_t number = 0;
    for (const PerftestCase& c : cases) {
        std::cerr << std::format("{} {}/{}: {}, {}\n", suite.name, ++number, cases.size(),
                                 c.program, bytes_text(static_cast<double>(c.size)));
        Measurement& m = record.add({.metric = c.program,
                                     .unit = suite.unit,
                                     .better = suite.better,
                                     .params = {{"size", static_cast<std::int64_t>(c.size)}},
                                     .baseline = "host",
                                     .variants = {}});
        by_turns(line.rounds, memory.size(),
                 [&](std::size_t way) { m.add(memory[way].name, sample(suite, c, memory[way])); });
    }
    return record;
}

} // namespace

double number_of(const std::string& report, const std::string& key) {
    // It is nearly JSON: not all releases set all their commas.
    const std::string quoted = "\"" + key + "\":";
    const auto at = report.find(quoted);
    if (at == std::string::npos)
        throw std::runtime_error("perftest's report has no " + quoted);
    const std::string text = report.substr(at + quoted.size());
    const double number = std::strtod(text.c_str(), nullptr); // 0 if it is none
    if (!std::isfinite(number) || number <= 0)
        throw std::runtime_error(
            std::format("perftest's report has {}{}, which cannot have been measured", quoted,
                        text.substr(0, text.find_first_of(",}\n"))));
    return number;
}

int perftest_main(const PerftestSuite& suite, int argc, char** argv) {
    try {
        CLI::App app("Measure " + suite.name + " of MRs on different memory with perftest");
        CommandLine line;
        app.add_flag("--quick", line.quick, "less of everything, in less than a minute");
        app.add_option("--json", line.json, "write all samples to this file");
        app.add_option("--rounds", line.rounds, "runs of each (default: 3)");
        app.add_option("--program", line.program, "only this program of perftest");
        app.add_option("--size", line.size, "only messages of this many bytes");
        app.add_option("--memory", line.memory, "only these kinds of memory");
        CLI11_PARSE(app, argc, argv);
        if (line.rounds == 0)
            line.rounds = 3;
        const Record record = measure(suite, line);
        record.print(std::cout);
        record.write_json(line.json);
        return 0;
    } catch (const std::exception& e) {
        std::cerr << "pfn-perf-" << suite.name << ": " << e.what() << "\n";
        return 1;
    }
}

} // namespace pfn::perf
