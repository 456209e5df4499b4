// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
//
// What every example here begins and ends with: one end of a connection, main().
#pragma once

#include "common/verbs.hpp"

#include <cstdio>
#include <exception>
#include <filesystem>
#include <span>
#include <stdexcept>
#include <string>

namespace pfn {

/// The RDMA device that the command line names at @p place, or else the first that has
/// pfn MRs: both ends of a connection may be on the same one.
inline std::string device_name(std::span<char* const> arguments, std::size_t place) {
    if (place < arguments.size())
        return arguments[place];
    int count = 0;
    ibv_device** list = ibv_get_device_list(&count);
    std::string name;
    for (ibv_device* device : std::span(list, static_cast<std::size_t>(list ? count : 0))) {
        if (name.empty() && pfndv_is_supported(device))
            name = ibv_get_device_name(device);
    }
    ibv_free_device_list(list);
    if (name.empty())
        throw std::runtime_error("no RDMA device with pfn MRs; pfn-info says why");
    return name;
}

/// A device, a protection domain, and a queue pair that is to be connected.
struct End {
    explicit End(const std::string& device)
        : context(device), pd(context.get()), cq(context.get(), 2 * Qp::DEPTH),
          qp(context, pd, cq) {}

    Context context;
    Pd pd;
    Cq cq;
    Qp qp;
};

/// The next completion of @p cq, which has to be a success.
inline ibv_wc complete(const Cq& cq) {
    const ibv_wc wc = cq.wait();
    if (wc.status != IBV_WC_SUCCESS)
        throw std::runtime_error(std::string("RDMA: ") + ibv_wc_status_str(wc.status));
    return wc;
}

/// What main() does: @p run with the command line; what that throws is said in a line.
inline int run_example(int argc, char** argv, int (*run)(std::span<char* const>)) {
    try {
        return run({argv, static_cast<std::size_t>(argc)});
    } catch (const std::exception& e) {
        const auto name = std::filesystem::path(argv[0]).filename();
        (void)std::fprintf(stderr, "%s: %s\n", name.c_str(), e.what());
        return 1;
    }
}

} // namespace pfn
