// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
//
// The kernel's own unit tests, which run when their module is loaded: did they
// pass? Only the debug kernel has KUnit.
#include "support/debug_kernel.hpp"
#include "support/modules.hpp"

#include <gtest/gtest.h>

#include <cstring>
#include <fstream>
#include <string>
#include <vector>

namespace pfn {
namespace {

constexpr const char* MODULE = "umem_pfn_kunit";

class Kunit : public testing::TestWithParam<std::string> {
  protected:
    static void SetUpTestSuite() {
        if (debug_kernel())
            load_module(MODULE);
    }
    static void TearDownTestSuite() {
        if (!debug_kernel())
            return;
        const int error = unload_module(MODULE);
        EXPECT_EQ(0, error) << strerrorname_np(error);
    }
};

/// The lines of a suite's report, in the kernel's dialect of the Test Anything
/// Protocol.
std::vector<std::string> report_of(const std::string& suite) {
    std::ifstream file("/sys/kernel/debug/kunit/" + suite + "/results");
    std::vector<std::string> lines;
    for (std::string line; std::getline(file, line);)
        lines.push_back(line);
    return lines;
}

/// What precedes and explains a failure, without the tests that passed.
std::string failures_in(const std::vector<std::string>& report) {
    std::string text;
    for (const std::string& line : report) {
        if (!line.contains("ok ") || line.contains("not ok "))
            text += line + "\n";
    }
    return text;
}

INSTANTIATE_TEST_SUITE_P(Suites, Kunit,
                         testing::Values("dma_buf_pfn_ranges", "dma_buf_pfn_rules",
                                         "dma_buf_pfn_bridge", "ib_umem_pfn", "pfn_dma"),
                         [](const auto& suite) { return suite.param; });

TEST_P(Kunit, Passes) {
    if (!debug_kernel())
        GTEST_SKIP() << "this kernel has no KUnit";
    const auto report = report_of(GetParam());
    unsigned passed = 0;
    bool failed = false;
    for (const std::string& line : report) {
        failed = failed || line.contains("not ok ");
        passed += line.contains("ok ") ? 1 : 0;
    }
    EXPECT_FALSE(failed) << failures_in(report);
    // The last line is the verdict on the suite: without it, it has not ended.
    ASSERT_FALSE(report.empty()) << "there is no such suite";
    EXPECT_TRUE(report.back().starts_with("ok ")) << report.back();
    EXPECT_GT(passed, 1U) << "no tests in it";
}

} // namespace
} // namespace pfn
