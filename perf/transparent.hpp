// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
//
// Part of the suite reg: what ibv_reg_mr() of ordinary memory costs with transparent
// registration and without, and what it costs to register a dma-buf by address and by
// descriptor. Switches rdma_rxe's parameter transparent_dmabuf, and back.
#pragma once

#include "record.hpp"

#include "common/verbs.hpp"
#include "common/vram.hpp"

namespace pfn::perf {

void measure_transparent(Record& record, const Pd& pd, const VramDevice& vram, bool quick);

} // namespace pfn::perf
