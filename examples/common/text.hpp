// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
//
// Numbers for people.
#pragma once

#include <cstdint>
#include <string>

namespace pfn {

/// "312 B", "16.4 KiB", "4.0 MiB"
std::string bytes_text(double bytes);

/// "850 ns", "21.3 us", "1.2 ms", "3.0 s"
std::string time_text(double nanoseconds);

/// "1 range", "1024 ranges"
std::string count_text(std::uint64_t count, const std::string& singular);

/// What kind of machine figures come from: "emulated CPU (QEMU TCG)" ...
std::string machine_kind();

} // namespace pfn
