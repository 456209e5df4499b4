// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
//
// The node that takes requests over: it grants memory, has blocks written into it, and
// frees those of a request when it has all of them and has used them. Meanwhile its
// allocator moves blocks about, and loses some.
#pragma once

#include "common/ends.hpp"
#include "common/process.hpp"
#include "common/vram.hpp"
#include "kv_transfer/block_pool.hpp"
#include "kv_transfer/protocol.hpp"

#include <cstdint>
#include <optional>
#include <vector>

namespace pfn {

/// What became of it.
struct DecodeResult {
    double seconds = 0;        ///< from the first grant to the end
    std::uint32_t used = 0;    ///< blocks, each once
    std::uint32_t revoked = 0; ///< slots whose memory went while prefill was to write to it
    std::uint32_t evicted = 0; ///< blocks that were there, and had to be sent again
    std::uint32_t checked = 0; ///< CRCs, on arrival and before use
    std::uint32_t wrong = 0;   ///< of them
    std::uint64_t moves = 0;
    std::uint64_t faults = 0; ///< of the MRs
};

class Decode {
  public:
    /// @p prefill: the connection to the other node.
    Decode(const Options& options, const Channel& prefill);

    /// Take over all requests.
    DecodeResult run();

  private:
    using Block = std::uint32_t;
    struct Slot {
        std::optional<Block> block; ///< that is there
        bool granted = false;       ///< prefill may write to it, once
    };

    void take(const Message& message);
    void take(const ibv_wc& wc);
    /// A new connection, to @p remote: what was granted is free again.
    void accept(const QpAddress& remote);
    /// Have prefill write to all slots that are free.
    void grant_free_slots();
    void arrived(Block block, std::uint32_t slot);
    /// Is all of a request there?
    [[nodiscard]] bool complete(unsigned request) const;
    /// The GPU goes on with a request: its blocks are read, and freed.
    void use(unsigned request);
    /// Give up a block that is there, and ask for it again.
    void evict_one();
    void check(Block block);

    const Options& options_;
    const Channel& prefill_;
    Endpoint end_;
    VramDevice device_;
    BlockPool pool_;
    std::vector<std::uint32_t> crcs_; ///< of blocks, as prefill says

    std::vector<std::optional<std::uint32_t>> table_; ///< block table: the slot of each block
    std::vector<Slot> slots_;                         ///< and the reverse
    std::vector<bool> used_;                          ///< blocks
    bool connected_ = false;
    unsigned arrivals_ = 0;
    unsigned to_evict_ = 0;  ///< blocks that memory has become too short for
    unsigned to_revoke_ = 0; ///< grants that will come too late
    DecodeResult result_;
};

} // namespace pfn
