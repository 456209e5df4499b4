// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
#pragma once

#include "common/verbs.hpp"
#include "common/vram.hpp"
#include "pfn_demo/protocol.hpp"

namespace pfn::demo {

/// What registering @p size bytes costs, as an ordinary MR and as a pfn MR on
/// contiguous and on fragmented system memory (so that VRAM need not be large).
///
/// Time: median of interleaved rounds, so that whatever else the machine does
/// hits all three alike. Kernel memory: growth of SUnreclaim in /proc/meminfo
/// over many MRs of a kind; memory the kernel takes in whole pages instead of
/// from slabs is not in it, which favours the ordinary MR.
Cost measure_cost(const VramDevice& vram, const Pd& pd, std::uint64_t size);

} // namespace pfn::demo
