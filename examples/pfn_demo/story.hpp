// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
#pragma once

#include "pfn_demo/options.hpp"

namespace pfn::demo {

/// Start the two processes, have them act and tell what happens on stdout.
/// Returns the exit status: 0 if all that was verified was right. Problems are
/// said on stderr, in one line.
int tell_story(const Options& options);

} // namespace pfn::demo
