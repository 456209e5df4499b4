// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
//
// A buffer lives as long as somebody has it open. Those who do: this process until it
// is told to end, one in the background, a program that is given the descriptor.
#pragma once

#include "common/fd.hpp"
#include "tools/buf/reference.hpp"

#include <functional>
#include <string>
#include <vector>

namespace pfn::tools {

/// Keep this process, and so its descriptors, until SIGINT, SIGTERM or SIGHUP; before
/// it waits, it calls @p announce.
void hold_here(const std::function<void()>& announce);

/// Leave a process behind that has the same descriptors, and no terminal. It ends at
/// SIGINT, SIGTERM or SIGHUP. Returns its id.
pid_t hold_in_background();

/// Become the program @p command. It has @p fd open; PFN_BUF_FD is its number, which
/// also takes the place of each argument "{}". Throws Problem if there is no such
/// program.
[[noreturn]] void hold_as(std::vector<std::string> command, const Fd& fd);

/// End the process in the background that has the buffer @p name. Throws Problem if
/// it is another program.
void let_go(const std::string& name);

/// A descriptor that is a buffer of pfn_vram.
struct Found {
    Reference where;
    std::string program; ///< that has it open, its short name
    std::uint64_t size;  ///< bytes
    std::uint64_t inode; ///< of the dma-buf: the same for all descriptors of a buffer
};

/// Those of all processes that may be looked at.
std::vector<Found> find_buffers();

} // namespace pfn::tools
