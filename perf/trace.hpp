// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
//
// What the kernel does on behalf of this thread, told by its tracepoints: how much
// memory it keeps, how often the IOMMU has to forget something. Needs tracefs.
#pragma once

#include "common/fd.hpp"

#include <cstdint>
#include <string>

namespace pfn {

/// Kernel memory that a thread's allocations have taken and not given back.
struct KeptMemory {
    std::uint64_t objects = 0; ///< bytes from the slab allocator, as it rounds them up
    std::uint64_t pages = 0;   ///< bytes of single pages

    [[nodiscard]] std::uint64_t bytes() const { return objects + pages; }
};

/// An instance of the kernel's tracing of its own, so that nobody is disturbed. Only
/// this thread's events count, and none that interrupts it. Throws std::system_error.
class Trace {
  public:
    Trace();

    /// Does the kernel tell of what it has its IOMMU do?
    [[nodiscard]] bool knows_iotlb() const { return knows_iotlb_; }

    void start();
    /// Throws std::runtime_error if there was more than the buffer has room for.
    void stop();

    /// Between start() and stop(). Pages that are compound belong to the slab
    /// allocator, whose objects are counted, or are the IOMMU's page tables, and don't
    /// count; neither do this process's own pages, nor what was allocated before.
    [[nodiscard]] KeptMemory kept() const;
    /// Likewise: invalidations of the IOMMU's translation caches.
    [[nodiscard]] std::uint64_t iotlb_invalidations() const;

  private:
    /// The instance's directory, which is the instance.
    struct Instance {
        explicit Instance(std::string where);
        ~Instance();
        Instance(const Instance&) = delete;
        Instance& operator=(const Instance&) = delete;
        std::string path;
    };

    [[nodiscard]] bool enable(const std::string& event) const;
    void switch_to(const char* on) const;

    Instance instance_;
    Fd on_; ///< while it is open the instance cannot go, so it comes behind that
    bool knows_iotlb_ = false;
    std::string text_; ///< what was traced last
};

} // namespace pfn
