// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
//
// What the MPI tests share: the ranks, buffers of all kinds, verdicts, and what the
// kernel says of the MRs that an MPI has made of a buffer.
#pragma once

#include "common/vram.hpp"

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <span>
#include <string>
#include <thread>
#include <vector>

namespace pfn::mpi {

inline constexpr std::uint64_t KIB = 1024;
inline constexpr std::uint64_t MIB = 1024 * KIB;

/// MPI, from its start to its end. There is one of these, and there are two ranks.
class World {
  public:
    World(int* argc, char*** argv);
    ~World();
    World(const World&) = delete;
    World& operator=(const World&) = delete;

    [[nodiscard]] int rank() const { return rank_; }
    /// The other one.
    [[nodiscard]] int peer() const { return 1 - rank_; }
    void barrier() const;

    /// Note a failure of this rank.
    void expect(bool right, const std::string& what);
    /// Rank 0 says whether all of it was right for all ranks since the last verdict.
    /// Collective; @p note of rank 0 is printed with it.
    void verdict(const std::string& name, const std::string& note = "");
    /// Verdicts that were bad.
    [[nodiscard]] int failed() const { return failed_; }
    [[nodiscard]] int passed() const { return passed_; }
    /// The sum over both ranks. Collective.
    [[nodiscard]] std::uint64_t sum(std::uint64_t value) const;

  private:
    int rank_ = 0;
    int wrong_ = 0;
    int failed_ = 0;
    int passed_ = 0;
};

/// Where a buffer is, and in how many pieces.
struct Kind {
    const char* name;
    std::uint32_t placement;
    bool fragmented; ///< every page a range of its own
};

inline constexpr Kind VRAM{"VRAM", PFN_VRAM_PLACEMENT_VRAM, false};
inline constexpr Kind KINDS[] = {
    VRAM,
    {"VRAM, fragmented", PFN_VRAM_PLACEMENT_VRAM, true},
    {"system", PFN_VRAM_PLACEMENT_SYSTEM, false},
    {"system, fragmented", PFN_VRAM_PLACEMENT_SYSTEM, true},
};

/// Device memory of @p size bytes. A program that uses MPI sees the mapping.
class Buffer {
  public:
    Buffer(const VramDevice& vram, const Kind& kind, std::uint64_t size);

    [[nodiscard]] std::byte* data() const { return mapping_.bytes().data(); }
    [[nodiscard]] std::span<std::byte> bytes() const { return mapping_.bytes(); }
    [[nodiscard]] const DmaBuf& dmabuf() const { return dmabuf_; }

  private:
    DmaBuf dmabuf_;
    Mapping mapping_;
};

/// MRs of this process on one dma-buf.
struct Mrs {
    unsigned count = 0;
    unsigned lent = 0; ///< those whose backend is pfn
    std::uint64_t read = 0;
    std::uint64_t written = 0;
    std::uint64_t faults = 0;
};

/// What rdma(8) shows of this process's MRs on the dma-buf @p number.
Mrs mrs_on(std::uint64_t number);
/// How many dma-bufs have MRs of this process.
std::size_t dmabufs_with_mrs();

/// Packets that all soft-RoCE devices together have sent so far.
std::uint64_t packets_sent();

/// Moves a buffer to and fro, in all layouts, from its birth to its death.
class Mover {
  public:
    /// @p vram and @p buffer must outlive it.
    Mover(const VramDevice& vram, const Buffer& buffer);
    /// Moves so far.
    [[nodiscard]] unsigned moves() const { return moves_; }
    /// Moves in all; throws if one has failed.
    [[nodiscard]] unsigned stop();

  private:
    std::atomic<unsigned> moves_{0};
    std::exception_ptr error_;
    std::jthread thread_;
};

} // namespace pfn::mpi
