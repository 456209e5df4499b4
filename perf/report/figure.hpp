// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
//
// Curves, drawn by gnuplot.
#pragma once

#include "stats.hpp"

#include <string>
#include <vector>

namespace pfn::perf {

struct Point {
    double x;
    Spread y;
};

struct Curve {
    std::string name;
    std::vector<Point> points; ///< by x
};

/// Both axes are logarithmic, unless a value is not positive.
struct Figure {
    std::string title;
    std::string x;
    std::string y;
    std::vector<Curve> curves;
};

/// Write it to @p path, whose end says as what: ".svg" or ".png". Throws if gnuplot cannot.
void draw(const Figure& figure, const std::string& path);

} // namespace pfn::perf
