// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
#pragma once

#include <sys/utsname.h>

#include <string_view>

namespace pfn {

/// Is this the lab's debug kernel? KASAN keeps freed memory for a while there, so
/// /proc/meminfo tells nothing about leaks; kmemleak does when the guest ends.
inline bool debug_kernel() {
    utsname names{};
    return uname(&names) == 0 && std::string_view(names.release).ends_with("-debug");
}

} // namespace pfn
