// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
#include "record.hpp"

#include "json.hpp"
#include "stats.hpp"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <format>
#include <ostream>

namespace pfn::perf {
namespace {

/// "12.3 us" in a column, its spread in another, and the ratio to the baseline.
std::string variant_text(const Measurement& m, const Variant& v, const Variant* baseline) {
    const Spread own = spread(v.samples);
    const std::string text = std::format("  {:<18}{:>14.6g} {:<6} +-{:>3.0f} %", v.name, own.middle,
                                         m.unit, 100 * own.relative());
    if (!baseline || baseline == &v)
        return text + "\n";
    const Spread to = ratio(v.samples, baseline->samples);
    if (std::isnan(to.middle))
        return text + "\n";
    return text + std::format("  {:>9.4g} x {} ({:.4g} to {:.4g})\n", to.middle, m.baseline, to.low,
                              to.high);
}

} // namespace

void Measurement::add(const std::string& variant, double sample) {
    auto found = std::ranges::find(variants, variant, &Variant::name);
    if (found == variants.end())
        found = variants.insert(found, {.name = variant, .samples = {}});
    found->samples.push_back(sample);
}

Measurement& Record::add(Measurement measurement) {
    measurements_.push_back(std::move(measurement));
    return measurements_.back();
}

void Record::print(std::ostream& out) const {
    for (const Measurement& m : measurements_) {
        if (m.variants.empty())
            continue;
        out << std::format("{} {}  {}\n", suite_, m.metric, params_text(m.params));
        const auto baseline = std::ranges::find(m.variants, m.baseline, &Variant::name);
        for (const Variant& v : m.variants)
            out << variant_text(m, v, baseline == m.variants.end() ? nullptr : &*baseline);
    }
    out << "Medians; +- half of the way from the lowest to the highest tenth; ratios by round.\n";
}

void Record::write_json(const std::string& path) const {
    if (path.empty())
        return;
    Json all = Json::array();
    for (const Measurement& m : measurements_) {
        if (!m.variants.empty())
            all.push_back(json_of(suite_, m));
    }
    perf::write_json(all, path);
}

void by_turns(std::size_t rounds, std::size_t ways,
              const std::function<void(std::size_t)>& sample) {
    for (std::size_t round = 0; round < rounds; ++round) {
        for (std::size_t i = 0; i < ways; ++i)
            sample((round + i) % ways);
    }
}

double time_us(const std::function<void()>& work) {
    using Clock = std::chrono::steady_clock;
    const auto start = Clock::now();
    work();
    return std::chrono::duration<double, std::micro>(Clock::now() - start).count();
}

} // namespace pfn::perf
