// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
//
// What there is on this machine: RDMA devices and pfn_vram devices.
#pragma once

#include <infiniband/pfndv.h>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace pfn::tools {

/// An RDMA device, and what pfn MRs it has.
struct RdmaDevice {
    std::string name;                          ///< "rxe0"
    std::string node;                          ///< "/dev/infiniband/uverbs0"
    bool active = false;                       ///< its first port is up
    std::optional<pfndv_device_attr> supports; ///< of pfn MRs, nothing if there are none
    std::string reason;                        ///< why there are none
    bool may_open = true;                      ///< this user
    /// ibv_reg_dmabuf_mr() works, too: the librxe overlay is loaded.
    bool plain_verb = false;
};

/// All of them, in the order of libibverbs. Each is opened for a moment.
std::vector<RdmaDevice> rdma_devices();

/// Nodes like /dev/pfn_vram0, in the order of their numbers.
std::vector<std::string> vram_nodes();

/// The names that @p mask, of 1 << number, stands for: "pinned", "dynamic".
std::vector<std::string> names(std::uint32_t mask, const char* (*name)(std::uint32_t));

/// "a, b, c"
std::string join(const std::vector<std::string>& words);

} // namespace pfn::tools
