// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
//
// One rank: a process with a "GPU", and what it says to its parent.
#pragma once

#include "common/process.hpp"

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace pfn {

struct Options {
    unsigned ranks = 4;
    std::size_t elements = 256 << 10; ///< floats to reduce
    unsigned rounds = 5;
    unsigned move_ms = 5;          ///< between two moves of a rank's memory; 0: none
    std::vector<std::string> rdma; ///< devices, which ranks have in turns
    std::string device;            ///< with the memory
};

/// What a rank is told before each round: 0 is the end.
using Round = unsigned;

/// What it says after each.
struct RoundResult {
    double seconds = 0;      ///< of the all-reduce
    std::uint64_t wrong = 0; ///< elements
};

/// And in the end.
struct RankResult {
    std::uint64_t moves = 0;
    std::uint64_t faults = 0; ///< of its MR
};

/// What rank number @p rank does. Returns its exit status.
int run_rank(unsigned rank, const Options& options, const Channel& parent);

} // namespace pfn
