// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
//
// A run as one page: curves, and tables of medians with ratios and spreads.
#pragma once

#include "report/results.hpp"

#include <string>

namespace pfn::perf {

/// Write @p run to @p path, a page that needs no other file; the figures in it are also
/// left as SVG files in the directory @p figures.
void write_html(const Results& run, const std::string& path, const std::string& figures);

} // namespace pfn::perf
