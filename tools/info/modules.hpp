// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
//
// Kernel modules: which are loaded, and which would be.
#pragma once

#include <string>

namespace pfn::tools {

/// A module, by name.
struct Module {
    std::string name;
    bool loaded = false;
    /// What modprobe would load, below /lib/modules/RELEASE; "" if there is no such
    /// file. A module that is loaded need not have one.
    std::string file;
    bool loaded_uses_umem = false; ///< what is loaded uses ib_umem_pfn
    bool file_uses_umem = false;   ///< what would be loaded does
};

/// The running kernel, as uname -r has it.
std::string kernel_release();

/// Look at the module @p name.
Module look_at_module(const std::string& name);

/// Does this kernel load modules only if they are signed?
bool wants_signatures();

} // namespace pfn::tools
