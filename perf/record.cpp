// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
#include "record.hpp"

#include "stats.hpp"

#include "common/error.hpp"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <format>
#include <fstream>
#include <ostream>

namespace pfn::perf {
namespace {

using Json = nlohmann::ordered_json;

std::string value_text(const Params::value_type::second_type& value) {
    if (const auto* number = std::get_if<std::int64_t>(&value))
        return std::to_string(*number);
    return std::get<std::string>(value);
}

/// "size=65536 memory=BAR"
std::string params_text(const Params& params) {
    std::string text;
    for (const auto& [name, value] : params)
        text += (text.empty() ? "" : " ") + name + "=" + value_text(value);
    return text;
}

const char* better_text(Better better) {
    switch (better) {
    case Better::HIGHER:
        return "higher";
    case Better::LOWER:
        return "lower";
    case Better::NONE:
        break;
    }
    return "none";
}

Json json_of(const std::string& suite, const Measurement& m) {
    Json params = Json::object();
    for (const auto& [name, value] : m.params)
        std::visit([&params, &key = name](const auto& v) { params[key] = v; }, value);
    Json variants = Json::object();
    for (const Variant& v : m.variants)
        variants[v.name] = {{"samples", v.samples}};
    return {{"suite", suite},
            {"metric", m.metric},
            {"unit", m.unit},
            {"better", better_text(m.better)},
            {"params", std::move(params)},
            {"baseline", m.baseline},
            {"variants", std::move(variants)}};
}

/// "12.3 us" in a column, its spread in another, and the ratio to the baseline.
std::string variant_text(const Measurement& m, const Variant& v, const Variant* baseline) {
    const Spread own = spread(v.samples);
    std::string text = std::format("  {:<18}{:>14.6g} {:<6} +-{:>3.0f} %", v.name, own.middle,
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
    for (const Measurement& m : measurements_)
        all.push_back(json_of(suite_, m));
    std::ofstream out(path);
    out << all.dump(1) << "\n";
    if (!out.flush())
        throw_errno("write " + path);
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
