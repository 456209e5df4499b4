// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
//
// What the two nodes have agreed on. Blocks go by RDMA; all else goes over a connection
// that keeps order and does not depend on RDMA, a pfn::Channel here and TCP between hosts.
//
//   prefill                                    decode
//      CRC of each block                 ->
//      Connect{queue pair}               ->    posts receives
//                                        <-    Connected{queue pair}
//                                        <-    Grant{slot, memory} ...
//      RDMA write of a block to the slot, whose immediate names both
//                                        <-    Grant{slot, memory}     it is free again
//                                        <-    Resend{block}           it was evicted
//      Connect{queue pair}               ->    the last one has failed: memory was revoked
//                                        <-    Finished
//
// A Grant is a credit: prefill writes to no memory without. A new connection begins without
// any; decode grants again what is free.
#pragma once

#include "common/verbs.hpp"

#include <zlib.h>

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

namespace pfn {

struct Options {
    unsigned requests = 8;               ///< that were prefilled
    unsigned blocks = 16;                ///< of each request's KV cache
    std::uint64_t block_size = 64 << 10; ///< bytes, whole pages
    unsigned slots = 20;                 ///< blocks that decode has memory for
    unsigned window = 8;                 ///< writes in flight
    unsigned move_every = 2;             ///< decode moves a block after so many; 0: none
    unsigned lose_every = 16;            ///< and loses one of so many; 0: none
    std::string prefill;                 ///< RDMA devices
    std::string decode;
    std::string device; ///< with the memory

    [[nodiscard]] unsigned total() const { return requests * blocks; }
};

enum class Kind : std::uint32_t { Connect, Connected, Grant, Resend, Finished };

struct Message {
    Kind kind = Kind::Finished;
    std::uint32_t slot = 0;  ///< Grant
    Remote memory{};         ///< Grant
    std::uint32_t block = 0; ///< Resend
    QpAddress qp{};          ///< Connect, Connected
};

constexpr unsigned MOST_BLOCKS = 16 << 10; ///< so that their CRCs fit into a message
constexpr unsigned MOST_SLOTS = Qp::DEPTH; ///< so that there is a receive for each

/// The immediate data of a write, and what is in it.
constexpr std::uint32_t immediate(std::uint32_t block, std::uint32_t slot) {
    return slot << 16U | block;
}
constexpr std::uint32_t block_of(std::uint32_t imm) {
    return imm & 0xffffU;
}
constexpr std::uint32_t slot_of(std::uint32_t imm) {
    return imm >> 16U;
}

/// CRC-32 of a block.
inline std::uint32_t crc_of(std::span<const std::byte> block) {
    return static_cast<std::uint32_t>(
        ::crc32_z(0, reinterpret_cast<const Bytef*>(block.data()), block.size()));
}

} // namespace pfn
