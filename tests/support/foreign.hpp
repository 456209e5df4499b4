// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
//
// dma-bufs of exporters that know nothing of this project.
#pragma once

#include "common/fd.hpp"
#include "common/vram.hpp"

#include <cstdint>

namespace pfn {

/// Who exports a dma-buf.
enum class Exporter {
    PFN_VRAM,     ///< ours
    SYSTEM_HEAP,  ///< /dev/dma_heap/system
    UDMABUF,      ///< pages of a memfd
    UDMABUF_HUGE, ///< huge pages of a memfd
    VGEM,         ///< a DRM driver without hardware
};

/// A sealed memfd as udmabuf wants it, of @p size bytes, with memfd_create()'s
/// @p flags in addition.
Fd sealed_memfd(std::uint64_t size, unsigned flags = 0);

/// The first @p size bytes of @p memfd as a dma-buf.
DmaBuf udmabuf(const Fd& memfd, std::uint64_t size);

/// A dma-buf of @p size bytes of another exporter than ours. The module is loaded,
/// and the huge page made available, if need be. Throws std::system_error if the
/// kernel has no such exporter.
DmaBuf foreign_buffer(Exporter exporter, std::uint64_t size);

/// The same of the system heap, with open flags of one's choice.
DmaBuf system_heap(std::uint64_t size, unsigned fd_flags);

} // namespace pfn
