// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
//
// What the fuzz test does, one step at a time. A step is a function of the seed,
// of who does it and of its number, and of nothing that happened before: a replay
// asks for the same things in the same order, whatever comes of them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

namespace pfn::fuzz {

inline constexpr std::size_t BUFFERS = 6; ///< shared by all actors
inline constexpr std::size_t REGIONS = 8; ///< of each actor
/// Bytes of every buffer that belong to one actor: nobody else writes there.
inline constexpr std::uint64_t STRIPE = 12 * 1024;

enum class What {
    REGISTER,
    DEREG,
    QUERY,
    REREG,  ///< other access rights
    ADVISE, ///< prefetch
    // accesses through an MR: by the peer,
    WRITE,
    READ,
    ADD,
    SWAP,
    STORE, ///< ATOMIC_WRITE
    // by the gpu,
    LOAD_LOCAL,  ///< READ from the peer into the MR
    STORE_LOCAL, ///< WRITE out of the MR to the peer
    // by both,
    SEND, ///< from the peer into the MR
    // and by a CPU
    CPU_WRITE,
    CPU_READ,
    MOVE,
    REVOKE,
    RESTORE,
    INFO,
    REPLACE, ///< forget the buffer, make another in its place
    FORK,    ///< a child that looks at the memory and ends
    KILL,    ///< a child with an MR and traffic of its own, killed
};

/// What to do, and to what. Which of the values matter depends on `what`.
struct Operation {
    What what;
    std::size_t buffer; ///< below BUFFERS
    std::size_t region; ///< below REGIONS
    /// A piece of the actor's stripe.
    std::uint64_t offset;
    std::uint64_t length;
    std::uint64_t value; ///< to add, to store, seed of a pattern, ...
    std::uint32_t placement;
    std::uint32_t mode; ///< enum pfn_mr_mode
    std::uint32_t caps; ///< enum pfn_vram_caps
    bool fragmented;
    bool asynchronous;
    bool writable;      ///< access rights
    bool plain;         ///< registered by ibv_reg_dmabuf_mr()
    std::size_t advice; ///< below 3
};

/// Step @p number of @p actor.
Operation operation(std::uint64_t seed, std::size_t actor, std::uint64_t number);

const char* name(What what);
std::string describe(const Operation& op);

} // namespace pfn::fuzz
