// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
#include "support/vivid.hpp"

#include "common/error.hpp"
#include "common/process.hpp"
#include "common/verbs.hpp"
#include "support/modules.hpp"

#include <fcntl.h>
#include <linux/videodev2.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <string>
#include <utility>

namespace pfn {

bool load_vivid() {
    return module_loaded("vivid") || run_program({"modprobe", "-q", "vivid", "n_devs=2",
                                                  "node_types=0x1,0x1", "allocators=1,0"},
                                                 2 * PATIENCE) == Exit{};
}

Fd open_camera(std::string_view bus) {
    for (const auto& entry : std::filesystem::directory_iterator("/dev")) {
        if (!entry.path().filename().string().starts_with("video"))
            continue;
        Fd node(::open(entry.path().c_str(), O_RDWR | O_NONBLOCK | O_CLOEXEC));
        v4l2_capability is{};
        if (node && ::ioctl(node.get(), VIDIOC_QUERYCAP, &is) == 0 &&
            bus == reinterpret_cast<const char*>(is.bus_info))
            return node;
    }
    throw_errno(ENODEV, "no camera " + std::string(bus));
}

DmaBuf camera_buffer(std::string_view bus) {
    const Fd camera = open_camera(bus);
    v4l2_requestbuffers request{};
    request.count = 1;
    request.type = V4L2_BUF_TYPE_VIDEO_CAPTURE;
    request.memory = V4L2_MEMORY_MMAP;
    if (::ioctl(camera.get(), VIDIOC_REQBUFS, &request) < 0)
        throw_errno("VIDIOC_REQBUFS");
    v4l2_exportbuffer exported{};
    exported.type = V4L2_BUF_TYPE_VIDEO_CAPTURE;
    exported.flags = O_RDWR | O_CLOEXEC;
    if (::ioctl(camera.get(), VIDIOC_EXPBUF, &exported) < 0)
        throw_errno("VIDIOC_EXPBUF");
    Fd dmabuf(exported.fd);
    const auto size = ::lseek(dmabuf.get(), 0, SEEK_END);
    if (size < 0)
        throw_errno("size of a dma-buf");
    return {std::move(dmabuf), static_cast<std::uint64_t>(size)};
}

} // namespace pfn
