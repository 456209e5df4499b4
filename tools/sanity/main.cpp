// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
//
// pfn-sanity: do pfn MRs work on this machine?
//
//   main        this file: what to try it with, what is printed
//   steps       what is tried
//   own_device  a soft-RoCE device where there is none
#include "common/vram.hpp"
#include "tools/cli.hpp"
#include "tools/devices.hpp"
#include "tools/sanity/own_device.hpp"
#include "tools/sanity/steps.hpp"

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <optional>
#include <print>
#include <string_view>
#include <system_error>
#include <utility>

namespace pfn::tools {
namespace {

constexpr unsigned LIMIT_SECONDS = 120;
constexpr std::uint64_t MIN_SIZE = 64U << 10U;
constexpr std::uint64_t MAX_SIZE = 64U << 20U;

struct Options {
    bool json = false;
    bool own_device = false;
    std::string rdma;
    std::string vram;
    std::uint64_t size = 1U << 20U;
};

/// A test that hangs has failed, too. The kernel cleans up after the process.
void on_alarm(int /*signal*/) {
    constexpr std::string_view LINE =
        "pfn-sanity: a step has not come to its end within 2 minutes\n";
    (void)!::write(STDERR_FILENO, LINE.data(), LINE.size());
    ::_exit(FAILED);
}

// What to try it with.

void check_size(std::uint64_t size) {
    if (size < MIN_SIZE || size > MAX_SIZE || size % page_size() != 0)
        throw Problem(USAGE, "--size must be from 64KiB to 64MiB, and a multiple of the page size");
}

/// The exporter to use; it can be opened.
std::string choose_vram(const std::string& wanted) {
    const auto nodes = vram_nodes();
    std::string node = wanted;
    if (node.empty())
        node = nodes.empty() ? VramDevice::DEFAULT_PATH : nodes.front();
    try {
        (void)VramDevice(node).info();
    } catch (const std::system_error& e) {
        if (e.code().value() == ENOTTY)
            throw Problem(USAGE, node + ": not a device of pfn_vram");
        throw cannot_open(node, e.code().value());
    }
    return node;
}

/// Why @p device cannot be used, or "".
std::string objection(const RdmaDevice& device) {
    if (!device.may_open)
        return "no permission: be root" + or_group_of(device.node);
    if (!device.supports)
        return device.reason;
    return device.active ? "" : "its port is down";
}

/// The device called @p name.
RdmaDevice find_rdma(const std::string& name) {
    for (RdmaDevice& device : rdma_devices()) {
        if (device.name != name)
            continue;
        if (const std::string wrong = objection(device); !wrong.empty())
            throw Problem(NOT_HERE, name + ": " + wrong);
        return std::move(device);
    }
    throw Problem(NOT_HERE, name + ": there is no such RDMA device; pfn-info lists them");
}

/// Any that can be used.
std::optional<RdmaDevice> first_rdma(std::string& why_not) {
    for (RdmaDevice& device : rdma_devices()) {
        const std::string wrong = objection(device);
        if (wrong.empty())
            return std::move(device);
        why_not = device.name + ": " + wrong;
    }
    return std::nullopt;
}

RdmaDevice choose_rdma(const Options& options, std::optional<OwnDevice>& own) {
    if (!options.rdma.empty())
        return find_rdma(options.rdma);
    std::string why_not = "there is no RDMA device";
    if (!options.own_device) {
        if (auto device = first_rdma(why_not))
            return *std::move(device);
        if (::geteuid() != 0)
            throw Problem(NOT_HERE, why_not + "; root can make one: rdma link add rxe0 type rxe "
                                              "netdev NETDEV");
    }
    own.emplace();
    return find_rdma(own->name());
}

// What is printed.

const char* name(Result result) {
    switch (result) {
    case Result::PASS:
        return "PASS";
    case Result::FAIL:
        return "FAIL";
    case Result::SKIP:
        return "SKIP";
    }
    return "FAIL";
}

void print_outcome(const Outcome& outcome) {
    std::println("{}  {:<18} {}", name(outcome.result), outcome.step, outcome.detail);
    (void)std::fflush(stdout);
}

void print_json(const Subject& subject, bool own, const std::vector<Outcome>& outcomes, bool fine,
                double seconds) {
    Json steps = Json::array();
    for (const Outcome& outcome : outcomes)
        steps.push_back({{"step", outcome.step},
                         {"result", name(outcome.result)},
                         {"detail", outcome.detail},
                         {"milliseconds", outcome.milliseconds}});
    print({{"tool", "pfn-sanity"},
           {"version", version()},
           {"verdict", fine ? "PASS" : "FAIL"},
           {"rdma_device", subject.rdma},
           {"own_device", own},
           {"exporter", subject.vram},
           {"seconds", seconds},
           {"steps", std::move(steps)}});
}

void print_verdict(const std::vector<Outcome>& outcomes, bool fine, double seconds) {
    const auto count = [&](Result result) {
        return std::ranges::count(outcomes, result, &Outcome::result);
    };
    std::println("\n{}: {} steps passed, {} failed, {} skipped, {:.1f} s", fine ? "PASS" : "FAIL",
                 count(Result::PASS), count(Result::FAIL), count(Result::SKIP), seconds);
}

Status run(const Options& options) {
    check_size(options.size);
    if (options.own_device && !options.rdma.empty())
        throw Problem(USAGE, "--own-device and --rdma exclude each other");
    ::signal(SIGALRM, on_alarm);
    ::alarm(LIMIT_SECONDS);

    const auto start = std::chrono::steady_clock::now();
    Subject subject{
        .rdma = {}, .vram = choose_vram(options.vram), .size = options.size, .plain_verb = false};
    std::optional<OwnDevice> own;
    const RdmaDevice device = choose_rdma(options, own);
    subject.rdma = device.name;
    subject.plain_verb = device.plain_verb;
    if (!options.json)
        std::println("RDMA device {}{}, exporter {}", subject.rdma, own ? " (made for this)" : "",
                     subject.vram);

    std::vector<Outcome> outcomes;
    do_steps(subject, [&](const Outcome& outcome) {
        outcomes.push_back(outcome);
        if (!options.json)
            print_outcome(outcome);
    });

    const bool fine = std::ranges::none_of(
        outcomes, [](const Outcome& outcome) { return outcome.result == Result::FAIL; });
    const double seconds =
        std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    if (options.json)
        print_json(subject, own.has_value(), outcomes, fine, seconds);
    else
        print_verdict(outcomes, fine, seconds);
    return fine ? FINE : FAILED;
}

void add_options(CLI::App& app, Options& options) {
    app.add_option("--rdma", options.rdma, "RDMA device (default: the first that will do)");
    app.add_flag("--own-device", options.own_device,
                 "make a soft-RoCE device for this (the default if there is none; root only)");
    app.add_option("--vram", options.vram, "exporter (default: the first of /dev/pfn_vram*)");
    app.add_option("--size", options.size, "of the buffer (default 1MiB)")
        ->transform(CLI::AsSizeValue(false));
    app.add_flag("--json", options.json, "print a JSON document");
}

} // namespace
} // namespace pfn::tools

int main(int argc, char** argv) {
    pfn::tools::Options options;
    return pfn::tools::run_tool(
        {.name = "pfn-sanity",
         .purpose = "Try on this machine what memory regions on dma-bufs are there for: memory of "
                    "pfn_vram that a peer writes, reads and adds to while it moves. Takes seconds, "
                    "2 minutes at most, and leaves nothing behind.",
         .add_options = [&](CLI::App& app) { pfn::tools::add_options(app, options); },
         .run = [&] { return pfn::tools::run(options); }},
        argc, argv);
}
