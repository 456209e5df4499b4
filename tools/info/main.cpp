// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
//
// pfn-info: can memory on dma-bufs be registered here, and if not why not?
//
//   main     this file: the command line, and what is printed
//   checks   what is looked at, and what is said about it
//   modules  kernel modules
#include "tools/cli.hpp"
#include "tools/info/checks.hpp"

#include <algorithm>
#include <print>

namespace pfn::tools {
namespace {

const char* name(Verdict verdict) {
    switch (verdict) {
    case Verdict::GOOD:
        return "ok";
    case Verdict::NOTE:
        return "note";
    case Verdict::BAD:
        return "bad";
    }
    return "bad";
}

void print_json(const Report& report, bool fine) {
    Json checks = Json::array();
    for (const Check& check : report.checks)
        checks.push_back({{"subject", check.subject},
                          {"verdict", name(check.verdict)},
                          {"text", check.text},
                          {"advice", check.advice.empty() ? Json(nullptr) : Json(check.advice)}});
    print({{"tool", "pfn-info"},
           {"version", version()},
           {"verdict", fine ? "ok" : "bad"},
           {"checks", std::move(checks)},
           {"devices", report.devices},
           {"exporters", report.exporters}});
}

void print_text(const Report& report, bool fine) {
    for (const Check& check : report.checks) {
        std::println("{:<5} {:<24} {}", name(check.verdict), check.subject, check.text);
        if (!check.advice.empty())
            std::println("{:<5} {:<24} -> {}", "", "", check.advice);
    }
    std::println("\n{}", fine ? "Memory on dma-bufs can be registered here."
                              : "Something is missing: see the lines that begin with \"bad\".");
}

Status run(bool json) {
    const Report report = look_around();
    const bool fine = std::ranges::none_of(
        report.checks, [](const Check& check) { return check.verdict == Verdict::BAD; });
    if (json)
        print_json(report, fine);
    else
        print_text(report, fine);
    return fine ? FINE : FAILED;
}

} // namespace
} // namespace pfn::tools

int main(int argc, char** argv) {
    bool json = false;
    return pfn::tools::run_tool(
        {.name = "pfn-info",
         .purpose = "Say what pfn MRs (RDMA memory regions on dma-bufs) need, and what of that is "
                    "here.",
         .add_options =
             [&](CLI::App& app) { app.add_flag("--json", json, "print a JSON document"); },
         .run = [&] { return pfn::tools::run(json); }},
        argc, argv);
}
