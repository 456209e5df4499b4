// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
//
// Bytes that say where they belong. Every 8-byte word of a pattern depends on
// its seed and its position, so data that is stale, shifted, swapped with other
// data or half old and half new cannot look right.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

namespace pfn {

/// Fill @p out with the pattern of @p seed. @p position is the byte position of
/// out[0] in the pattern, so that pieces of one pattern can be made separately.
void fill_pattern(std::span<std::byte> out, std::uint64_t seed, std::uint64_t position = 0);

/// Index of the first byte of @p data that differs from the pattern of @p seed
/// at @p position, or nothing if all of them are right.
std::optional<std::size_t> find_mismatch(std::span<const std::byte> data, std::uint64_t seed,
                                         std::uint64_t position = 0);

/// Checksum (64-bit FNV-1a) of @p data.
std::uint64_t checksum(std::span<const std::byte> data);

} // namespace pfn
