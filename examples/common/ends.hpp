// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
//
// What every example begins and ends with: devices, and main().
#pragma once

#include "common/endpoint.hpp"

#include <algorithm>
#include <cstdio>
#include <exception>
#include <filesystem>
#include <span>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace pfn {

/// All RDMA devices that have pfn MRs, in the order of their names. Throws if there are
/// none.
inline std::vector<std::string> supported_devices() {
    int count = 0;
    ibv_device** list = ibv_get_device_list(&count);
    std::vector<std::string> names;
    for (ibv_device* device : std::span(list, static_cast<std::size_t>(list ? count : 0))) {
        if (pfndv_is_supported(device))
            names.emplace_back(ibv_get_device_name(device));
    }
    ibv_free_device_list(list);
    if (names.empty())
        throw std::runtime_error("no RDMA device with pfn MRs; pfn-info says why");
    std::ranges::sort(names);
    return names;
}

/// The RDMA device that the command line names at @p place, or else the first that has
/// pfn MRs: both ends of a connection may be on the same one.
inline std::string device_name(std::span<char* const> arguments, std::size_t place) {
    return place < arguments.size() ? arguments[place] : supported_devices().front();
}

/// What @p body returns, an exit status; what it throws is said in a line, after the name
/// of the program, @p argv0.
template<typename Body>
int or_complain(const char* argv0, Body&& body) {
    try {
        return std::forward<Body>(body)();
    } catch (const std::exception& e) {
        const auto name = std::filesystem::path(argv0).filename();
        (void)std::fprintf(stderr, "%s: %s\n", name.c_str(), e.what());
        return 1;
    }
}

/// What main() does where there are no options: @p run with the command line.
inline int run_example(int argc, char** argv, int (*run)(std::span<char* const>)) {
    return or_complain(argv[0], [&] { return run({argv, static_cast<std::size_t>(argc)}); });
}

} // namespace pfn
