// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
#include "ring_allreduce/gradients.hpp"

#include <bit>
#include <cstdint>

namespace pfn {

float gradient(std::size_t index, unsigned rank, unsigned round) {
    // A mix of all three, half of whose bits change with any bit of theirs.
    std::uint64_t x =
        (std::uint64_t{round} << 48U | std::uint64_t{rank} << 40U | index) * 0x9e3779b97f4a7c15U;
    x = (x ^ (x >> 32U)) * 0xd6e8feb86659fd93U;
    x ^= x >> 32U;
    // Sign and fraction are the lower bits; the exponent is one of 2^-8 to 2^7.
    const auto bits = static_cast<std::uint32_t>(x);
    const std::uint32_t exponent = 127 - 8 + static_cast<std::uint32_t>(x >> 60U);
    return std::bit_cast<float>((bits & 0x807fffffU) | exponent << 23U);
}

void fill_gradients(std::span<float> gradients, unsigned rank, unsigned round) {
    for (std::size_t i = 0; i < gradients.size(); ++i)
        gradients[i] = gradient(i, rank, round);
}

} // namespace pfn
