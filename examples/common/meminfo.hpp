// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
#pragma once

#include <cstdint>

namespace pfn {

/// Lines of /proc/meminfo, in bytes.
struct MemInfo {
    std::uint64_t mem_free = 0;
    std::uint64_t mem_available = 0;
    std::uint64_t slab = 0;
    std::uint64_t slab_unreclaimable = 0; ///< SUnreclaim; large kmallocs count here
};

/// Read /proc/meminfo. Throws std::system_error or std::runtime_error.
MemInfo read_meminfo();

} // namespace pfn
