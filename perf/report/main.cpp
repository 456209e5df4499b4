// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
//
// pfn-perf-report: the part of ./lab perf that works with what was measured.
//
//   machine FILE                      describe this machine and kernel
//   merge --machine FILE ... SUITE... one run of several suites' files
//   html RUN PAGE                     a report
//   figures --format svg|png RUN DIR  its curves, a file each
//   compare OLD NEW                   exit status 1 if NEW is worse
#include "report/compare.hpp"
#include "report/html.hpp"
#include "report/results.hpp"

#include <CLI/CLI.hpp>

#include <algorithm>
#include <exception>
#include <iostream>
#include <iterator>
#include <string>
#include <utility>
#include <vector>

namespace pfn::perf {
namespace {

struct Options {
    std::string output;
    std::string machine;
    std::string date;
    std::string version;
    std::string clock;
    std::string format = "svg";
    std::string run;
    std::vector<std::string> files;
};

void merge(const Options& options) {
    Results all;
    all.meta = {{"date", options.date}, {"version", options.version}};
    for (auto& value : load_meta(options.machine))
        all.meta.push_back(std::move(value));
    all.meta.emplace_back("clock", options.clock.empty() ? "real time" : options.clock);
    for (const std::string& file : options.files) {
        Results suite = load_results(file);
        std::ranges::move(suite.entries, std::back_inserter(all.entries));
    }
    write_results(all, options.output);
}

int run(int argc, char** argv) {
    CLI::App app("Reports of what ./lab perf has measured");
    app.require_subcommand(1);
    Options options;

    auto* machine = app.add_subcommand("machine", "describe this machine and kernel");
    machine->add_option("FILE", options.output)->required();
    auto* merging = app.add_subcommand("merge", "make one run of several suites' files");
    merging->add_option("--output", options.output)->required();
    merging->add_option("--machine", options.machine)->required();
    merging->add_option("--date", options.date)->required();
    merging->add_option("--version", options.version)->required();
    merging->add_option("--clock", options.clock, "what the guest's clock counts");
    merging->add_option("SUITE", options.files)->required();
    auto* html = app.add_subcommand("html", "make a page of a run");
    html->add_option("RUN", options.run)->required();
    html->add_option("PAGE", options.output)->required();
    auto* figures = app.add_subcommand("figures", "draw the curves of a run");
    figures->add_option("--format", options.format, "svg or png")
        ->check(CLI::IsMember({"svg", "png"}))
        ->capture_default_str();
    figures->add_option("RUN", options.run)->required();
    figures->add_option("DIRECTORY", options.output)->required();
    auto* comparing = app.add_subcommand("compare", "is the second run worse than the first?");
    comparing->add_option("RUN", options.files)->required()->expected(2);
    CLI11_PARSE(app, argc, argv);

    if (machine->parsed())
        write_meta(machine_meta(), options.output);
    if (merging->parsed())
        merge(options);
    if (html->parsed())
        write_html(load_results(options.run), options.output);
    if (figures->parsed())
        write_figures(load_results(options.run), options.output, options.format);
    if (!comparing->parsed())
        return 0;
    const Comparison result =
        compare(load_results(options.files[0]), load_results(options.files[1]));
    print(std::cout, result);
    return has_regressions(result) ? 1 : 0;
}

} // namespace
} // namespace pfn::perf

int main(int argc, char** argv) {
    try {
        return pfn::perf::run(argc, argv);
    } catch (const std::exception& e) {
        std::cerr << "pfn-perf-report: " << e.what() << "\n";
        return 2;
    }
}
