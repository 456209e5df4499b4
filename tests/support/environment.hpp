// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
//
// Numbers that whoever runs a test may give it.
#pragma once

#include <charconv>
#include <cstdint>
#include <cstdlib>
#include <optional>
#include <random>
#include <stdexcept>
#include <string>
#include <string_view>

namespace pfn {

/// The value of the environment variable @p name, if it is set. Throws if it is
/// no number.
inline std::optional<std::uint64_t> environment_number(const char* name) {
    const char* const text = std::getenv(name); // NOLINT(concurrency-mt-unsafe)
    if (!text)
        return std::nullopt;
    const std::string_view view(text);
    std::uint64_t value = 0;
    if (std::from_chars(view.begin(), view.end(), value).ptr != view.end() || view.empty())
        throw std::runtime_error(std::string(name) + " is no number");
    return value;
}

/// UMEM_PFN_SEED, or one nobody has thought of. A test that uses it prints it.
inline std::uint64_t random_seed() {
    if (const auto value = environment_number("UMEM_PFN_SEED"))
        return *value;
    return std::random_device()();
}

} // namespace pfn
