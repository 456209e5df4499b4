// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
//
// The memory for KV-cache blocks of a node: slots, each a buffer of device memory with an
// MR of its own, so that its driver can move or take back one without the others. A real
// allocator cuts its blocks out of a few large buffers; then a slot is one of these.
#pragma once

#include "common/verbs.hpp"
#include "common/vram.hpp"

#include <infiniband/pfndv.hpp>

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace pfn {

class BlockPool {
  public:
    /// @p slots of @p block_size bytes of @p device, for RDMA with @p pd; both have to
    /// outlive it.
    BlockPool(const VramDevice& device, const Pd& pd, unsigned slots, std::uint64_t block_size);

    [[nodiscard]] unsigned size() const { return static_cast<unsigned>(slots_.size()); }
    /// What the GPU sees in a slot, until it is replaced.
    [[nodiscard]] std::span<const std::byte> bytes(unsigned slot) const;
    /// Where others write to.
    [[nodiscard]] Remote remote(unsigned slot) const;

    /// Move the memory of a slot out of VRAM, or in again; nothing if it was taken back.
    void move(unsigned slot);
    /// What the driver does when it takes the memory of a slot back from everybody.
    void revoke(unsigned slot);
    /// Has the memory of a slot been taken back? True once: replace() it then.
    [[nodiscard]] bool revoked(unsigned slot) const;
    /// Free the memory of a slot, and give it another piece.
    void replace(unsigned slot);

    [[nodiscard]] std::uint64_t moves() const { return moves_; }
    /// Of all MRs that there are or were.
    [[nodiscard]] std::uint64_t faults() const;

  private:
    struct Slot {
        DmaBuf buffer;
        Mapping gpu;
        Fd event; ///< the MR's, when it is revoked
        pfndv::Mr mr;
        bool in_vram = true;
    };
    [[nodiscard]] Slot make() const;

    const VramDevice& device_;
    const Pd& pd_;
    std::uint64_t block_size_;
    std::vector<Slot> slots_;
    std::uint64_t moves_ = 0;
    std::uint64_t faults_ = 0; ///< of MRs that are gone
};

} // namespace pfn
