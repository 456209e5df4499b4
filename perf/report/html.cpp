// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
#include "report/html.hpp"

#include "json.hpp"
#include "report/figure.hpp"

#include "common/error.hpp"
#include "common/files.hpp"

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <format>
#include <fstream>
#include <map>
#include <set>
#include <variant>

namespace pfn::perf {
namespace {

constexpr const char* STYLE =
    "body{font:15px/1.45 sans-serif;max-width:70em;margin:2em auto;padding:0 1em;color:#222}"
    "table{border-collapse:collapse;margin:.6em 0 1.6em}"
    "th,td{padding:.15em .8em;text-align:right;border-bottom:1px solid #ddd;white-space:nowrap}"
    "th{background:#f4f4f4}td:first-child,th:first-child{text-align:left}"
    "small{color:#777}figure{margin:.6em 0}svg{max-width:100%;height:auto}";

constexpr const char* LEGEND =
    "Each figure is the median of what was measured in one boot, its variants by turns, round "
    "by round. <small>&plusmn;</small>: half of the way from the lowest to the highest tenth. "
    "<b>&times;</b>: against the baseline, the median of the rounds' ratios; it is what says "
    "something about other machines. Bars in the curves go from the lowest to the highest tenth. "
    "An exponent says how a cost grows: 0 is O(1), 1 is O(n).";

std::string escaped(const std::string& text) {
    std::string out;
    for (const char c : text) {
        if (c == '<')
            out += "&lt;";
        else if (c == '>')
            out += "&gt;";
        else if (c == '&')
            out += "&amp;";
        else
            out += c;
    }
    return out;
}

/// Entries of one metric whose parameters are the same but for one, if that is a number.
struct Group {
    std::string suite;
    std::string metric;
    std::string rest; ///< the parameters that are the same
    std::string x;    ///< the one that isn't, "" if there is none
    std::vector<const Entry*> entries;

