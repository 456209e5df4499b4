// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
//
// Device memory: /dev/pfn_vramN and the dma-bufs it hands out.
#pragma once

#include "common/fd.hpp"

#include <fcntl.h>
#include <linux/pfn_vram.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <utility>

namespace pfn {

/// Bytes of a page of this machine.
std::size_t page_size();

/// A range of this process's address space, unmapped at the end.
class Mapping {
  public:
    Mapping() = default;
    Mapping(Mapping&& other) noexcept;
    Mapping& operator=(Mapping&& other) noexcept;
    ~Mapping();

    /// Map @p length bytes of @p fd from byte @p offset on. Throws
    /// std::system_error with mmap's errno.
    Mapping(int fd, std::size_t length, int prot = PROT_DEFAULT, int flags = SHARED,
            std::uint64_t offset = 0);

    /// Zeroed anonymous memory of @p length bytes, private to this process.
    static Mapping anonymous(std::size_t length);

    /// The bytes, valid as long as this object. Device memory can be slow to
    /// read: copy in large pieces.
    [[nodiscard]] std::span<std::byte> bytes() const { return bytes_; }

    /// Address as verbs want it.
    [[nodiscard]] std::uint64_t address() const {
        return reinterpret_cast<std::uint64_t>(bytes_.data());
    }

    static const int PROT_DEFAULT; ///< PROT_READ | PROT_WRITE
    static const int SHARED;       ///< MAP_SHARED

  private:
    void unmap() noexcept;
    std::span<std::byte> bytes_;
};

/// A buffer, which *is* its dma-buf: it lives until the last descriptor,
/// mapping and importer are gone.
class DmaBuf {
  public:
    DmaBuf() = default;
    DmaBuf(Fd fd, std::uint64_t size) : fd_(std::move(fd)), size_(size) {}

    /// The dma-buf's descriptor, owned by this object.
    [[nodiscard]] int fd() const { return fd_.get(); }
    /// Bytes.
    [[nodiscard]] std::uint64_t size() const { return size_; }
    /// Map all of it shared, for reading and writing.
    [[nodiscard]] Mapping map() const { return {fd(), static_cast<std::size_t>(size_)}; }
    /// Wait until a move that is on its way has arrived. Throws Timeout.
    void wait_idle(std::chrono::milliseconds timeout) const;
    /// Close the descriptor; mappings and importers keep the buffer alive.
    void close() noexcept { fd_.close(); }
    /// Hand the descriptor over.
    [[nodiscard]] Fd release() noexcept { return std::move(fd_); }

  private:
    Fd fd_;
    std::uint64_t size_ = 0;
};

/// What to allocate, see struct pfn_vram_alloc.
struct BufferSpec {
    std::uint64_t size = 0;  ///< bytes, a multiple of the page size
    std::uint64_t chunk = 0; ///< bytes per range, 0: as few ranges as possible
    std::uint32_t placement = PFN_VRAM_PLACEMENT_VRAM;
    std::uint32_t caps = PFN_VRAM_CAP_ALL;
    std::uint32_t fd_flags = O_RDWR | O_CLOEXEC;
};

/// An open /dev/pfn_vramN. Every call throws std::system_error with the errno
/// that <linux/pfn_vram.h> documents.
class VramDevice {
  public:
    static constexpr const char* DEFAULT_PATH = "/dev/pfn_vram0";

    explicit VramDevice(const std::string& path = DEFAULT_PATH);

    [[nodiscard]] int fd() const { return fd_.get(); }
    [[nodiscard]] pfn_vram_dev_info info() const;
    [[nodiscard]] DmaBuf alloc(const BufferSpec& spec) const;
    /// Move the buffer behind @p dmabuf_fd; @p chunk as in BufferSpec, @p flags
    /// of enum pfn_vram_move_flags. Returns the times the kernel measured.
    // NOLINTNEXTLINE(modernize-use-nodiscard): the times are a bonus
    pfn_vram_move move(int dmabuf_fd, std::uint32_t placement, std::uint64_t chunk = 0,
                       std::uint32_t flags = 0) const;
    /// Take the buffer behind @p dmabuf_fd back from everybody.
    void revoke(int dmabuf_fd) const;
    /// Give a revoked buffer memory again, zeroed; who had it does not get it.
    void restore(int dmabuf_fd, std::uint32_t placement = PFN_VRAM_PLACEMENT_VRAM,
                 std::uint64_t chunk = 0) const;
    [[nodiscard]] pfn_vram_buf_info buf_info(int dmabuf_fd) const;
    /// Close the device node; buffers live on.
    void close() noexcept { fd_.close(); }

  private:
    Fd fd_;
};

} // namespace pfn
