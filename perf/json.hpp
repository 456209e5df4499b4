// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
//
// Measurements as JSON (docs/measuring.md), for those who write and read it.
#pragma once

#include "record.hpp"

#include <nlohmann/json.hpp>

#include <string>

namespace pfn::perf {

using Json = nlohmann::ordered_json;

Json json_of(const std::string& suite, const Measurement& measurement);

/// Throws nlohmann::json::exception, or std::runtime_error for a value that is none.
Measurement measurement_of(const Json& json);

/// Throws std::system_error.
void write_json(const Json& json, const std::string& path);

/// One parameter's value.
std::string value_text(const Params::value_type::second_type& value);
/// "size=65536 memory=BAR"
std::string params_text(const Params& params);

} // namespace pfn::perf
