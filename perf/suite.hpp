// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
//
// What all suites have in common: pfn-perf-SUITE [--quick] [--json FILE].
#pragma once

#include "record.hpp"

#include <functional>
#include <string>

namespace pfn::perf {

struct Suite {
    std::string name;
    std::string what; ///< it measures, for --help
    std::function<void(Record& record, bool quick)> measure;
};

/// Measure, print the table, write the JSON. Returns main()'s exit status: 1 if
/// something could not be measured, said on stderr.
int suite_main(int argc, char** argv, const Suite& suite);

/// Say on stderr what is measured now: it may take a while.
void progress(const std::string& what);

/// "4 KiB", "1 GiB": sizes as names of variants, whole numbers only.
std::string size_name(std::uint64_t bytes);

inline constexpr std::uint64_t KIB = 1024;
inline constexpr std::uint64_t MIB = 1024 * KIB;
inline constexpr std::uint64_t GIB = 1024 * MIB;
inline constexpr std::uint64_t TIB = 1024 * GIB;

} // namespace pfn::perf
