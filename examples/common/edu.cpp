// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
#include "common/edu.hpp"

#include <fcntl.h>
#include <sys/ioctl.h>

#include <cerrno>

namespace pfn {
namespace {

[[noreturn]] void fail(const char* step, const char* reason = "") {
    throw EduError(errno, step, reason);
}

} // namespace

EduDevice::EduDevice(const std::string& path) : fd_(::open(path.c_str(), O_RDWR | O_CLOEXEC)) {
    if (!fd_)
        throw EduError(errno, "open " + path, "");
}

pfn_edu_info EduDevice::info() const {
    pfn_edu_info info{};
    if (::ioctl(fd(), PFN_EDU_IOC_INFO, &info) < 0)
        fail("PFN_EDU_IOC_INFO");
    return info;
}

std::uint32_t EduDevice::import(int dmabuf_fd, std::uint64_t offset, std::uint64_t length,
                                std::uint32_t mode, std::uint32_t flags) const {
    pfn_edu_import arg{};
    arg.fd = dmabuf_fd;
    arg.mode = mode;
    arg.flags = flags;
    arg.offset = offset;
    arg.length = length;
    if (::ioctl(fd(), PFN_EDU_IOC_IMPORT, &arg) < 0)
        fail("PFN_EDU_IOC_IMPORT", arg.reason);
    return arg.id;
}

void EduDevice::release(std::uint32_t id) const {
    pfn_edu_id arg{};
    arg.id = id;
    if (::ioctl(fd(), PFN_EDU_IOC_RELEASE, &arg) < 0)
        fail("PFN_EDU_IOC_RELEASE");
}

void EduDevice::map(std::uint32_t id) const {
    pfn_edu_id arg{};
    arg.id = id;
    if (::ioctl(fd(), PFN_EDU_IOC_MAP, &arg) < 0)
        fail("PFN_EDU_IOC_MAP", arg.reason);
}

void EduDevice::unmap(std::uint32_t id) const {
    pfn_edu_id arg{};
    arg.id = id;
    if (::ioctl(fd(), PFN_EDU_IOC_UNMAP, &arg) < 0)
        fail("PFN_EDU_IOC_UNMAP");
}

pfn_edu_transfer EduDevice::transfer(std::uint32_t id, std::uint64_t offset, std::uint32_t length,
                                     std::uint32_t mem_offset, std::uint32_t flags) const {
    pfn_edu_transfer arg{};
    arg.id = id;
    arg.flags = flags;
    arg.offset = offset;
    arg.mem_offset = mem_offset;
    arg.length = length;
    if (::ioctl(fd(), PFN_EDU_IOC_TRANSFER, &arg) < 0)
        fail("PFN_EDU_IOC_TRANSFER", arg.reason);
    return arg;
}

pfn_edu_query EduDevice::query(std::uint32_t id) const {
    pfn_edu_query arg{};
    arg.id = id;
    if (::ioctl(fd(), PFN_EDU_IOC_QUERY, &arg) < 0)
        fail("PFN_EDU_IOC_QUERY");
    return arg;
}

EduDevice::Blocks EduDevice::blocks(std::uint32_t id, std::uint64_t pgsz_bitmap, std::uint64_t iova,
                                    std::uint32_t max) const {
    Blocks result;
    result.addr.resize(max);
    pfn_edu_blocks arg{};
    arg.id = id;
    arg.max = max;
    arg.pgsz_bitmap = pgsz_bitmap;
    arg.iova = iova;
    arg.addrs = reinterpret_cast<std::uintptr_t>(result.addr.data());
    if (::ioctl(fd(), PFN_EDU_IOC_BLOCKS, &arg) < 0)
        fail("PFN_EDU_IOC_BLOCKS", arg.reason);
    result.pgsz = arg.pgsz;
    result.addr.resize(arg.blocks);
    return result;
}

EduDevice::Synthetic EduDevice::synthetic(int like_fd, std::uint64_t ranges,
                                          std::uint64_t range_size) const {
    pfn_edu_synthetic arg{};
    arg.like_fd = like_fd;
    arg.ranges = ranges;
    arg.range_size = range_size;
    if (::ioctl(fd(), PFN_EDU_IOC_SYNTHETIC, &arg) < 0)
        fail("PFN_EDU_IOC_SYNTHETIC");
    return {.ranges = Fd(arg.pfn_fd), .scatterlist = Fd(arg.sg_fd)};
}

pfn_edu_compare EduDevice::compare(int pfn_fd, int sg_fd, std::uint32_t rounds) const {
    pfn_edu_compare arg{};
    arg.pfn_fd = pfn_fd;
    arg.sg_fd = sg_fd;
    arg.rounds = rounds;
    if (::ioctl(fd(), PFN_EDU_IOC_COMPARE, &arg) < 0)
        fail("PFN_EDU_IOC_COMPARE");
    return arg;
}

void EduDevice::hold(int dmabuf_fd, std::uint32_t way, std::uint32_t count) const {
    pfn_edu_hold arg{};
    arg.fd = dmabuf_fd;
    arg.way = way;
    arg.count = count;
    if (::ioctl(fd(), PFN_EDU_IOC_HOLD, &arg) < 0)
        fail("PFN_EDU_IOC_HOLD");
}

void EduDevice::drop() const {
    if (::ioctl(fd(), PFN_EDU_IOC_DROP) < 0)
        fail("PFN_EDU_IOC_DROP");
}

} // namespace pfn
