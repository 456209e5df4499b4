// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
//
// A program of the perftest overlay (perf/perftest), run twice: as the server in the
// network namespace gpu, on rxe_gpu, and as its client in peer, on rxe_peer.
#pragma once

#include "common/process.hpp"

#include <chrono>
#include <string>
#include <vector>

namespace pfn::perf {

using Options = std::vector<std::string>;

struct PerftestPair {
    std::string program; ///< "ib_write_bw"
    Options both;        ///< options of either side: perftest wants most of them alike
    Options server;      ///< of the server only, whose memory others access
    Options client;
};

/// How one side has ended, and what it has printed.
struct PerftestEnd {
    Exit exit;
    std::string output;
    [[nodiscard]] bool good() const { return exit == Exit{}; }
};

struct PerftestEnds {
    PerftestEnd server;
    PerftestEnd client;
    [[nodiscard]] bool good() const { return server.good() && client.good(); }
};

/// Run both sides to their end. The client begins when the server listens; if that
/// ends before it does, there is no client, and @c client.exit is not good. Throws
/// Timeout, and std::system_error if there is no such program.
PerftestEnds run_perftest(const PerftestPair& pair,
                          std::chrono::seconds timeout = std::chrono::seconds(120));

/// Run one side of it where this process is, with nobody to talk to.
PerftestEnd run_alone(const std::string& program, const Options& options,
                      std::chrono::seconds timeout = std::chrono::seconds(60));

} // namespace pfn::perf
