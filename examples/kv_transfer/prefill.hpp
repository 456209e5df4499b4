// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
//
// The node that has computed the KV cache of prompts, and streams it to the node that goes
// on with it.
#pragma once

#include "common/ends.hpp"
#include "common/process.hpp"
#include "common/vram.hpp"
#include "kv_transfer/protocol.hpp"

#include <infiniband/pfndv.hpp>

#include <cstdint>
#include <deque>
#include <map>
#include <set>

namespace pfn {

/// What became of it.
struct PrefillResult {
    std::uint32_t written = 0;       ///< blocks, those that were written again included
    std::uint32_t access_errors = 0; ///< writes to memory that had been revoked
    std::uint32_t flushed = 0;       ///< writes behind those, which were not done
    std::uint32_t connections = 0;
    std::uint32_t stalls = 0; ///< times that it had blocks but no credit
};

class Prefill {
  public:
    /// @p decode: the connection to the other node.
    Prefill(const Options& options, const Channel& decode);

    /// Stream until the other node has finished.
    PrefillResult run();

  private:
    void compute();
    /// A new queue pair in place of the one that has failed, or of none.
    void connect();
    void take(const Message& message);
    void take(const ibv_wc& wc);
    void write_blocks();

    const Options& options_;
    const Channel& decode_;
    Endpoint end_;
    VramDevice device_;
    DmaBuf cache_; ///< block after block
    pfndv::Mr mr_;

    std::set<std::uint32_t> waiting_;            ///< blocks to be sent, the first first
    std::deque<Message> credits_;                ///< grants that were not used yet
    std::map<std::uint32_t, Message> in_flight_; ///< block, and the grant that it uses
    bool broken_ = false;                        ///< the queue pair has failed
    bool finished_ = false;
    PrefillResult result_;
};

} // namespace pfn
