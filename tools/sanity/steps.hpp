// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
//
// What pfn-sanity does, step by step.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

namespace pfn::tools {

/// What to try it with.
struct Subject {
    std::string rdma;   ///< "rxe0"
    std::string vram;   ///< "/dev/pfn_vram0"
    std::uint64_t size; ///< bytes of the buffer
    bool plain_verb;    ///< ibv_reg_dmabuf_mr() should work
};

enum class Result { PASS, FAIL, SKIP };

/// How a step went.
struct Outcome {
    std::string step;
    Result result;
    std::string detail; ///< what was seen, what is wrong, or why it was left out
    double milliseconds;
};

/// Do all steps; @p report is called after each. When one has failed, those that
/// follow are skipped, but for the last, which looks at what is left behind.
void do_steps(const Subject& subject, const std::function<void(const Outcome&)>& report);

} // namespace pfn::tools
