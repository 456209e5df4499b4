// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
//
// vivid: a camera without hardware, and with it an exporter and importer of dma-bufs
// that knows nothing of this project.
#pragma once

#include "common/fd.hpp"
#include "common/vram.hpp"

#include <string_view>

namespace pfn {

/// The camera whose buffers are in contiguous memory that devices reach.
inline constexpr std::string_view CONTIGUOUS_CAMERA = "platform:vivid-000";
/// The one whose buffers are in the kernel's virtual memory (vmalloc).
inline constexpr std::string_view VMALLOC_CAMERA = "platform:vivid-001";

/// Load vivid with these two, unless it is. False: this kernel has none.
bool load_vivid();

/// Open the capture device of a camera. Throws std::system_error: ENODEV.
Fd open_camera(std::string_view bus);

/// A buffer that the camera exports; it lives longer than the camera is open.
DmaBuf camera_buffer(std::string_view bus);

} // namespace pfn
