// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
#include "tools/sanity/own_device.hpp"

#include "common/process.hpp"
#include "common/verbs.hpp"
#include "tools/cli.hpp"

#include <sched.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <system_error>
#include <thread>
#include <vector>

namespace pfn::tools {
namespace {

using namespace std::chrono_literals;

void run(const std::vector<std::string>& command) {
    if (run_program(command, PATIENCE) == Exit{})
        return;
    std::string text;
    for (const std::string& word : command)
        text += (text.empty() ? "" : " ") + word;
    throw Problem(NOT_HERE, "no soft-RoCE device can be made: this failed: " + text);
}

bool has_address(const std::string& name) {
    return errno_of([&] { (void)Context(name).ipv4_gid_index(); }) == 0;
}

} // namespace

OwnDevice::OwnDevice() : name_("pfn_sanity_" + std::to_string(::getpid())) {
    if (::unshare(CLONE_NEWNET) != 0)
        throw Problem(NOT_HERE, "making a soft-RoCE device takes root: " +
                                    std::generic_category().message(errno));
    // MTU 4200 leaves room for RoCE's headers around 4096 bytes.
    run({"ip", "link", "add", "sanity", "mtu", "4200", "type", "dummy"});
    run({"ip", "address", "add", "192.0.2.1/32", "dev", "sanity"});
    run({"ip", "link", "set", "sanity", "up"});
    run({"rdma", "link", "add", name_, "type", "rxe", "netdev", "sanity"});
    const auto deadline = std::chrono::steady_clock::now() + PATIENCE;
    while (!has_address(name_)) {
        if (std::chrono::steady_clock::now() > deadline)
            throw Problem(FAILED, "the soft-RoCE device that was made has no address");
        std::this_thread::sleep_for(20ms);
    }
}

OwnDevice::~OwnDevice() {
    try {
        // The namespace would take it along as well, but a moment later.
        run_program({"rdma", "link", "delete", name_}, PATIENCE);
    } catch (const std::exception& e) {
        (void)std::fprintf(stderr, "pfn-sanity: %s\n", e.what());
    }
}

} // namespace pfn::tools
