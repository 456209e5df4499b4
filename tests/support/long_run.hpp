// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
#pragma once

#include <cstdlib>
#include <string_view>

namespace pfn {

/// Were the long versions of the tests asked for? (./lab test --long, or
/// UMEM_PFN_LONG=1 in the environment.)
inline bool long_run() {
    const char* const value = std::getenv("UMEM_PFN_LONG"); // NOLINT(concurrency-mt-unsafe)
    return value != nullptr && std::string_view(value) != "" && std::string_view(value) != "0";
}

} // namespace pfn
