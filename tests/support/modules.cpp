// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
#include "support/modules.hpp"

#include "common/error.hpp"
#include "common/process.hpp"
#include "common/verbs.hpp"

#include <fcntl.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <stdexcept>
#include <thread>

namespace pfn {
namespace {

using namespace std::chrono_literals;

void run(const std::vector<std::string>& argv) {
    if (run_program(argv, 60s) == Exit{})
        return;
    std::string line;
    for (const std::string& arg : argv)
        line += arg + " ";
    throw std::runtime_error("failed: " + line);
}

std::string netdev_below(const std::string& rdma_device) {
    std::ifstream file("/sys/class/infiniband/" + rdma_device + "/parent");
    std::string netdev;
    if (!(file >> netdev))
        throw std::runtime_error("no soft-RoCE device " + rdma_device);
    return netdev;
}

} // namespace

bool module_loaded(const std::string& name) {
    return std::filesystem::exists("/sys/module/" + name);
}

void load_module(const std::string& name) {
    run({"modprobe", name});
}

int unload_module(const std::string& name) {
    return ::syscall(SYS_delete_module, name.c_str(), O_NONBLOCK) < 0 ? errno : 0;
}

ModuleParameter::ModuleParameter(const std::string& path, const std::string& value) {
    const auto slash = path.find('/');
    file_ = "/sys/module/" + path.substr(0, slash) + "/parameters/" + path.substr(slash + 1);
    if (!(std::ifstream(file_) >> before_))
        throw std::runtime_error("no module parameter " + path);
    if (!(std::ofstream(file_) << value << std::flush))
        throw std::runtime_error("cannot set module parameter " + path);
}

ModuleParameter::~ModuleParameter() {
    std::ofstream(file_) << before_;
}

std::vector<RxeLink> rxe_links() {
    return {{.name = "rxe_gpu", .netns = "gpu", .netdev = netdev_below("rxe_gpu")},
            {.name = "rxe_peer", .netns = "peer", .netdev = netdev_below("rxe_peer")}};
}

bool rdma_device_exists(const std::string& name) {
    return std::filesystem::exists("/sys/class/infiniband/" + name);
}

void add_link(const RxeLink& link) {
    // The link is made in the namespace of its Ethernet device.
    auto child = Child::fork([&](Channel&) {
        enter_netns(link.netns);
        run({"rdma", "link", "add", link.name, "type", "rxe", "netdev", link.netdev});
        return 0;
    });
    if (child.wait(60s) != Exit{})
        throw std::runtime_error("cannot add the rxe link " + link.name);
    const auto deadline = std::chrono::steady_clock::now() + PATIENCE;
    while (errno_of([&] { (void)Context(link.name).ipv4_gid_index(); }) != 0) {
        if (std::chrono::steady_clock::now() > deadline)
            throw Timeout(link.name + " has no address");
        std::this_thread::sleep_for(10ms);
    }
}

void delete_link(const RxeLink& link) {
    run({"rdma", "link", "delete", link.name});
}

bool devices_are_taken_away() {
    utsname names{};
    int major = 0;
    int minor = 0;
    // NOLINTNEXTLINE(cert-err34-c): the result says how many were numbers
    if (::uname(&names) < 0 || std::sscanf(names.release, "%d.%d", &major, &minor) != 2)
        throw std::runtime_error("which kernel is this?");
    return major > 7 || (major == 7 && minor >= 3);
}

} // namespace pfn
