// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
#include "json.hpp"

#include "common/error.hpp"

#include <cstdint>
#include <fstream>
#include <stdexcept>
#include <utility>
#include <variant>

namespace pfn::perf {
namespace {

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

Better better_of(const std::string& text) {
    for (const Better better : {Better::HIGHER, Better::LOWER, Better::NONE}) {
        if (text == better_text(better))
            return better;
    }
    throw std::runtime_error("\"better\" is \"" + text + "\"");
}

} // namespace

Json json_of(const std::string& suite, const Measurement& measurement) {
    Json params = Json::object();
    for (const auto& [name, value] : measurement.params)
        std::visit([&params, &key = name](const auto& v) { params[key] = v; }, value);
    Json variants = Json::object();
    for (const Variant& v : measurement.variants)
        variants[v.name] = {{"samples", v.samples}};
    return {{"suite", suite},
            {"metric", measurement.metric},
            {"unit", measurement.unit},
            {"better", better_text(measurement.better)},
            {"params", std::move(params)},
            {"baseline", measurement.baseline},
            {"variants", std::move(variants)}};
}

Measurement measurement_of(const Json& json) {
    Measurement m{.metric = json.at("metric"),
                  .unit = json.at("unit"),
                  .better = better_of(json.at("better")),
                  .params = {},
                  .baseline = json.value("baseline", ""),
                  .variants = {}};
    for (const auto& [name, value] : json.at("params").items()) {
        if (value.is_number_integer())
            m.params.emplace_back(name, value.get<std::int64_t>());
        else if (value.is_string())
            m.params.emplace_back(name, value.get<std::string>());
        else
            m.params.emplace_back(name, value.dump());
    }
    for (const auto& [name, variant] : json.at("variants").items())
        m.variants.push_back({.name = name, .samples = variant.at("samples")});
    return m;
}

void write_json(const Json& json, const std::string& path) {
    std::ofstream out(path);
    out << json.dump(1) << "\n";
    if (!out.flush())
        throw_errno("write " + path);
}

std::string value_text(const Params::value_type::second_type& value) {
    if (const auto* number = std::get_if<std::int64_t>(&value))
        return std::to_string(*number);
    return std::get<std::string>(value);
}

std::string params_text(const Params& params) {
    std::string text;
    for (const auto& [name, value] : params)
        text += (text.empty() ? "" : " ") + name + "=" + value_text(value);
    return text;
}

} // namespace pfn::perf
