// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
#include "suite.hpp"

#include <CLI/CLI.hpp>

#include <exception>
#include <format>
#include <iostream>
#include <iterator>

namespace pfn::perf {

int suite_main(int argc, char** argv, const Suite& suite) {
    CLI::App app(suite.what);
    bool quick = false;
    std::string json;
    app.add_flag("--quick", quick, "fewer points and rounds: is the benchmark sound?");
    app.add_option("--json", json, "write all samples to this file");
    CLI11_PARSE(app, argc, argv);

    try {
        Record record(suite.name);
        suite.measure(record, quick);
        record.print(std::cout);
        record.write_json(json);
    } catch (const std::exception& e) {
        std::cerr << "pfn-perf-" << suite.name << ": " << e.what() << "\n";
        return 1;
    }
    return 0;
}

void progress(const std::string& what) {
    std::cerr << "  " << what << "\n";
}

std::string size_name(std::uint64_t bytes) {
    static constexpr const char* UNITS[] = {"B", "KiB", "MiB", "GiB", "TiB"};
    std::size_t unit = 0;
    for (; bytes >= 1024 && bytes % 1024 == 0 && unit + 1 < std::size(UNITS); ++unit)
        bytes /= 1024;
    return std::format("{} {}", bytes, UNITS[unit]);
}

} // namespace pfn::perf
