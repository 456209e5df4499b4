// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
#include "stats.hpp"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <format>
#include <limits>
#include <numeric>

namespace pfn::perf {
namespace {

constexpr double NOTHING = std::numeric_limits<double>::quiet_NaN();

} // namespace

double quantile(std::vector<double> samples, double part) {
    if (samples.empty())
        return NOTHING;
    std::ranges::sort(samples);
    const double where = part * static_cast<double>(samples.size() - 1);
    const auto below = static_cast<std::size_t>(where);
    const std::size_t above = std::min(below + 1, samples.size() - 1);
    return std::lerp(samples[below], samples[above], where - static_cast<double>(below));
}

double Spread::relative() const {
    return middle == 0 ? 0 : (high - low) / 2 / std::abs(middle);
}

Spread spread(const std::vector<double>& samples) {
    return {
        .low = quantile(samples, 0.1), .middle = median(samples), .high = quantile(samples, 0.9)};
}

Spread ratio(const std::vector<double>& samples, const std::vector<double>& baseline) {
    const bool paired = samples.size() == baseline.size();
    const double middle = median(baseline);
    std::vector<double> ratios(samples.size());
    for (std::size_t i = 0; i < samples.size(); ++i) {
        const double by = paired ? baseline[i] : middle;
        if (!(by > 0))
            return {.low = NOTHING, .middle = NOTHING, .high = NOTHING};
        ratios[i] = samples[i] / by;
    }
    return spread(ratios);
}

double loglog_slope(const std::vector<double>& x, const std::vector<double>& y) {
    const auto positive = [](double value) { return value > 0; };
    if (x.size() < 2 || x.size() != y.size() || !std::ranges::all_of(x, positive) ||
        !std::ranges::all_of(y, positive))
        return NOTHING;

    const auto n = static_cast<double>(x.size());
    const auto log_sum = [](double sum, double value) { return sum + std::log(value); };
    const double mean_x = std::accumulate(x.begin(), x.end(), 0.0, log_sum) / n;
    const double mean_y = std::accumulate(y.begin(), y.end(), 0.0, log_sum) / n;
    double xy = 0;
    double xx = 0;
    for (std::size_t i = 0; i < x.size(); ++i) {
        const double dx = std::log(x[i]) - mean_x;
        xy += dx * (std::log(y[i]) - mean_y);
        xx += dx * dx;
    }
    return xx > 0 ? xy / xx : NOTHING;
}

std::string growth_name(double exponent, const std::string& of) {
    // Caches that get too small, and what is there besides, bend a line a little.
    constexpr double ABOUT = 0.25;
    if (std::isnan(exponent))
        return "?";
    if (exponent < ABOUT)
        return "O(1)";
    if (std::abs(exponent - 1) <= ABOUT)
        return std::format("O({})", of);
    return std::format("O({}^{:.1f})", of, exponent);
}

} // namespace pfn::perf
