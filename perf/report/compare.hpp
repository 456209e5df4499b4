// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
//
// Is a run worse than another one?
#pragma once

#include "report/results.hpp"

#include <iosfwd>
#include <string>
#include <vector>

namespace pfn::perf {

/// What differs by more than noise.
struct Change {
    std::string what; ///< key and variant
    std::string unit; ///< "x host" for ratios
    Spread before;
    Spread after;
    bool worse;
};

struct Comparison {
    std::vector<Change> changes;
    std::size_t compared = 0;
    std::vector<std::string> gone; ///< keys that only the older run has
};

/// Ratios to the baseline of the same run are compared, since they say the same on a
/// slow machine as on a fast one; so are figures that have no baseline, but only if
/// kernel and machine are the same, and counts and bytes anyway.
///
/// Beyond noise is what differs by more than a tenth *and* whose spreads, from the
/// lowest to the highest tenth of the rounds, don't overlap; of fewer than 5 rounds,
/// spreads twice as wide. An exponent has no spread: a quarter is beyond noise.
Comparison compare(const Results& before, const Results& after);

/// A line for each change, regressions first, and one for all of it.
void print(std::ostream& out, const Comparison& comparison);

[[nodiscard]] bool has_regressions(const Comparison& comparison);

} // namespace pfn::perf
