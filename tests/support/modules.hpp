// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
//
// Kernel modules and rxe links, for tests that take them away and put them back.
#pragma once

#include <string>
#include <vector>

namespace pfn {

/// Is the module @p name loaded?
bool module_loaded(const std::string& name);

/// Load the module @p name and what it needs. Throws if that fails.
void load_module(const std::string& name);

/// Unload the module @p name; 0 or the errno of delete_module(2). Does not wait
/// and does not force.
int unload_module(const std::string& name);

/// Sets a parameter of a loaded module, and sets it back at the end.
class ModuleParameter {
  public:
    /// @p path: "module/parameter". Throws if there is no such parameter.
    ModuleParameter(const std::string& path, const std::string& value);
    ~ModuleParameter();
    ModuleParameter(const ModuleParameter&) = delete;
    ModuleParameter& operator=(const ModuleParameter&) = delete;

  private:
    std::string file_;
    std::string before_;
};

/// An rxe device as the lab has made it.
struct RxeLink {
    std::string name;   ///< "rxe_gpu"
    std::string netns;  ///< "gpu"
    std::string netdev; ///< the Ethernet device in that namespace below it
};

/// The lab's rxe devices. Throws if one is not there.
std::vector<RxeLink> rxe_links();

/// Is there an RDMA device @p name?
bool rdma_device_exists(const std::string& name);

/// Make the device @p link anew and wait until its IPv4 address is usable.
void add_link(const RxeLink& link);

/// Delete the device @p link.
void delete_link(const RxeLink& link);

/// Are RDMA devices taken away from their users when they go (since Linux 7.3)?
bool devices_are_taken_away();

} // namespace pfn