    [[nodiscard]] const Measurement& first() const { return entries.front()->m; }
    [[nodiscard]] std::string title() const {
        return suite + ": " + metric + (rest.empty() ? "" : ", " + rest);
    }
};

std::optional<std::int64_t> number(const Entry& entry, const std::string& name) {
    const auto& params = entry.m.params;
    const auto found = std::ranges::find(params, name, &Params::value_type::first);
    if (found == params.end() || !std::holds_alternative<std::int64_t>(found->second))
        return std::nullopt;
    return std::get<std::int64_t>(found->second);
}

/// The number among the parameters of @p entries that takes the most values.
std::string widest(const std::vector<const Entry*>& entries) {
    std::map<std::string, std::set<std::int64_t>> values;
    for (const Entry* entry : entries) {
        for (const auto& [name, value] : entry->m.params) {
            if (const auto n = number(*entry, name))
                values[name].insert(*n);
        }
    }
    std::string best;
    std::size_t most = 1;
    for (const auto& [name, found] : values) {
        if (found.size() > most) {
            most = found.size();
            best = name;
        }
    }
    return best;
}

std::vector<Group> groups_of(const Results& run) {
    std::map<std::pair<std::string, std::string>, std::vector<const Entry*>> metrics;
    std::vector<std::pair<std::string, std::string>> order;
    for (const Entry& entry : run.entries) {
        const std::pair name(entry.suite, entry.m.metric);
        if (metrics[name].empty())
            order.push_back(name);
        metrics[name].push_back(&entry);
    }
    std::vector<Group> groups;
    for (const auto& name : order) {
        const auto& entries = metrics[name];
        const std::string x = widest(entries);
        const std::size_t first = groups.size();
        for (const Entry* entry : entries) {
            Params rest = entry->m.params;
            std::erase_if(rest, [&](const auto& param) { return param.first == x; });
            const std::string text = params_text(rest);
            auto group = std::find_if(groups.begin() + static_cast<std::ptrdiff_t>(first),
                                      groups.end(), [&](const Group& g) { return g.rest == text; });
            if (group == groups.end())
                group = groups.insert(group, {.suite = name.first,
                                              .metric = name.second,
                                              .rest = text,
                                              .x = x,
                                              .entries = {}});
            group->entries.push_back(entry);
        }
    }
    return groups;
}

std::vector<std::string> variants_of(const Group& group) {
    std::vector<std::string> names;
    for (const Entry* entry : group.entries) {
        for (const Variant& v : entry->m.variants) {
            if (!std::ranges::contains(names, v.name))
                names.push_back(v.name);
        }
    }
    return names;
}

Figure figure_of(const Group& group) {
    Figure figure{.title = group.title(), .x = group.x, .y = group.first().unit, .curves = {}};
    for (const std::string& name : variants_of(group)) {
        Curve curve{.name = name, .points = {}};
        for (const Entry* entry : group.entries) {
            const Variant* v = entry->find(name);
            const auto x = number(*entry, group.x);
            if (v && x && !v->samples.empty())
                curve.points.push_back({.x = static_cast<double>(*x), .y = spread(v->samples)});
        }
        std::ranges::sort(curve.points, {}, &Point::x);
        if (!curve.points.empty())
            figure.curves.push_back(std::move(curve));
    }
    return figure;
}

/// "size of 64 KiB": what only few parameters are is said in bytes as people do.
std::string row_name(const Group& group, const Entry& entry) {
    const auto x = number(entry, group.x);
    if (!x)
        return params_text(entry.m.params);
    if (group.x != "size" && group.x != "access")
        return std::to_string(*x);
    for (const auto& [shift, unit] : {std::pair(30, "GiB"), {20, "MiB"}, {10, "KiB"}}) {
        if (*x >= 1LL << shift && *x % (1LL << shift) == 0)
            return std::format("{} {}", *x >> shift, unit);
    }
    return std::format("{} B", *x);
}

std::string cell(const Entry& entry, const Variant& v) {
    if (v.samples.empty())
        return "";
    const Spread own = spread(v.samples);
    std::string text = std::format("{:.4g}", own.middle);
    if (entry.m.unit == "exponent") {
        const auto over = std::ranges::find(entry.m.params, "over", &Params::value_type::first);
        return text + " <b>" +
               growth_name(own.middle,
                           over == entry.m.params.end() ? "n" : value_text(over->second)) +
               "</b>";
    }
    text += std::format(" <small>&plusmn;{:.0f} %</small>", 100 * own.relative());
    if (v.samples.size() >= 100)
        text += std::format("<br><small>p99 {:.4g}, max {:.4g}</small>", quantile(v.samples, 0.99),
                            quantile(v.samples, 1));
    if (const auto to = entry.ratio_of(v))
        text += std::format("<br><b>&times;{:.3g}</b> <small>{:.3g} to {:.3g}</small>", to->middle,
                            to->low, to->high);
    return text;
}

std::string table(const Group& group) {
    const auto names = variants_of(group);
    std::string text =
        std::format("<table><tr><th>{}</th>", escaped(group.x.empty() ? "" : group.x));
    for (const std::string& name : names)
        text += std::format("<th>{}{}</th>", escaped(name),
                            name == group.first().baseline ? " <small>(baseline)</small>" : "");
    text += "</tr>\n";
    for (const Entry* entry : group.entries) {
        text += "<tr><td>" + escaped(row_name(group, *entry)) + "</td>";
        for (const std::string& name : names) {
            const Variant* v = entry->find(name);
            text += "<td>" + (v ? cell(*entry, *v) : "") + "</td>";
        }
        text += "</tr>\n";
    }
    return text + "</table>\n";
}

/// @p figure for a page, which has its own idea of what comes before the <svg>.
std::string inlined(const Figure& figure, const std::string& page) {
    const std::string path = page + ".svg";
    draw(figure, path);
    const std::string svg = read_file(path);
    std::filesystem::remove(path);
    return svg.substr(svg.find("<svg"));
}

bool has_curve(const Group& group) {
    return !group.x.empty() && group.entries.size() >= 3;
}

std::string file_name(const Group& group) {
    std::string name =
        group.suite + "-" + group.metric + (group.rest.empty() ? "" : "-") + group.rest;
    std::ranges::replace_if(
        name, [](char c) { return !std::isalnum(static_cast<unsigned char>(c)); }, '-');
    return name;
}

std::string section(const Group& group, const std::string& page) {
    const Measurement& m = group.first();
    std::string text = std::format(
        "<h3>{} <small>{}{}</small></h3>\n",
        escaped(group.metric + (group.rest.empty() ? "" : ", ") + group.rest), escaped(m.unit),
        m.better == Better::HIGHER  ? ", more is better"
        : m.better == Better::LOWER ? ", less is better"
                                    : "");
    if (has_curve(group))
        text += "<figure>" + inlined(figure_of(group), page) + "</figure>\n";
    return text + table(group);
}

std::string meta_line(const Results& run) {
    std::string text;
    for (const auto& [name, value] : run.meta)
        text += (text.empty() ? "" : " &middot; ") + escaped(name) + ": " + escaped(value);
    return text;
}

} // namespace

void write_html(const Results& run, const std::string& path) {
    std::ofstream out(path);
    out << "<!DOCTYPE html>\n<html lang=\"en\"><meta charset=\"utf-8\">"
        << "<title>umem-pfn: measurements</title><style>" << STYLE << "</style>\n"
        << "<h1>umem-pfn: measurements</h1>\n<p>" << meta_line(run) << "</p>\n<p>" << LEGEND
        << "</p>\n";
    std::string suite;
    for (const Group& group : groups_of(run)) {
        if (group.suite != suite)
            out << "<h2>" << escaped(suite = group.suite) << "</h2>\n";
        out << section(group, path);
    }
    out << "</html>\n";
    if (!out.flush())
        throw_errno("write " + path);
}

void write_figures(const Results& run, const std::string& directory, const std::string& format) {
    for (const Group& group : groups_of(run)) {
        if (has_curve(group))
            draw(figure_of(group), std::format("{}/{}.{}", directory, file_name(group), format));
    }
}

} // namespace pfn::perf
