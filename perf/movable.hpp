// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
//
// Memory that can be taken away under an MR, which then faults it in again: a dma-buf
// that its exporter moves, and what comes nearest to that with paging on demand.
#pragma once

#include "common/verbs.hpp"
#include "common/vram.hpp"

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace pfn::perf {

class Movable {
  public:
    virtual ~Movable() = default;
    Movable(const Movable&) = delete;
    Movable& operator=(const Movable&) = delete;

    [[nodiscard]] const std::string& name() const { return name_; }
    /// A new MR on all of it.
    [[nodiscard]] virtual Mr make_mr(const Pd& pd) const = 0;
    /// Where the MRs begin.
    [[nodiscard]] virtual std::uint64_t iova() const = 0;
    /// Get ready for the next move. What is in the MRs may have to be faulted in again.
    virtual void prepare() {}
    /// Take the memory away. Returns the microseconds until nothing uses the old one
    /// any more; the bytes may be on their way to the new when it returns.
    virtual double take() = 0;
    /// Wait until they have arrived.
    virtual void settle() {}

  protected:
    explicit Movable(std::string name) : name_(std::move(name)) {}

  private:
    std::string name_;
};

/// All of them, of @p size bytes each:
/// - pfn, pfn-pages: a dma-buf in RAM, of long ranges or of single pages, that moves
///   to other RAM;
/// - pfn-bar: a dma-buf that moves from RAM to a BAR, if there is one;
/// - odp-remap: mremap() puts other pages, which are there already, under an ODP MR;
/// - odp-dontneed: madvise(MADV_DONTNEED) under an ODP MR, the next access gets a new
///   page with zeros.
std::vector<std::unique_ptr<Movable>> all_movable(const VramDevice& vram, std::uint64_t size);

} // namespace pfn::perf
