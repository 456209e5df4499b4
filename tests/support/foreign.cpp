// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
#include "support/foreign.hpp"

#include "common/error.hpp"
#include "support/modules.hpp"

#include <drm/drm.h>
#include <fcntl.h>
#include <linux/dma-heap.h>
#include <linux/udmabuf.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#include <array>
#include <cerrno>
#include <filesystem>
#include <fstream>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>

namespace pfn {
namespace {

constexpr std::uint64_t HUGE_PAGE = std::uint64_t{2} * 1024 * 1024;
constexpr unsigned HUGE_PAGES = 4; ///< as many buffers of huge pages may exist at once

Fd open_node(const std::string& path) {
    Fd node(::open(path.c_str(), O_RDWR | O_CLOEXEC));
    if (!node)
        throw_errno("open " + path);
    return node;
}

/// The DRM device of the driver @p name.
Fd open_drm(std::string_view name) {
    for (const auto& entry : std::filesystem::directory_iterator("/dev/dri")) {
        if (!entry.path().filename().string().starts_with("card"))
            continue;
        Fd card = open_node(entry.path());
        std::array<char, 32> driver{};
        drm_version version{};
        version.name = driver.data();
        version.name_len = driver.size() - 1;
        if (::ioctl(card.get(), DRM_IOCTL_VERSION, &version) == 0 && name == driver.data())
            return card;
    }
    throw std::system_error(ENODEV, std::generic_category(),
                            "no DRM device of " + std::string(name));
}

DmaBuf vgem(std::uint64_t size) {
    if (!module_loaded("vgem")) // to ask is much faster
        load_module("vgem");
    const Fd card = open_drm("vgem");
    drm_mode_create_dumb dumb{};
    dumb.width = static_cast<std::uint32_t>(size / 4);
    dumb.height = 1;
    dumb.bpp = 32;
    if (::ioctl(card.get(), DRM_IOCTL_MODE_CREATE_DUMB, &dumb) < 0)
        throw_errno("DRM_IOCTL_MODE_CREATE_DUMB");
    drm_prime_handle prime{.handle = dumb.handle, .flags = DRM_CLOEXEC | DRM_RDWR, .fd = -1};
    if (::ioctl(card.get(), DRM_IOCTL_PRIME_HANDLE_TO_FD, &prime) < 0)
        throw_errno("DRM_IOCTL_PRIME_HANDLE_TO_FD");
    return {Fd(prime.fd), size}; // closing the card drops the handle, not the buffer
}

DmaBuf udmabuf_of_huge_pages(std::uint64_t size) {
    const std::string setting = "/proc/sys/vm/nr_hugepages";
    unsigned now = 0;
    std::ifstream(setting) >> now;
    if (now < HUGE_PAGES)
        std::ofstream(setting) << HUGE_PAGES << std::flush;
    const std::uint64_t whole = (size + HUGE_PAGE - 1) / HUGE_PAGE * HUGE_PAGE;
    return udmabuf(sealed_memfd(whole, MFD_HUGETLB), size);
}

} // namespace

Fd sealed_memfd(std::uint64_t size, unsigned flags) {
    Fd memory(::memfd_create("foreign", MFD_ALLOW_SEALING | MFD_CLOEXEC | flags));
    if (!memory || ::ftruncate(memory.get(), static_cast<off_t>(size)) < 0 ||
        ::fcntl(memory.get(), F_ADD_SEALS, F_SEAL_SHRINK) < 0)
        throw_errno("memfd for udmabuf");
    return memory;
}

DmaBuf udmabuf(const Fd& memfd, std::uint64_t size) {
    const Fd maker = open_node("/dev/udmabuf");
    udmabuf_create arg{.memfd = static_cast<std::uint32_t>(memfd.get()),
                       .flags = UDMABUF_FLAGS_CLOEXEC,
                       .offset = 0,
                       .size = size};
    Fd dmabuf(::ioctl(maker.get(), UDMABUF_CREATE, &arg));
    if (!dmabuf)
        throw_errno("UDMABUF_CREATE");
    return {std::move(dmabuf), size};
}

DmaBuf system_heap(std::uint64_t size, unsigned fd_flags) {
    const Fd heap = open_node("/dev/dma_heap/system");
    dma_heap_allocation_data arg{};
    arg.len = size;
    arg.fd_flags = fd_flags;
    if (::ioctl(heap.get(), DMA_HEAP_IOCTL_ALLOC, &arg) < 0)
        throw_errno("DMA_HEAP_IOCTL_ALLOC");
    return {Fd(static_cast<int>(arg.fd)), size};
}

DmaBuf foreign_buffer(Exporter exporter, std::uint64_t size) {
    switch (exporter) {
    case Exporter::SYSTEM_HEAP:
        return system_heap(size, O_RDWR | O_CLOEXEC);
    case Exporter::UDMABUF:
        return udmabuf(sealed_memfd(size), size);
    case Exporter::UDMABUF_HUGE:
        return udmabuf_of_huge_pages(size);
    case Exporter::VGEM:
        return vgem(size);
    case Exporter::PFN_VRAM:
        break;
    }
    throw std::logic_error("pfn_vram is not foreign");
}

} // namespace pfn
