// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
//
// What is in the buffers. A buffer is cut into pieces; each piece holds the
// pattern of its buffer, its number and its *version*, which grows with every
// write. The last page holds the counter for fetch-and-add. So whoever knows
// the versions can tell of every byte what it must be.
#pragma once

#include "common/verbs.hpp"
#include "common/vram.hpp"
#include "pfn_demo/protocol.hpp"

#include <cstddef>
#include <cstdint>
#include <random>
#include <span>
#include <vector>

namespace pfn::demo {

/// How a buffer of some size is cut up.
struct Layout {
    static constexpr std::uint64_t PIECE = 64U << 10U;

    std::uint64_t size; ///< bytes of the buffer

    /// Bytes that hold patterns.
    [[nodiscard]] std::uint64_t area() const;
    [[nodiscard]] std::size_t pieces() const;
    /// Piece @p i of the pattern area.
    [[nodiscard]] std::uint64_t offset(std::size_t i) const { return i * PIECE; }
    [[nodiscard]] std::uint64_t length(std::size_t i) const;
    /// Offset of the counter, 8 bytes.
    [[nodiscard]] std::uint64_t counter() const { return area(); }
};

/// Seed of the pattern of a piece.
std::uint64_t pattern_seed(std::size_t buffer, std::size_t piece, std::uint32_t version);

/// Version of every piece: of all of buffer 0, then of all of buffer 1.
using Versions = std::vector<std::uint32_t>;

/// The peer's side of the traffic. Counts what goes wrong; throws only if the
/// connection breaks.
class Traffic {
  public:
    Traffic(const Pd& pd, Cq& cq, QpRef qp, const Keys& keys);

    /// Write every piece of both buffers, read it back, add to the counters.
    Sums fill();
    /// Write a few random pieces, read them back, compare, add to the counters.
    void batch();

    /// What the counters must be by now, and the errors so far.
    [[nodiscard]] Sums counters() const;
    [[nodiscard]] const Progress& progress() const { return progress_; }
    [[nodiscard]] const Versions& versions() const { return versions_; }

  private:
    struct Piece {
        std::size_t buffer;
        std::size_t number;
    };
    static constexpr std::size_t BATCH = 4; // pieces in flight

    void exchange(std::span<const Piece> pieces);
    void add_to_counters();
    void expect_success(unsigned completions);
    [[nodiscard]] Remote at(std::size_t buffer, std::uint64_t offset) const;
    std::uint32_t& version(Piece piece);
    [[nodiscard]] ibv_sge sge(const Mapping& memory, const Mr& mr, std::size_t slot,
                              std::uint64_t length) const;

    Cq& cq_;
    QpRef qp_;
    Keys keys_;
    Layout layout_;
    Mapping out_;
    Mapping in_;
    Mr out_mr_;
    Mr in_mr_;
    Versions versions_;
    Progress progress_{};
    std::uint64_t added_ = 0;
    std::minstd_rand random_{42};
};

} // namespace pfn::demo
