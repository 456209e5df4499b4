// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
//
// Whole files in one go, as those of procfs, sysfs, tracefs and cgroups want it.
#pragma once

#include <string>

namespace pfn {

/// All of a file. Throws std::system_error if it cannot be opened.
[[nodiscard]] std::string read_file(const std::string& path);

/// Replace what is in a file. Throws std::system_error if the file or, in the case of
/// a kernel's file, who stands behind it does not take it.
void write_file(const std::string& path, const std::string& text);

} // namespace pfn
