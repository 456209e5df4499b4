// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
#include "common/vram.hpp"

#include "common/error.hpp"

#include <poll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

namespace pfn {

std::size_t page_size() {
    static const auto size = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
    return size;
}

const int Mapping::PROT_DEFAULT = PROT_READ | PROT_WRITE;
const int Mapping::SHARED = MAP_SHARED;

Mapping::Mapping(int fd, std::size_t length, int prot, int flags, std::uint64_t offset) {
    void* address = ::mmap(nullptr, length, prot, flags, fd, static_cast<off_t>(offset));
    if (address == MAP_FAILED)
        throw_errno("mmap");
    bytes_ = {static_cast<std::byte*>(address), length};
}

Mapping Mapping::anonymous(std::size_t length) {
    return {-1, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS};
}

Mapping::Mapping(Mapping&& other) noexcept : bytes_(std::exchange(other.bytes_, {})) {}

Mapping& Mapping::operator=(Mapping&& other) noexcept {
    if (this != &other) {
        unmap();
        bytes_ = std::exchange(other.bytes_, {});
    }
    return *this;
}

Mapping::~Mapping() {
    unmap();
}

void Mapping::unmap() noexcept {
    if (!bytes_.empty())
        ::munmap(bytes_.data(), bytes_.size());
    bytes_ = {};
}

void DmaBuf::wait_idle(std::chrono::milliseconds timeout) const {
    // Polling a dma-buf for reading waits for all fences of writers, and a
    // move's fence is stronger than those.
    pollfd p{.fd = fd(), .events = POLLIN, .revents = 0};
    const int n = ::poll(&p, 1, static_cast<int>(timeout.count()));
    if (n < 0)
        throw_errno("poll on a dma-buf");
    if (n == 0)
        throw Timeout("a move did not arrive in time");
}

VramDevice::VramDevice(const std::string& path) : fd_(::open(path.c_str(), O_RDWR | O_CLOEXEC)) {
    if (!fd_)
        throw_errno("open " + path);
}

pfn_vram_dev_info VramDevice::info() const {
    pfn_vram_dev_info info{};
    if (::ioctl(fd(), PFN_VRAM_IOC_DEV_INFO, &info) < 0)
        throw_errno("PFN_VRAM_IOC_DEV_INFO");
    return info;
}

DmaBuf VramDevice::alloc(const BufferSpec& spec) const {
    pfn_vram_alloc arg{.size = spec.size,
                       .chunk = spec.chunk,
                       .placement = spec.placement,
                       .caps = spec.caps,
                       .fd_flags = spec.fd_flags,
                       .fd = -1,
                       .reserved = 0};
    if (::ioctl(fd(), PFN_VRAM_IOC_ALLOC, &arg) < 0)
        throw_errno("PFN_VRAM_IOC_ALLOC of " + std::to_string(spec.size) + " bytes");
    return {Fd(arg.fd), spec.size};
}

pfn_vram_move VramDevice::move(int dmabuf_fd, std::uint32_t placement, std::uint64_t chunk,
                               std::uint32_t flags) const {
    pfn_vram_move arg{.fd = dmabuf_fd,
                      .placement = placement,
                      .chunk = chunk,
                      .flags = flags,
                      .reserved = 0,
                      .quiesce_ns = 0,
                      .copy_ns = 0};
    if (::ioctl(fd(), PFN_VRAM_IOC_MOVE, &arg) < 0)
        throw_errno("PFN_VRAM_IOC_MOVE");
    return arg;
}

void VramDevice::revoke(int dmabuf_fd) const {
    pfn_vram_revoke arg{.fd = dmabuf_fd, .reserved = 0};
    if (::ioctl(fd(), PFN_VRAM_IOC_REVOKE, &arg) < 0)
        throw_errno("PFN_VRAM_IOC_REVOKE");
}

void VramDevice::restore(int dmabuf_fd, std::uint32_t placement, std::uint64_t chunk) const {
    pfn_vram_restore arg{.fd = dmabuf_fd, .placement = placement, .chunk = chunk, .reserved = 0};
    if (::ioctl(fd(), PFN_VRAM_IOC_RESTORE, &arg) < 0)
        throw_errno("PFN_VRAM_IOC_RESTORE");
}

pfn_vram_buf_info VramDevice::buf_info(int dmabuf_fd) const {
    pfn_vram_buf_info info{};
    info.fd = dmabuf_fd;
    if (::ioctl(fd(), PFN_VRAM_IOC_BUF_INFO, &info) < 0)
        throw_errno("PFN_VRAM_IOC_BUF_INFO");
    return info;
}

} // namespace pfn
