// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
//
// What the programs here have in common: two processes as on two hosts, the one with the
// "GPU" and its peer, connected by libfabric, and the command line that says where.
#pragma once

#include "common/process.hpp"
#include "fabric_dmabuf/fabric.hpp"

namespace pfn::fabric {

/// A process: its end of the connection, and what it says to the other besides, which would
/// go over TCP between hosts. Returns its exit status.
using Role = int (*)(const Endpoint& end, const Channel& other);

/// All of main(): @p gpu listens, @p peer calls. Returns the exit status.
int run_pair(int argc, char** argv, const char* description, Role gpu, Role peer);

/// Say @p what and whether it is @p fine, at once: two processes have the same output.
/// Returns @p fine.
bool verdict(const std::string& what, bool fine);

} // namespace pfn::fabric
