// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
//
// The suites bw and lat: what perftest measures of MRs on different memory.
#pragma once

#include "record.hpp"

#include <cstdint>
#include <string>
#include <vector>

namespace pfn::perf {

/// What a program of perftest is run with.
struct PerftestCase {
    std::string program; ///< "ib_write_bw"
    std::uint64_t size;  ///< bytes of a message
    std::uint32_t count; ///< messages of one run
};

/// A suite: what it measures, and where in perftest's report the result is.
struct PerftestSuite {
    std::string name; ///< "bw"
    std::string unit;
    Better better;
    std::vector<PerftestCase> full;
    std::vector<PerftestCase> quick; ///< what of it takes less than a minute
    /// The result in perftest's JSON @p report of a run of @p c.
    double (*result)(const std::string& report, const PerftestCase& c);
};

/// The number that @p report has for @p key. Throws std::runtime_error if it has none, or
/// one that is not finite and positive.
double number_of(const std::string& report, const std::string& key);

/// main() of a suite's program.
int perftest_main(const PerftestSuite& suite, int argc, char** argv);

} // namespace pfn::perf
