// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
//
// How a shell names a buffer. A dma-buf has no name in any file system, and
// /proc/PID/fd/N of one cannot be opened (ENXIO): it takes pidfd_getfd(2) to get the
// descriptor of another process. So a buffer is called PID:FD, by whoever has it.
#pragma once

#include "common/fd.hpp"
#include "common/vram.hpp"

#include <sys/types.h>

#include <string>

namespace pfn::tools {

/// A descriptor of a process.
struct Reference {
    pid_t pid = 0;
    int fd = -1;
};

/// "123:4"
std::string to_string(const Reference& reference);

/// From "123:4", "/proc/123/fd/4", or "4" for a descriptor that this process was
/// started with. Throws Problem.
Reference parse_reference(const std::string& text);

/// A descriptor for process @p pid, for pidfd_*(2) and poll(2). Throws Problem.
Fd open_process(pid_t pid);

/// A buffer, and the device that it belongs to.
struct Buffer {
    std::string name; ///< as the user has called it
    std::string node; ///< "/dev/pfn_vram0"
    VramDevice device;
    DmaBuf memory;

    [[nodiscard]] pfn_vram_buf_info info() const { return device.buf_info(memory.fd()); }
};

/// The buffer that @p name is a reference to. Throws Problem.
Buffer open_buffer(const std::string& name);

} // namespace pfn::tools
