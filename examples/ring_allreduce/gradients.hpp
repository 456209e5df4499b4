// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
//
// What is reduced.
#pragma once

#include <cstddef>
#include <span>

namespace pfn {

/// What the "backward pass" of @p rank makes of element @p index in @p round. Any rank can
/// compute another's, which is how results are checked. Numbers of very different size,
/// so that sums in another order are other sums.
float gradient(std::size_t index, unsigned rank, unsigned round);

/// All of them.
void fill_gradients(std::span<float> gradients, unsigned rank, unsigned round);

} // namespace pfn
