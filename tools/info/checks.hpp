// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
//
// What pfn-info looks at.
#pragma once

#include "tools/cli.hpp"

#include <string>
#include <utility>
#include <vector>

namespace pfn::tools {

enum class Verdict {
    GOOD, ///< as it should be
    NOTE, ///< worth knowing; pfn MRs work without
    BAD,  ///< pfn MRs do not work, or not for this user
};

/// A thing that was looked at.
struct Check {
    std::string subject; ///< "kernel", "module rdma_rxe", "device rxe0"
    Verdict verdict = Verdict::GOOD;
    std::string text;   ///< how it is
    std::string advice; ///< what to do about it, "" if nothing

    static Check good(std::string subject, std::string text) {
        return {std::move(subject), Verdict::GOOD, std::move(text), {}};
    }
    static Check note(std::string subject, std::string text, std::string advice = {}) {
        return {std::move(subject), Verdict::NOTE, std::move(text), std::move(advice)};
    }
    static Check bad(std::string subject, std::string text, std::string advice) {
        return {std::move(subject), Verdict::BAD, std::move(text), std::move(advice)};
    }
};

/// All that was looked at. devices and exporters have figures for programs.
struct Report {
    std::vector<Check> checks;
    Json devices = Json::array();
    Json exporters = Json::array();
};

/// Look at everything. Changes nothing.
Report look_around();

} // namespace pfn::tools
