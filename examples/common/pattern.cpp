// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
#include "common/pattern.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>

namespace pfn {
namespace {

/// Word @p index of the pattern of @p seed: a mix of both in which every input
/// bit changes about half of the output (the finalizer of SplitMix64).
std::uint64_t word_at(std::uint64_t seed, std::uint64_t index) {
    std::uint64_t x = seed * 0xd1342543de82ef95U + (index + 1) * 0x9e3779b97f4a7c15U;
    x = (x ^ (x >> 30U)) * 0xbf58476d1ce4e5b9U;
    x = (x ^ (x >> 27U)) * 0x94d049bb133111ebU;
    return x ^ (x >> 31U);
}

/// Calls piece(offset in the data, bytes of the pattern) word by word until
/// @p size bytes are through or it returns false.
template<typename Piece>
void for_each_word(std::size_t size, std::uint64_t seed, std::uint64_t position,
                   const Piece& piece) {
    for (std::size_t done = 0; done < size;) {
        const std::uint64_t at = position + done;
        const std::size_t skip = at % sizeof(std::uint64_t);
        const std::size_t take = std::min(sizeof(std::uint64_t) - skip, size - done);
        const auto word = std::bit_cast<std::array<std::byte, sizeof(std::uint64_t)>>(
            word_at(seed, at / sizeof(std::uint64_t)));
        if (!piece(done, std::span(word).subspan(skip, take)))
            return;
        done += take;
    }
}

} // namespace

void fill_pattern(std::span<std::byte> out, std::uint64_t seed, std::uint64_t position) {
    for_each_word(out.size(), seed, position, [&](std::size_t at, std::span<const std::byte> word) {
        std::memcpy(out.data() + at, word.data(), word.size());
        return true;
    });
}

std::optional<std::size_t> find_mismatch(std::span<const std::byte> data, std::uint64_t seed,
                                         std::uint64_t position) {
    std::optional<std::size_t> bad;
    for_each_word(data.size(), seed, position,
                  [&](std::size_t at, std::span<const std::byte> word) {
                      const auto [mine, pattern] = std::mismatch(
                          word.begin(), word.end(), data.begin() + static_cast<std::ptrdiff_t>(at));
                      if (mine == word.end())
                          return true;
                      bad = at + static_cast<std::size_t>(mine - word.begin());
                      return false;
                  });
    return bad;
}

std::uint64_t checksum(std::span<const std::byte> data) {
    std::uint64_t sum = 0xcbf29ce484222325U;
    for (const std::byte b : data)
        sum = (sum ^ static_cast<std::uint64_t>(b)) * 0x100000001b3U;
    return sum;
}

} // namespace pfn
