// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
#include "tools/info/modules.hpp"

#include <sys/utsname.h>

#include <filesystem>
#include <fstream>
#include <string_view>

namespace pfn::tools {
namespace {

/// Is @p path, "updates/dkms/rdma_rxe.ko.xz", the module @p name?
bool is_module(std::string_view path, std::string_view name) {
    const auto slash = path.rfind('/');
    const std::string_view file = slash == std::string_view::npos ? path : path.substr(slash + 1);
    return file.starts_with(name) && file.substr(name.size()).starts_with(".ko");
}

/// Find the line "FILE: FILES IT NEEDS" of depmod's index.
void look_into_index(Module& module) {
    std::ifstream index("/lib/modules/" + kernel_release() + "/modules.dep");
    for (std::string line; std::getline(index, line);) {
        const auto colon = line.find(':');
        if (colon == std::string::npos || !is_module(line.substr(0, colon), module.name))
            continue;
        module.file = line.substr(0, colon);
        module.file_uses_umem = line.find("/ib_umem_pfn.ko", colon) != std::string::npos;
        return;
    }
}

} // namespace

std::string kernel_release() {
    utsname name{};
    ::uname(&name);
    return &name.release[0];
}

Module look_at_module(const std::string& name) {
    namespace fs = std::filesystem;
    std::error_code ignored;
    Module module;
    module.name = name;
    module.loaded = fs::exists("/sys/module/" + name, ignored);
    module.loaded_uses_umem = fs::exists("/sys/module/ib_umem_pfn/holders/" + name, ignored);
    look_into_index(module);
    return module;
}

bool wants_signatures() {
    std::ifstream enforced("/sys/module/module/parameters/sig_enforce");
    return enforced.get() == 'Y';
}

} // namespace pfn::tools
