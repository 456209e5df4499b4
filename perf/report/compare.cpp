// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
#include "report/compare.hpp"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <format>
#include <initializer_list>
#include <map>
#include <optional>
#include <ostream>

namespace pfn::perf {
namespace {

constexpr double NOISE = 0.1;           ///< of a figure
constexpr double NOISE_EXPONENT = 0.25; ///< of the exponent of a cost that grows
constexpr std::size_t FEW_ROUNDS = 5;

/// A figure that makes sense beyond its run.
struct Figure {
    Spread spread;
    std::string unit;
};

bool is_of_the_machine(const std::string& unit) {
    return unit != "B" && unit != "exponent" && unit != "times" && unit != "pieces";
}

/// What a variant is to be judged by, if it can be.
std::optional<Figure> figure(const Entry& entry, const Variant& variant, bool same_machine) {
    if (variant.samples.empty() || entry.m.better == Better::NONE)
        return std::nullopt;
    if (const auto to = entry.ratio_of(variant))
        return Figure{.spread = *to, .unit = "x " + entry.m.baseline};
    // Of a baseline nothing is expected, it is somebody else's.
    if (&variant == entry.baseline() || (is_of_the_machine(entry.m.unit) && !same_machine))
        return std::nullopt;
    return Figure{.spread = spread(variant.samples), .unit = entry.m.unit};
}

Spread widened(const Spread& s, std::size_t rounds) {
    const double by = rounds < FEW_ROUNDS ? 2 : 1;
    return {.low = s.middle - by * (s.middle - s.low),
            .middle = s.middle,
            .high = s.middle + by * (s.high - s.middle)};
}

bool is_noise(const Spread& before, const Spread& after, const std::string& unit) {
    const double difference = std::abs(after.middle - before.middle);
    if (unit == "exponent")
        return !(difference > NOISE_EXPONENT);
    return difference <= NOISE * std::abs(before.middle) ||
           (after.low <= before.high && before.low <= after.high);
}

bool same_kind(const Results& a, const Results& b) {
    return std::ranges::all_of(
        std::initializer_list<const char*>{"kernel", "machine", "cpu", "cpus", "clock"},
        [&](const char* name) { return a.meta_value(name) == b.meta_value(name); });
}

/// Spread by a handful of rounds, or by many.
std::string spread_text(const Spread& s) {
    return std::format("{:.4g} ({:.4g} to {:.4g})", s.middle, s.low, s.high);
}

} // namespace

Comparison compare(const Results& before, const Results& after) {
    std::map<std::string, const Entry*> now;
    for (const Entry& entry : after.entries)
        now.emplace(entry.key(), &entry);

    Comparison result;
    const bool same_machine = same_kind(before, after);
    for (const Entry& old : before.entries) {
        const auto found = now.find(old.key());
        for (const Variant& v : old.m.variants) {
            const std::string what = old.key() + " " + v.name;
            const Variant* const newer = found == now.end() ? nullptr : found->second->find(v.name);
            if (!newer) {
                result.gone.push_back(what);
                continue;
            }
            const auto was = figure(old, v, same_machine);
            const auto is = figure(*found->second, *newer, same_machine);
            if (!was || !is || was->unit != is->unit)
                continue;
            ++result.compared;
            const Spread a = widened(was->spread, v.samples.size());
            const Spread b = widened(is->spread, newer->samples.size());
            if (is_noise(a, b, is->unit))
                continue;
            const bool more = b.middle > a.middle;
            result.changes.push_back({.what = what,
                                      .unit = is->unit,
                                      .before = was->spread,
                                      .after = is->spread,
                                      .worse = more == (old.m.better == Better::LOWER)});
        }
    }
    return result;
}

bool has_regressions(const Comparison& comparison) {
    return std::ranges::any_of(comparison.changes, &Change::worse);
}

void print(std::ostream& out, const Comparison& comparison) {
    for (const bool worse : {true, false}) {
        for (const Change& c : comparison.changes) {
            if (c.worse == worse)
                out << std::format("{}  {}: {} -> {} {}\n", worse ? "WORSE " : "better", c.what,
                                   spread_text(c.before), spread_text(c.after), c.unit);
        }
    }
    const auto worse = std::ranges::count_if(comparison.changes, &Change::worse);
    out << std::format("{} figures compared: {} worse, {} better, the others within noise\n",
                       comparison.compared, worse,
                       static_cast<std::ptrdiff_t>(comparison.changes.size()) - worse);
    if (!comparison.gone.empty())
        out << std::format("{} figures of the older run are not in the newer one, e.g. {}\n",
                           comparison.gone.size(), comparison.gone.front());
}

} // namespace pfn::perf
