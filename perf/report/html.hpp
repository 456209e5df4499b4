// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
//
// A run as one page: curves, and tables of medians with ratios and spreads. And the
// curves alone.
#pragma once

#include "report/results.hpp"

#include <string>

namespace pfn::perf {

/// Write @p run to @p path, a page that needs no other file.
void write_html(const Results& run, const std::string& path);

/// Write the page's curves to files in @p directory, of @p format "svg" or "png".
void write_figures(const Results& run, const std::string& directory, const std::string& format);

} // namespace pfn::perf
