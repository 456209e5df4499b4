// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
//
// Processes in a ring, as collectives are made of: each has a queue pair for the one on
// its left, which writes to its memory, and one for the one on its right, to whose memory
// it writes. Their parent introduces them to each other.
#pragma once

#include "common/ends.hpp"
#include "common/process.hpp"

#include <cstdint>
#include <deque>
#include <string>

namespace pfn {

/// What neighbours have to know of a member.
struct RingAddress {
    QpAddress from_left;    ///< its queue pair for the one before it
    QpAddress to_right;     ///< and for the one behind it
    std::uint32_t rkey = 0; ///< of its memory, which begins at address 0
};

/// A member, in its own process.
class RingMember {
  public:
    /// On the RDMA device @p rdma. Nobody knows of it yet.
    explicit RingMember(const std::string& rdma)
        : end_(rdma), to_right_(end_.context, end_.pd, end_.cq) {}

    [[nodiscard]] const Pd& pd() const { return end_.pd; }
    /// Completions of both queue pairs.
    [[nodiscard]] const Cq& cq() const { return end_.cq; }

    /// Tell @p parent of this member, whose memory has @p rkey, and connect to the
    /// neighbours. Returns when all members are ready; the left one may then write
    /// @p writes times before it takes another receive_again().
    void join(const Channel& parent, std::uint32_t rkey, unsigned writes);
    /// Write @p local to @p address of the right neighbour, who is told @p imm.
    void write_right(std::uint64_t id, const ibv_sge& local, std::uint64_t address,
                     std::uint32_t imm) const;
    /// The left neighbour may write once more.
    void receive_again() const;

  private:
    Endpoint end_; // its queue pair is for the left neighbour
    Qp to_right_;
    std::uint32_t right_rkey_ = 0;
};

/// For the parent: have all of @p ring join(), number 0 being to the right of the last.
void introduce(std::deque<Child>& ring);

} // namespace pfn
