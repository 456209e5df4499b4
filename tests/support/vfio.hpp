// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
//
// A PCI device in the hands of vfio-pci, and dma-bufs of its BARs.
#pragma once

#include "common/fd.hpp"
#include "common/vram.hpp"

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace pfn {

/// A PCI device is bound to vfio-pci as long as this lives; then it is given back
/// to the driver that takes it.
class VfioBinding {
  public:
    /// @p device: "0000:01:00.0". Loads vfio-pci. Throws std::system_error.
    explicit VfioBinding(std::string device);
    ~VfioBinding();
    VfioBinding(const VfioBinding&) = delete;
    VfioBinding& operator=(const VfioBinding&) = delete;

    /// Why vfio cannot have @p device in this guest; nothing if it can.
    static std::optional<std::string> obstacle(const std::string& device);

  private:
    std::string device_;
};

/// An open vfio device with a container of its own.
class VfioDevice {
  public:
    /// A part of a BAR, bytes, page aligned.
    struct Range {
        std::uint64_t offset;
        std::uint64_t length;
    };

    /// Open @p device, which is bound, and let it answer to memory accesses.
    explicit VfioDevice(const std::string& device);

    /// These parts of @p bar, in this order, as one dma-buf.
    [[nodiscard]] DmaBuf dmabuf(unsigned bar, const std::vector<Range>& ranges) const;
    /// A CPU mapping of a part of @p bar.
    [[nodiscard]] Mapping map(unsigned bar, Range range) const;
    /// Whether the device answers to memory accesses.
    void enable_memory(bool on) const;
    /// Reset the function.
    void reset() const;
    /// Close the device, as a process that ends does.
    void close() noexcept { device_.close(); }

  private:
    [[nodiscard]] std::uint64_t region_offset(unsigned index) const;
    Fd container_;
    Fd group_;
    Fd device_;
};

} // namespace pfn
