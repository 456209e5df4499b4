// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
//
// What a suite has measured: samples of variants that were taken by turns in one
// boot, and the JSON and the table that are made of them. docs/measuring.md has the
// form of the JSON. Every suite is a program pfn-perf-SUITE [--quick] [--json FILE].
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <iosfwd>
#include <list>
#include <string>
#include <utility>
#include <variant>
#include <vector>

namespace pfn::perf {

enum class Better { HIGHER, LOWER, NONE };

/// What a measurement was made with: {"size", 65536}, {"memory", "BAR"}.
using Params = std::vector<std::pair<std::string, std::variant<std::int64_t, std::string>>>;

struct Variant {
    std::string name;
    std::vector<double> samples; ///< in the order of the rounds
};

/// One thing that was measured, of several variants.
struct Measurement {
    std::string metric; ///< "ib_write_bw"
    std::string unit;   ///< "MiB/s", "us", "B", ...
    Better better = Better::LOWER;
    Params params;
    std::string baseline; ///< the variant that the others are set against; "": none
    std::vector<Variant> variants;

    /// One more sample of @p variant, which is new if this is its first.
    void add(const std::string& variant, double sample);
};

/// All that a suite has measured.
class Record {
  public:
    explicit Record(std::string suite) : suite_(std::move(suite)) {}

    /// Begin one more. It stays where it is as long as the record. If it gets no sample
    /// it is left out.
    Measurement& add(Measurement measurement);

    /// A table of the medians and how far they are from the baseline's.
    void print(std::ostream& out) const;
    /// Throws std::system_error. An empty @p path: does nothing.
    void write_json(const std::string& path) const;

  private:
    std::string suite_;
    std::list<Measurement> measurements_;
};

/// Call @p sample(0) ... @p sample(@p ways - 1), all of them @p rounds times. Another
/// one is first in each round, so that none always comes after the same.
void by_turns(std::size_t rounds, std::size_t ways, const std::function<void(std::size_t)>& sample);

/// Microseconds that @p work takes.
double time_us(const std::function<void()>& work);

} // namespace pfn::perf
