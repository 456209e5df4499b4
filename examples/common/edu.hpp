// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
//
// A device that does DMA for real: QEMU's edu, driven by the module pfn_edu.
#pragma once

#include "common/fd.hpp"

#include <linux/pfn_edu.h>
#include <rdma/pfn_mr_abi.h>

#include <cstdint>
#include <string>
#include <system_error>
#include <vector>

namespace pfn {

/// What the kernel said no with, and why, if it said.
class EduError : public std::system_error {
  public:
    EduError(int err, const std::string& step, std::string reason)
        : std::system_error(err, std::generic_category(),
                            reason.empty() ? step : step + " (" + reason + ")"),
          reason_(std::move(reason)) {}
    [[nodiscard]] const std::string& reason() const { return reason_; }

  private:
    std::string reason_;
};

/// An open /dev/pfn_eduN. Every call throws EduError with the errno that
/// <linux/pfn_edu.h> documents. Imports are known by a number, and last until
/// they are released or the device is closed.
class EduDevice {
  public:
    static constexpr const char* DEFAULT_PATH = "/dev/pfn_edu0";

    explicit EduDevice(const std::string& path = DEFAULT_PATH);

    [[nodiscard]] int fd() const { return fd_.get(); }
    [[nodiscard]] pfn_edu_info info() const;

    /// Import @p length bytes of the dma-buf @p dmabuf_fd from byte @p offset on.
    [[nodiscard]] std::uint32_t import(int dmabuf_fd, std::uint64_t offset, std::uint64_t length,
                                       std::uint32_t mode = PFN_MR_MODE_DEFAULT,
                                       std::uint32_t flags = 0) const;
    void release(std::uint32_t id) const;
    /// Map the import for DMA now instead of at its next transfer.
    void map(std::uint32_t id) const;
    void unmap(std::uint32_t id) const;

    /// DMA from the import into the device's memory.
    pfn_edu_transfer fetch(std::uint32_t id, std::uint64_t offset, std::uint32_t length,
                           std::uint32_t mem_offset = 0, std::uint32_t flags = 0) const {
        return transfer(id, offset, length, mem_offset, flags);
    }
    /// DMA from the device's memory into the import.
    pfn_edu_transfer store(std::uint32_t id, std::uint64_t offset, std::uint32_t length,
                           std::uint32_t mem_offset = 0, std::uint32_t flags = 0) const {
        return transfer(id, offset, length, mem_offset, flags | PFN_EDU_WRITE);
    }

    [[nodiscard]] pfn_edu_query query(std::uint32_t id) const;

    /// What would be in a device's page table for the import.
    struct Blocks {
        std::uint64_t pgsz = 0;          ///< bytes of a block
        std::vector<std::uint64_t> addr; ///< DMA address of each
    };
    /// @p pgsz_bitmap: block sizes to choose from; @p iova: where users of the device
    /// see the first byte; @p max: how many blocks there may be at most.
    [[nodiscard]] Blocks blocks(std::uint32_t id, std::uint64_t pgsz_bitmap, std::uint64_t iova,
                                std::uint32_t max = PFN_EDU_MAX_BLOCKS) const;

    /// Two dma-bufs of memory that does not exist, said to be of the PCI device
    /// whose memory is behind @p like_fd.
    struct Synthetic {
        Fd ranges;
        Fd scatterlist;
    };
    [[nodiscard]] Synthetic synthetic(int like_fd, std::uint64_t ranges,
                                      std::uint64_t range_size) const;
    [[nodiscard]] pfn_edu_compare compare(int pfn_fd, int sg_fd, std::uint32_t rounds) const;
    /// Map the dma-buf @p count times, one of the ways that compare() does, and keep
    /// it so until drop(), or until this is closed.
    void hold(int dmabuf_fd, std::uint32_t way, std::uint32_t count) const;
    void drop() const;

    void close() noexcept { fd_.close(); }

  private:
    // NOLINTNEXTLINE(modernize-use-nodiscard): what it returns is a bonus
    pfn_edu_transfer transfer(std::uint32_t id, std::uint64_t offset, std::uint32_t length,
                              std::uint32_t mem_offset, std::uint32_t flags) const;
    Fd fd_;
};

} // namespace pfn
