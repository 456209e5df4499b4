// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
//
// All that one ./lab perf has measured, from the JSON that docs/measuring.md describes.
#pragma once

#include "record.hpp"
#include "stats.hpp"

#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace pfn::perf {

/// A measurement of a suite.
struct Entry {
    std::string suite;
    Measurement m;

    /// What it measures, the same in every run: "reg reg size=4096".
    [[nodiscard]] std::string key() const;
    [[nodiscard]] const Variant* find(const std::string& variant) const;
    /// The variant that others are set against, if there is one.
    [[nodiscard]] const Variant* baseline() const;
    /// How @p variant is against it. Nothing for itself, or if there is no ratio.
    [[nodiscard]] std::optional<Spread> ratio_of(const Variant& variant) const;
};

/// Date, version, kernel and machine, by name.
using Meta = std::vector<std::pair<std::string, std::string>>;

struct Results {
    Meta meta;
    std::vector<Entry> entries;

    [[nodiscard]] std::string meta_value(const std::string& name) const;
};

/// The one of this machine and its kernel: what a guest knows of it.
Meta machine_meta();
void write_meta(const Meta& meta, const std::string& path);
Meta load_meta(const std::string& path);

/// A suite's file, or that of a whole run. Throws std::runtime_error, which names the
/// file and what is wrong with it.
Results load_results(const std::string& path);
/// Throws std::system_error.
void write_results(const Results& run, const std::string& path);

} // namespace pfn::perf
