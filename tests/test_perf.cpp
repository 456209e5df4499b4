// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
//
// What ./lab perf makes of samples: medians, spreads, ratios, fits, files, pages, and
// the judgement whether a run is worse than another.
#include "perftest_suite.hpp"
#include "record.hpp"
#include "report/compare.hpp"
#include "report/html.hpp"
#include "report/results.hpp"
#include "stats.hpp"

#include "common/files.hpp"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

namespace pfn::perf {
namespace {

TEST(PerfStats, QuantilesLieBetweenSamples) {
    EXPECT_EQ(median({3, 1, 2}), 2);
    EXPECT_EQ(median({4, 1, 2, 3}), 2.5);
    EXPECT_EQ(quantile({10, 20}, 0), 10);
    EXPECT_EQ(quantile({10, 20}, 0.25), 12.5);
    EXPECT_EQ(quantile({10, 20}, 1), 20);
    EXPECT_EQ(quantile({7}, 0.9), 7);
    EXPECT_TRUE(std::isnan(median({})));
}

TEST(PerfStats, SpreadLeavesOutATenthAtEachEnd) {
    std::vector<double> samples;
    for (int i = 0; i <= 100; ++i)
        samples.push_back(i);
    const Spread s = spread(samples);
    EXPECT_EQ(s.low, 10);
    EXPECT_EQ(s.middle, 50);
    EXPECT_EQ(s.high, 90);
    EXPECT_EQ(s.relative(), 0.8);
    EXPECT_EQ((Spread{.low = 0, .middle = 0, .high = 0}.relative()), 0);
}

TEST(PerfStats, RatiosAreTakenRoundByRound) {
    // The machine got ten times slower after the first round.
    const Spread paired = ratio({2, 20, 20}, {1, 10, 10});
    EXPECT_EQ(paired.low, 2);
    EXPECT_EQ(paired.middle, 2);
    EXPECT_EQ(paired.high, 2);
    // Without rounds: against the median.
    EXPECT_EQ(ratio({20, 30}, {5, 10, 15}).middle, 2.5);
    EXPECT_TRUE(std::isnan(ratio({1}, {0}).middle));
    EXPECT_TRUE(std::isnan(ratio({}, {}).middle));
}

TEST(PerfStats, SlopeTellsHowACostGrows) {
    EXPECT_NEAR(loglog_slope({1, 10, 100}, {5, 5, 5}), 0, 1e-9);
    EXPECT_NEAR(loglog_slope({1, 10, 100}, {3, 30, 300}), 1, 1e-9);
    EXPECT_NEAR(loglog_slope({1, 2, 4}, {1, 4, 16}), 2, 1e-9);
    EXPECT_TRUE(std::isnan(loglog_slope({1}, {1})));
    EXPECT_TRUE(std::isnan(loglog_slope({2, 2}, {1, 3})));
    EXPECT_TRUE(std::isnan(loglog_slope({1, 2}, {0, 3})));
    EXPECT_EQ(growth_name(0.05, "MRs"), "O(1)");
    EXPECT_EQ(growth_name(-0.4, "MRs"), "O(1)");
    EXPECT_EQ(growth_name(0.93, "MRs"), "O(MRs)");
    EXPECT_EQ(growth_name(0.5, "MRs"), "O(MRs^0.5)");
    EXPECT_EQ(growth_name(std::nan(""), "MRs"), "?");
}

TEST(PerfRecord, EachWayIsFirstInTurn) {
    std::vector<std::size_t> calls;
    by_turns(3, 2, [&](std::size_t way) { calls.push_back(way); });
    EXPECT_EQ(calls, (std::vector<std::size_t>{0, 1, 1, 0, 0, 1}));
}

TEST(PerfPerftest, NumbersThatCannotBeAreRefusedByName) {
    // A line without its comma, as some releases have.
    const std::string report = "{\"results\": {\n\"t_min\": 12.5\n\"t_typical\": 98.07,\n"
                               "\"t_max\": inf,\n\"t_avg\": -nan,\n\"t_stdev\": 0.00,\n"
                               "\"99%\": -1,\n\"99.9%\": \n}}";
    EXPECT_EQ(number_of(report, "t_min"), 12.5);
    EXPECT_EQ(number_of(report, "t_typical"), 98.07);
    for (const char* key : {"t_max", "t_avg", "t_stdev", "99%", "99.9%", "t"}) {
        try {
            ADD_FAILURE() << key << " was taken for " << number_of(report, key);
        } catch (const std::runtime_error& e) {
            EXPECT_TRUE(std::string(e.what()).contains("\"" + std::string(key) + "\":"))
                << e.what();
        }
    }
    try {
        number_of(report, "t_max");
    } catch (const std::runtime_error& e) {
        EXPECT_STREQ(e.what(),
                     "perftest's report has \"t_max\": inf, which cannot have been measured");
    }
}

/// A run of one measurement.
Results run_of(Measurement m, const std::string& kernel = "7.3") {
    return {.meta = {{"kernel", kernel}, {"machine", "emulated"}},
            .entries = {{.suite = "reg", .m = std::move(m)}}};
}

Measurement time(std::vector<double> host, std::vector<double> pfn) {
    return {.metric = "reg",
            .unit = "us",
            .better = Better::LOWER,
            .params = {{"size", 4096}, {"memory", "RAM"}},
            .baseline = "host",
            .variants = {{"host", std::move(host)}, {"pfn", std::move(pfn)}}};
}

Measurement alone(const std::string& unit, Better better, double value) {
    return {.metric = "m",
            .unit = unit,
            .better = better,
            .params = {},
            .baseline = "",
            .variants = {{"pfn", {value, value, value, value, value}}}};
}

/// A file, or a directory, that goes away again.
struct TemporaryFile {
    TemporaryFile() = default;
    TemporaryFile(const TemporaryFile&) = delete;
    TemporaryFile& operator=(const TemporaryFile&) = delete;
    ~TemporaryFile() { std::filesystem::remove_all(path); }
    std::string path = testing::TempDir() + "pfn-perf-" + std::to_string(::getpid());
};

TEST(PerfRun, FilesAreReadAsTheyWereWritten) {
    const TemporaryFile file;
    Record record("reg");
    record.add(time({1, 2, 3}, {4, 5, 6}));
    record.add({.metric = "nothing", .unit = "us", .params = {}, .baseline = "", .variants = {}});
    record.write_json(file.path);
    Results run = load_results(file.path);
    ASSERT_EQ(run.entries.size(), 1U) << "what has no sample is left out";
    EXPECT_TRUE(run.meta.empty());

    run.meta = {{"kernel", "7.3"}};
    write_results(run, file.path);
    run = load_results(file.path);
    EXPECT_EQ(run.meta_value("kernel"), "7.3");
    EXPECT_EQ(run.meta_value("no such thing"), "");
    ASSERT_EQ(run.entries.size(), 1U);
    const Entry& entry = run.entries.front();
    EXPECT_EQ(entry.key(), "reg reg size=4096 memory=RAM");
    EXPECT_EQ(entry.m.unit, "us");
    EXPECT_EQ(entry.m.better, Better::LOWER);
    ASSERT_NE(entry.find("pfn"), nullptr);
    EXPECT_EQ(entry.find("pfn")->samples, (std::vector<double>{4, 5, 6}));
    EXPECT_EQ(entry.baseline(), entry.find("host"));
}

TEST(PerfRun, OtherFilesAreRefusedByName) {
    const TemporaryFile file;
    for (const char* text :
         {"", "{", "{}", R"({"schema":2})", R"([{"suite":"reg"}])", R"({"schema":1,"meta":{}})"}) {
        std::ofstream(file.path) << text;
        try {
            load_results(file.path);
            ADD_FAILURE() << text << " was taken for a run";
        } catch (const std::runtime_error& e) {
            EXPECT_NE(std::string(e.what()).find(file.path), std::string::npos) << e.what();
        }
    }
    EXPECT_THROW(load_results("/nonexistent"), std::system_error);
}

TEST(PerfCompare, AMachineThatIsSlowIsNoRegression) {
    const auto before = run_of(time({10, 10, 10, 10, 10}, {5, 5, 5, 5, 5}));
    const auto after = run_of(time({99, 90, 80, 90, 95}, {50, 45, 40, 45, 47}), "7.2");
    const Comparison result = compare(before, after);
    EXPECT_EQ(result.compared, 1U) << "the ratio, and not the baseline";
    EXPECT_FALSE(has_regressions(result));
    EXPECT_TRUE(result.changes.empty());
}

TEST(PerfCompare, AWorseRatioIsARegression) {
    const auto before = run_of(time({10, 10, 10, 10, 10}, {5, 5, 5, 5, 5}));
    const auto after = run_of(time({10, 10, 10, 10, 10}, {7, 7, 7, 7, 7}));
    const Comparison result = compare(before, after);
    EXPECT_TRUE(has_regressions(result));
    std::ostringstream text;
    print(text, result);
    EXPECT_NE(text.str().find("WORSE   reg reg size=4096 memory=RAM pfn: 0.5"), std::string::npos)
        << text.str();
    EXPECT_FALSE(has_regressions(compare(after, before)));
    EXPECT_EQ(compare(after, before).changes.size(), 1U) << "it is better";
}

TEST(PerfCompare, SpreadsThatOverlapAreNoise) {
    const auto before = run_of(time({10, 10, 10, 10, 10}, {3, 4, 5, 6, 7}));
    const auto after = run_of(time({10, 10, 10, 10, 10}, {5, 6, 7, 8, 9}));
    EXPECT_TRUE(compare(before, after).changes.empty());
    // Of few rounds they are said to be wider than they seem.
    const auto few = run_of(time({10, 10, 10}, {4, 5, 6}));
    const auto worse = run_of(time({10, 10, 10}, {7, 8, 9}));
    EXPECT_TRUE(compare(few, worse).changes.empty());
}

TEST(PerfCompare, WhatIsBetterDependsOnTheMetric) {
    const auto judge = [](Better better, double before, double after) {
        return has_regressions(
            compare(run_of(alone("MiB/s", better, before)), run_of(alone("MiB/s", better, after))));
    };
    EXPECT_TRUE(judge(Better::HIGHER, 100, 50));
    EXPECT_FALSE(judge(Better::HIGHER, 50, 100));
    EXPECT_TRUE(judge(Better::LOWER, 50, 100));
    EXPECT_FALSE(judge(Better::NONE, 50, 100));
    EXPECT_FALSE(judge(Better::LOWER, 100, 109)) << "a tenth is noise";
}

TEST(PerfCompare, FiguresOfTheMachineNeedTheSameMachine) {
    const auto judge = [](const std::string& unit) {
        return has_regressions(compare(run_of(alone(unit, Better::LOWER, 1), "7.2"),
                                       run_of(alone(unit, Better::LOWER, 2), "7.3")));
    };
    EXPECT_FALSE(judge("us"));
    EXPECT_TRUE(judge("B"));
    EXPECT_TRUE(judge("exponent"));
}

TEST(PerfCompare, AnExponentMayVaryALittle) {
    const auto judge = [](double before, double after) {
        return has_regressions(compare(run_of(alone("exponent", Better::LOWER, before)),
                                       run_of(alone("exponent", Better::LOWER, after))));
    };
    EXPECT_FALSE(judge(0.02, 0.2));
    EXPECT_FALSE(judge(-0.1, 0.1));
    EXPECT_TRUE(judge(0.02, 1));
}

TEST(PerfCompare, WhatIsGoneIsSaid) {
    const auto before = run_of(time({1, 1}, {1, 1}));
    const Comparison result = compare(before, {.meta = {}, .entries = {}});
    EXPECT_EQ(result.compared, 0U);
    EXPECT_EQ(result.gone.size(), 2U);
    EXPECT_FALSE(has_regressions(result));
}

/// A run that has one curve.
Results run_of_sizes() {
    Results run{.meta = {{"kernel", "7.3 <debug>"}}, .entries = {}};
    for (const int size : {1024, 2048, 4096}) {
        Measurement m = time({1, 2, 3}, {4, 5, 6});
        m.params[0].second = std::int64_t{size};
        run.entries.push_back({.suite = "reg", .m = std::move(m)});
    }
    return run;
}

TEST(PerfHtml, APageNeedsNoOtherFile) {
    const TemporaryFile page;
    write_html(run_of_sizes(), page.path);
    const std::string text = read_file(page.path);
    EXPECT_NE(text.find("kernel: 7.3 &lt;debug&gt;"), std::string::npos);
    EXPECT_NE(text.find("<svg"), std::string::npos);
    EXPECT_NE(text.find("<td>2 KiB</td>"), std::string::npos);
    EXPECT_EQ(text.find("src="), std::string::npos);
    EXPECT_EQ(text.find("href=\"http"), std::string::npos);
    EXPECT_FALSE(std::filesystem::exists(page.path + ".svg"));
}

TEST(PerfFigures, AreOfTheFormatThatWasAskedFor) {
    const TemporaryFile directory;
    std::filesystem::create_directory(directory.path);
    const std::string path = directory.path + "/reg-reg-memory-RAM.";
    write_figures(run_of_sizes(), directory.path, "svg");
    EXPECT_TRUE(read_file(path + "svg").contains("<svg"));
    EXPECT_FALSE(std::filesystem::exists(path + "png"));
    write_figures(run_of_sizes(), directory.path, "png");
    const std::string png = read_file(path + "png");
    EXPECT_TRUE(png.starts_with("\x89PNG\r\n\x1a\n")) << png.substr(0, 8);
    EXPECT_TRUE(png.contains("IEND")) << "it is not complete";
    EXPECT_THROW(write_figures(run_of_sizes(), directory.path, "gif"), std::invalid_argument);
}

} // namespace
} // namespace pfn::perf
