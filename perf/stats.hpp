// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
//
// What is said of samples. No mean and no deviation: a guest that had to wait for
// its host once makes both meaningless.
#pragma once

#include <string>
#include <utility>
#include <vector>

namespace pfn::perf {

/// The value that a fraction @p part (0 to 1) of all @p samples is below, between two
/// of them if need be. NaN without samples.
double quantile(std::vector<double> samples, double part);

inline double median(std::vector<double> samples) {
    return quantile(std::move(samples), 0.5);
}

/// A median, and where most of what it is made of lies.
struct Spread {
    double low;    ///< a tenth is below
    double middle; ///< the median
    double high;   ///< a tenth is above

    /// Half of the width, as a fraction of the median; 0 if that is 0.
    [[nodiscard]] double relative() const;
};

Spread spread(const std::vector<double>& samples);

/// @p samples against @p baseline. Of variants that were measured by turns, each round
/// by itself: what slows the machine down for a while slows both. If they are not
/// equally many, against the baseline's median. NaN if the baseline is 0.
Spread ratio(const std::vector<double>& samples, const std::vector<double>& baseline);

/// The slope of log @p y over log @p x: 0 for what does not grow, 1 for what grows in
/// proportion. NaN for fewer than two points, or any that is not positive.
double loglog_slope(const std::vector<double>& x, const std::vector<double>& y);

/// Such a slope in words: "O(1)", "O(ranges)" with @p of "ranges"; "O(ranges^0.5)".
std::string growth_name(double exponent, const std::string& of);

} // namespace pfn::perf
