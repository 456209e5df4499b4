// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
#include "common/meminfo.hpp"

#include <array>
#include <fstream>
#include <stdexcept>
#include <string>
#include <utility>

namespace pfn {

MemInfo read_meminfo() {
    MemInfo info;
    const std::array<std::pair<const char*, std::uint64_t*>, 4> wanted{{
        {"MemFree:", &info.mem_free},
        {"MemAvailable:", &info.mem_available},
        {"Slab:", &info.slab},
        {"SUnreclaim:", &info.slab_unreclaimable},
    }};
    std::ifstream file("/proc/meminfo");
    unsigned found = 0;
    std::string key;
    std::uint64_t kib = 0;
    while (file >> key >> kib) {
        for (const auto& [name, value] : wanted) {
            if (key == name) {
                *value = kib * 1024;
                ++found;
            }
        }
        std::getline(file, key);
    }
    if (found != wanted.size())
        throw std::runtime_error("/proc/meminfo lacks a line this program needs");
    return info;
}

} // namespace pfn
