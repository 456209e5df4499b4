// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
#pragma once

#include "common/process.hpp"
#include "pfn_demo/options.hpp"

namespace pfn::demo {

/// The process that has the memory: allocates it, lends it to the peer, moves
/// it. Answers the narrator until QUIT; returns the exit status.
int run_gpu(const Options& options, Channel& narrator);

/// The process that uses the memory from afar.
int run_peer(Channel& narrator);

} // namespace pfn::demo
