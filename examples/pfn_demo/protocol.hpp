// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
//
// Who says what to whom. The narrator (the parent) tells the two workers, gpu
// and peer, what to do next and prints what they answer. The workers exchange
// with each other what real programs would: a connection and memory keys.
#pragma once

#include "common/process.hpp"
#include "common/verbs.hpp"

#include <infiniband/pfndv.h>
#include <linux/pfn_vram.h>

#include <array>
#include <cstddef>
#include <cstdint>

namespace pfn::demo {

inline constexpr const char* GPU_NETNS = "gpu";
inline constexpr const char* PEER_NETNS = "peer";
inline constexpr const char* GPU_ADDRESS = "192.0.2.1"; // of the lab's guest
inline constexpr const char* PEER_ADDRESS = "192.0.2.2";
inline constexpr std::uint16_t PORT = 7471;

/// The two buffers: A starts in VRAM, in one piece; B in system memory, every
/// page a range of its own.
inline constexpr std::size_t BUFFERS = 2;

/// What the narrator asks for. The answer's type is behind it.
enum class Ask : std::uint32_t {
    // gpu
    OPEN,       ///< GpuOpened
    ALLOCATE,   ///< Allocated
    ACCEPT,     ///< Done when listening, Done when connected
    CHECKSUM,   ///< Sums, as the CPU sees the buffers
    START_MOVE, ///< Done
    MOVES,      ///< Moves so far
    STOP_MOVE,  ///< Moves in all
    VERIFY,     ///< after it a message with the Versions; Verified
    COST,       ///< Cost
    // peer
    CONNECT,  ///< Done
    FILL,     ///< Sums, as the peer wrote and read back
    TRAFFIC,  ///< after it the seconds (unsigned); Progress each second
    VERSIONS, ///< a message with the Versions
    COUNTERS, ///< Sums without checksums
    // both
    QUIT,
};

struct Done {};

struct GpuOpened {
    pfn_vram_dev_info device;
};

struct Allocated {
    std::array<pfn_vram_buf_info, BUFFERS> buffer;
    std::array<pfndv_mr_attr, BUFFERS> mr;
};

struct Sums {
    std::array<std::uint64_t, BUFFERS> checksum; ///< of the pattern area
    std::array<std::uint64_t, BUFFERS> counter;  ///< the word for fetch-and-add
    std::uint64_t errors;
};

struct Moves {
    std::uint64_t moves;
    std::uint64_t faults;
    std::uint64_t invalidations;
    std::uint64_t worst_quiesce_ns; ///< longest time to stop all importers
};

struct Progress {
    std::uint64_t bytes_written;
    std::uint64_t bytes_read;
    std::uint64_t errors;
    bool last;
};

struct Verified {
    std::uint64_t bytes;
    std::uint64_t bad_pieces;
    std::array<std::uint64_t, BUFFERS> counter;
    std::array<pfn_vram_buf_info, BUFFERS> buffer;
};

/// One kind of MR, for the table.
struct CostRow {
    std::uint64_t ranges;    ///< physical ranges (pages for the ordinary MR)
    double slab_bytes;       ///< kernel memory per MR, from /proc/meminfo
    std::uint64_t own_bytes; ///< the same as the MR itself tells, 0 if it can't
    double register_ns;      ///< median
};

struct Cost {
    CostRow host;
    CostRow contiguous;
    CostRow fragmented;
};

/// What the peer learns when it connects.
struct Keys {
    std::array<Remote, BUFFERS> memory;
    std::uint64_t size = 0; ///< bytes of each buffer
};

} // namespace pfn::demo
