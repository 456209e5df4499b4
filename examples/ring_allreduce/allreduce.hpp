// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
//
// A ring all-reduce. The gradients are cut into as many chunks as there are ranks.
//
//   reduce-scatter   In each of ranks - 1 steps every rank writes a chunk to the inbox of
//                    the right neighbour, which adds it to its own. In the end every rank
//                    has one chunk that is the sum of all.
//   all-gather       In each of ranks - 1 steps every rank writes a finished chunk to where
//                    it belongs in the right neighbour's gradients.
//
// Every write carries the number of its step as immediate data, which is how the neighbour
// knows that it is there.
#pragma once

#include "common/ring.hpp"

#include <infiniband/pfndv.hpp>

#include <cstddef>
#include <cstdint>
#include <span>

namespace pfn {

/// Where things are in the memory of a rank, which is the same for all. Places are bytes
/// from the beginning, and addresses of the MR as well.
class Layout {
  public:
    Layout(std::size_t elements, unsigned ranks) : elements_(elements), ranks_(ranks) {}

    [[nodiscard]] unsigned ranks() const { return ranks_; }
    [[nodiscard]] std::size_t elements() const { return elements_; }
    /// Steps of each of the two phases.
    [[nodiscard]] unsigned steps() const { return ranks_ - 1; }
    /// First element of @p chunk; of the number of chunks, the end.
    [[nodiscard]] std::size_t begin(unsigned chunk) const { return elements_ * chunk / ranks_; }
    [[nodiscard]] std::size_t length(unsigned chunk) const {
        return begin(chunk + 1) - begin(chunk);
    }
    /// Which chunk an element belongs to.
    [[nodiscard]] unsigned chunk_of(std::size_t element) const;
    /// First element of the inbox of @p step. Each step has one of its own, so nobody has to
    /// ask whether it is free.
    [[nodiscard]] std::size_t inbox(unsigned step) const {
        return elements_ + step * (elements_ / ranks_ + 1);
    }
    /// Elements of it all.
    [[nodiscard]] std::size_t total() const { return inbox(steps()); }

  private:
    std::size_t elements_;
    unsigned ranks_;
};

/// The collective, of one rank. What it works on has to outlive it.
class AllReduce {
  public:
    /// @p memory: all of it, as Layout says, for the "GPU" that adds; @p mr: the same for
    /// RDMA. The left neighbour must be allowed writes_ahead() writes.
    AllReduce(const RingMember& ring, unsigned rank, const Layout& layout, std::span<float> memory,
              const pfndv::Mr& mr)
        : ring_(ring), rank_(rank), layout_(layout), memory_(memory), mr_(mr) {}

    /// How far the left neighbour may be ahead: a whole run.
    static unsigned writes_ahead(const Layout& layout) { return 2 * layout.steps(); }

    /// Reduce. All ranks have to.
    void run();

  private:
    void reduce_scatter();
    void all_gather();
    /// The chunk @p back places to the left of this rank's own.
    [[nodiscard]] unsigned chunk(unsigned back) const;
    /// Write @p chunk to element @p target of the right neighbour.
    void pass_on(unsigned chunk, std::size_t target, std::uint32_t step);
    /// Wait until the left neighbour's write of @p step is there.
    void await(std::uint32_t step);
    /// Wait until the right neighbour has all that was passed on.
    void finish_writes();
    void take(const ibv_wc& wc);

    const RingMember& ring_;
    unsigned rank_;
    const Layout& layout_;
    std::span<float> memory_;
    const pfndv::Mr& mr_;
    unsigned arrived_ = 0; ///< writes of the left neighbour in this run
    unsigned written_ = 0; ///< own writes that are complete
};

} // namespace pfn
