// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
#include "tools/info/checks.hpp"

#include "common/text.hpp"
#include "common/vram.hpp"
#include "tools/devices.hpp"
#include "tools/info/modules.hpp"

#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <format>
#include <system_error>

namespace pfn::tools {
namespace {

namespace fs = std::filesystem;

// The kernel and its modules.

Check check_kernel() {
    const std::string release = kernel_release();
    int major = 0;
    int minor = 0;
    if (std::sscanf(release.c_str(), "%d.%d", &major, &minor) != 2)
        major = 0;
    if (major < 7)
        return Check::bad("kernel", release + " is too old",
                          "boot a 7.2 or 7.3 kernel; Debian has them in backports");
    if (major == 7 && (minor == 2 || minor == 3))
        return Check::good("kernel", release);
    return Check::note("kernel", release + "; tried were 7.2 and 7.3");
}

constexpr const char* INSTALL = "install umem-pfn-dkms, or see \"On a real host\" in the README";

/// A module that only this project has. @p when_missing: what it means if it is neither
/// loaded nor installed.
Check check_own_module(const std::string& name, Verdict when_missing, const std::string& advice) {
    const Module module = look_at_module(name);
    const std::string subject = "module " + name;
    if (module.loaded)
        return Check::good(subject, "loaded");
    if (!module.file.empty())
        return Check::note(subject, "not loaded; there is " + module.file, advice);
    return {subject, when_missing, "not loaded, and not installed for this kernel", INSTALL};
}

/// rdma_rxe, of which there are two: the distribution's knows nothing of us.
Check check_rxe() {
    const Module module = look_at_module("rdma_rxe");
    const std::string subject = "module rdma_rxe";
    if (module.loaded_uses_umem)
        return Check::good(subject, "loaded, with pfn MRs");
    const std::string text =
        module.loaded ? "the stock one is loaded, without pfn MRs" : "not loaded";
    if (!module.file_uses_umem)
        return Check::bad(subject, text + "; none with pfn MRs is installed for this kernel",
                          INSTALL);
    return Check::bad(subject, text + "; there is " + module.file,
                      module.loaded ? "delete its links (rdma link delete NAME), then modprobe -r "
                                      "rdma_rxe and modprobe rdma_rxe"
                                    : "modprobe rdma_rxe");
}

void check_modules(Report& report) {
    const std::string by_itself = "it is loaded with the modules that need it";
    report.checks.push_back(check_own_module("dma_buf_pfn", Verdict::BAD, by_itself));
    report.checks.push_back(check_own_module("ib_umem_pfn", Verdict::BAD, by_itself));
    report.checks.push_back(check_rxe());
    report.checks.push_back(check_own_module("pfn_vram", Verdict::NOTE, "modprobe pfn_vram"));
    if (wants_signatures())
        report.checks.push_back(
            Check::note("module signatures", "this kernel loads signed modules only (Secure Boot)",
                        "sign ours with a key of yours that is enrolled with mokutil"));
}

// RDMA devices and their provider.

Check check_device(const RdmaDevice& device) {
    const std::string subject = "device " + device.name;
    if (!device.may_open)
        return Check::bad(subject, device.reason,
                          "be root" + or_group_of(device.node) + ", for " + device.node);
    if (!device.supports)
        return Check::note(subject, device.reason);
    const std::string text =
        std::format("pfn MRs: {}; {}", join(names(device.supports->modes & ~1U, pfndv_mode_str)),
                    join(names(device.supports->backends, pfndv_backend_str)));
    if (device.active)
        return Check::good(subject, text);
    return Check::note(subject, text + "; its port is down",
                       "ip link set NETDEV up, for the network device that it is on");
}

Check check_provider(const RdmaDevice& device) {
    const std::string subject = "provider of " + device.name;
    if (device.plain_verb)
        return Check::good(subject, "ibv_reg_dmabuf_mr() works: programs need no change");
    return Check::note(subject,
                       "the distribution's librxe: libpfndv works, ibv_reg_dmabuf_mr() does not",
                       "install umem-pfn-provider, or set IBV_DRIVERS (provider/librxe/README.md)");
}

Json describe(const RdmaDevice& device) {
    Json json{{"name", device.name},
              {"node", device.node},
              {"may_open", device.may_open},
              {"supported", device.supports.has_value()}};
    if (!device.supports) {
        json["reason"] = device.reason;
        return json;
    }
    json["port_active"] = device.active;
    json["ibv_reg_dmabuf_mr"] = device.plain_verb;
    json["modes"] = names(device.supports->modes & ~1U, pfndv_mode_str);
    json["backends"] = names(device.supports->backends, pfndv_backend_str);
    json["max_length"] = device.supports->max_length;
    return json;
}

/// @p none: not even one without pfn MRs.
Check no_device(bool none) {
    std::error_code ignored;
    if (none && !fs::is_empty("/sys/class/infiniband", ignored) && !ignored)
        return Check::bad("devices", "no node in /dev/infiniband for the RDMA devices there are",
                          "modprobe ib_uverbs");
    return Check::bad("devices", none ? "no RDMA device" : "no RDMA device with pfn MRs",
                      "rdma link add rxe0 type rxe netdev NETDEV, with a network device of yours");
}

void check_devices(Report& report) {
    const auto devices = rdma_devices();
    for (const RdmaDevice& device : devices) {
        report.checks.push_back(check_device(device));
        if (device.supports)
            report.checks.push_back(check_provider(device));
        report.devices.push_back(describe(device));
    }
    if (std::ranges::none_of(devices, [](const auto& d) { return d.supports || !d.may_open; }))
        report.checks.push_back(no_device(devices.empty()));
}

// Exporters.

/// A node that cannot be opened, and the errno of that.
Check unusable(const std::string& node, Verdict verdict, int err) {
    const std::string subject = "exporter " + node;
    if (err == EACCES || err == EPERM)
        return {subject, verdict, "no permission", "be root" + or_group_of(node)};
    return {subject, verdict, std::generic_category().message(err), {}};
}

Check check_vram(const std::string& node, Json& json) try {
    json["usable"] = false;
    const pfn_vram_dev_info info = VramDevice(node).info();
    const bool bar = info.backend == PFN_VRAM_BACKEND_BAR;
    const std::string bus = &info.bus_name[0];
    json["usable"] = true;
    json["backend"] = bar ? "bar" : "ram";
    json["bus"] = bar ? Json(bus) : Json(nullptr);
    json["bytes"] = info.vram_size;
    json["free_bytes"] = info.vram_free;
    json["buffers"] = info.buffers;
    return Check::good("exporter " + node,
                       std::format("{} of {} free, {}; {}",
                                   bytes_text(static_cast<double>(info.vram_free)),
                                   bytes_text(static_cast<double>(info.vram_size)),
                                   bar ? "the BAR of " + bus : "RAM that stands in for a BAR",
                                   count_text(info.buffers, "buffer")));
} catch (const std::system_error& e) {
    return unusable(node, Verdict::BAD, e.code().value());
}

/// An exporter that does not lend: a node that can be opened, or not.
Check check_bridged(const std::string& node, Json& json) {
    const bool usable = ::faccessat(AT_FDCWD, node.c_str(), R_OK | W_OK, AT_EACCESS) == 0;
    json["usable"] = usable;
    if (!usable)
        return unusable(node, Verdict::NOTE, errno);
    return Check::good("exporter " + node, "through a bridge: its memory never moves");
}

std::vector<std::string> heaps() {
    std::vector<std::string> result;
    std::error_code ignored;
    for (const auto& entry : fs::directory_iterator("/dev/dma_heap", ignored))
        result.push_back(entry.path());
    std::ranges::sort(result);
    return result;
}

void check_exporters(Report& report) {
    const auto look = [&](const std::string& node, const char* kind, auto check) {
        Json json{{"path", node}, {"kind", kind}};
        report.checks.push_back(check(node, json));
        report.exporters.push_back(std::move(json));
    };
    const auto nodes = vram_nodes();
    for (const std::string& node : nodes)
        look(node, "pfn_vram", check_vram);
    for (const std::string& node : heaps())
        look(node, "dma_heap", check_bridged);
    if (fs::exists("/dev/udmabuf"))
        look("/dev/udmabuf", "udmabuf", check_bridged);
    if (nodes.empty())
        report.checks.push_back(Check::note("exporter /dev/pfn_vram*",
                                            "none: no memory that moves to try things with",
                                            "modprobe pfn_vram"));
}

// Limits.

Check check_memlock() {
    constexpr rlim_t LITTLE = 64U << 20U;
    rlimit limit{};
    ::getrlimit(RLIMIT_MEMLOCK, &limit);
    if (limit.rlim_cur == RLIM_INFINITY)
        return Check::good("memlock", "unlimited");
    const std::string text = bytes_text(static_cast<double>(limit.rlim_cur)) +
                             " of ordinary memory may be registered; pfn MRs need none of it";
    if (limit.rlim_cur >= LITTLE || ::geteuid() == 0)
        return Check::good("memlock", text);
    return Check::note("memlock", text, "ulimit -l, or memlock in /etc/security/limits.conf");
}

} // namespace

Report look_around() {
    Report report;
    report.checks.push_back(check_kernel());
    check_modules(report);
    check_devices(report);
    check_exporters(report);
    report.checks.push_back(check_memlock());
    return report;
}

} // namespace pfn::tools
