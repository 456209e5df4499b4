// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
#include "report/results.hpp"

#include "json.hpp"

#include "common/error.hpp"
#include "common/text.hpp"

#include <sys/utsname.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <format>
#include <fstream>
#include <stdexcept>
#include <system_error>
#include <thread>

namespace pfn::perf {
namespace {

constexpr int SCHEMA = 1;

Json json_of(const Meta& meta) {
    Json json = Json::object();
    for (const auto& [name, value] : meta)
        json[name] = value;
    return json;
}

Meta meta_of(const Json& json) {
    Meta meta;
    for (const auto& [name, value] : json.items())
        meta.emplace_back(name, value.is_string() ? value.get<std::string>() : value.dump());
    return meta;
}

Json parse(const std::string& path) {
    std::ifstream in(path);
    if (!in)
        throw_errno("open " + path);
    return Json::parse(in);
}

Results run_of(const Json& json) {
    if (!json.is_array() && json.at("schema") != SCHEMA)
        throw std::runtime_error("\"schema\" is not " + std::to_string(SCHEMA));
    Results run;
    if (!json.is_array())
        run.meta = meta_of(json.at("meta"));
    for (const Json& m : json.is_array() ? json : json.at("measurements"))
        run.entries.push_back({.suite = m.at("suite"), .m = measurement_of(m)});
    return run;
}

/// Call @p read on a file; what it throws gets the file's name.
template<typename Read>
auto read_as(const std::string& path, const std::string& what, const Read& read) {
    try {
        return read(parse(path));
    } catch (const std::system_error&) { // not even opened
        throw;
    } catch (const std::exception& e) {
        throw std::runtime_error(path + " is not " + what + ": " + e.what());
    }
}

/// The value of a line "NAME : VALUE" of /proc/cpuinfo.
std::string cpu_model() {
    std::ifstream in("/proc/cpuinfo");
    for (std::string line; std::getline(in, line);) {
        const auto colon = line.find(": ");
        if (line.starts_with("model name") && colon != std::string::npos)
            return line.substr(colon + 2);
    }
    return "unknown";
}

} // namespace

std::string Entry::key() const {
    return suite + " " + m.metric + " " + params_text(m.params);
}

const Variant* Entry::find(const std::string& variant) const {
    const auto found = std::ranges::find(m.variants, variant, &Variant::name);
    return found == m.variants.end() ? nullptr : &*found;
}

const Variant* Entry::baseline() const {
    return find(m.baseline);
}

std::optional<Spread> Entry::ratio_of(const Variant& variant) const {
    const Variant* base = baseline();
    if (!base || base == &variant)
        return std::nullopt;
    const Spread to = ratio(variant.samples, base->samples);
    return std::isnan(to.middle) ? std::nullopt : std::optional(to);
}

std::string Results::meta_value(const std::string& name) const {
    const auto found = std::ranges::find(meta, name, &Meta::value_type::first);
    return found == meta.end() ? "" : found->second;
}

Meta machine_meta() {
    utsname name{};
    ::uname(&name);
    const auto mib = static_cast<std::uint64_t>(::sysconf(_SC_PHYS_PAGES)) *
                         static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE)) >>
                     20U;
    return {{"kernel", name.release},
            {"machine", machine_kind()},
            {"cpu", cpu_model()},
            {"cpus", std::to_string(std::thread::hardware_concurrency())},
            {"memory", std::to_string(mib) + " MiB"}};
}

void write_meta(const Meta& meta, const std::string& path) {
    write_json(json_of(meta), path);
}

Meta load_meta(const std::string& path) {
    return read_as(path, "a description of a machine", meta_of);
}

Results load_results(const std::string& path) {
    return read_as(path, "what ./lab perf writes", run_of);
}

void write_results(const Results& run, const std::string& path) {
    Json measurements = Json::array();
    for (const Entry& entry : run.entries)
        measurements.push_back(json_of(entry.suite, entry.m));
    write_json({{"schema", SCHEMA},
                {"meta", json_of(run.meta)},
                {"measurements", std::move(measurements)}},
               path);
}

} // namespace pfn::perf
