// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
#include "report/figure.hpp"

#include "common/error.hpp"
#include "common/files.hpp"
#include "common/process.hpp"

#include <algorithm>
#include <filesystem>
#include <format>
#include <fstream>
#include <limits>
#include <stdexcept>

namespace pfn::perf {
namespace {

/// As a string of gnuplot's: 'it''s'
std::string quoted(const std::string& text) {
    std::string out = "'";
    for (const char c : text)
        out += c == '\'' ? "''" : std::string(1, c);
    return out + "'";
}

bool all_positive(const Figure& figure, auto&& value) {
    return std::ranges::all_of(figure.curves, [&](const Curve& curve) {
        return std::ranges::all_of(curve.points,
                                   [&](const Point& point) { return value(point) > 0; });
    });
}

/// A range for values that are all the same, which gnuplot would complain of; else "".
std::string range_of_one_value(const Figure& figure) {
    double low = std::numeric_limits<double>::infinity();
    double high = -low;
    for (const Curve& curve : figure.curves) {
        for (const Point& p : curve.points) {
            low = std::min(low, p.y.low);
            high = std::max(high, p.y.high);
        }
    }
    if (low != high)
        return "";
    return low > 0 ? std::format("set yrange [{}:{}]\n", low / 2, low * 2)
                   : std::format("set yrange [{}:{}]\n", low - 1, low + 1);
}

std::string data_block(const Curve& curve, std::size_t index) {
    std::string text = std::format("$d{} << END\n", index);
    for (const Point& p : curve.points)
        text += std::format("{} {} {} {}\n", p.x, p.y.middle, p.y.low, p.y.high);
    return text + "END\n";
}

std::string terminal(const std::string& path) {
    if (path.ends_with(".svg"))
        return "svg size 720,420 font 'sans,12'";
    if (path.ends_with(".png")) // for screens whose pixels are small, too
        return "pngcairo size 1440,840 fontscale 2 linewidth 2 pointscale 2 font 'sans,12'";
    throw std::invalid_argument("neither .svg nor .png: " + path);
}

std::string script(const Figure& figure, const std::string& path) {
    std::string text = std::format("set terminal {} noenhanced background '#ffffff'\n"
                                   "set output {}\nset title {}\nset xlabel {}\nset ylabel {}\n"
                                   "set key outside right top\nset grid\nset format x '%.0s%c'\n",
                                   terminal(path), quoted(path), quoted(figure.title),
                                   quoted(figure.x), quoted(figure.y));
    if (all_positive(figure, [](const Point& p) { return p.x; }))
        text += "set logscale x 2\n";
    if (all_positive(figure, [](const Point& p) { return p.y.low; }))
        text += "set logscale y\n";
    text += range_of_one_value(figure);
    std::string plots;
    for (std::size_t i = 0; i < figure.curves.size(); ++i) {
        text += data_block(figure.curves[i], i);
        plots += std::format("{} $d{} using 1:2:3:4 with yerrorlines lw 2 title {}",
                             i ? ", \\\n  " : "plot", i, quoted(figure.curves[i].name));
    }
    return text + plots + "\n";
}

} // namespace

void draw(const Figure& figure, const std::string& path) {
    const std::string text = script(figure, path);
    const std::string commands = path + ".gnuplot";
    {
        std::ofstream out(commands);
        out << text;
        if (!out.flush())
            throw_errno("write " + commands);
    }
    const Exit exit = run_program({"gnuplot", commands}, std::chrono::minutes(1));
    std::filesystem::remove(commands);
    if (exit != Exit{})
        throw std::runtime_error(std::format("gnuplot failed to draw \"{}\"", figure.title));
}

} // namespace pfn::perf
