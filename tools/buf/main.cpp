// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
//
// pfn-buf: device memory for the shell.
//
//   main       this file: the command line, and what each command prints
//   reference  how a buffer is called, and how to get at it
//   holder     who keeps it open
//   contents   its bytes
#include "common/text.hpp"
#include "tools/buf/contents.hpp"
#include "tools/buf/holder.hpp"
#include "tools/buf/reference.hpp"
#include "tools/cli.hpp"
#include "tools/devices.hpp"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <format>
#include <optional>
#include <print>
#include <string_view>
#include <system_error>

namespace pfn::tools {
namespace {

// Words for numbers of <linux/pfn_vram.h>.

std::uint32_t placement_of(const std::string& name) {
    return name == "system" ? PFN_VRAM_PLACEMENT_SYSTEM : PFN_VRAM_PLACEMENT_VRAM;
}

const char* placement_name(std::uint32_t placement) {
    return placement == PFN_VRAM_PLACEMENT_SYSTEM ? "system" : "vram";
}

struct Capability {
    std::string_view name;
    std::uint32_t bit;
};
constexpr std::array<Capability, 3> CAPABILITIES{
    {{"pin", PFN_VRAM_CAP_PIN}, {"move", PFN_VRAM_CAP_MOVE}, {"revoke", PFN_VRAM_CAP_REVOKE}}};

std::uint32_t caps_of(const std::vector<std::string>& wanted) {
    std::uint32_t caps = 0;
    for (const auto& [name, bit] : CAPABILITIES) {
        if (std::ranges::find(wanted, name) != wanted.end())
            caps |= bit;
    }
    return caps;
}

std::vector<std::string> caps_names(std::uint32_t caps) {
    std::vector<std::string> result;
    for (const auto& [name, bit] : CAPABILITIES) {
        if ((caps & bit) != 0)
            result.emplace_back(name);
    }
    return result;
}

// What the kernel's no means, and what helps.

std::string explanation(int err, const std::string& capability) {
    switch (err) {
    case EOPNOTSUPP:
        return "it was allocated without --caps " + capability;
    case EBUSY:
        return "it is pinned, or an importer has not let go of it yet: deregister it there";
    case ENODEV:
        return "it has been revoked (pfn-buf restore gives it memory again), or its device "
               "unplugged";
    case ENOSPC:
        return "not enough free VRAM, or not in one piece: pfn-info says how much there is, "
               "--chunk 4K takes pieces";
    case ENOMEM:
        return "not enough RAM";
    case ETIMEDOUT:
        return "an earlier move, or somebody who waits for it, does not finish";
    case EINVAL:
        return "--size is a multiple of the page size and not 0, --chunk a power of two of at "
               "least a page; only what is revoked can be restored";
    default:
        return std::generic_category().message(err);
    }
}

/// Do @p step to @p what; if the kernel refuses, say why.
template<typename Step>
auto attempt(const std::string& what, const std::string& capability, Step&& step) {
    try {
        return std::forward<Step>(step)();
    } catch (const std::system_error& e) {
        throw Problem(FAILED, what + ": " + explanation(e.code().value(), capability));
    }
}

/// All that can be given on the command line.
struct Options {
    bool json = false;
    std::string buffer;
    std::string device;
    std::string placement = "vram";
    std::uint64_t size = 0;
    std::uint64_t chunk = 0;
    std::vector<std::string> caps{"pin", "move", "revoke"};
    bool read_only = false;
    bool background = false;
    bool async = false;
    bool raw = false;
    Part part;
    Filling filling;
    std::vector<std::string> command;
};

// The commands.

VramDevice open_device(Options& options) {
    if (options.device.empty()) {
        const auto nodes = vram_nodes();
        options.device = nodes.empty() ? VramDevice::DEFAULT_PATH : nodes.front();
    }
    try {
        return VramDevice(options.device);
    } catch (const std::system_error& e) {
        throw cannot_open(options.device, e.code().value());
    }
}

void announce(const Options& options, Reference where) {
    if (options.json)
        print({{"buffer", to_string(where)},
               {"pid", where.pid},
               {"fd", where.fd},
               {"path", std::format("/proc/{}/fd/{}", where.pid, where.fd)},
               {"device", options.device},
               {"size", options.size},
               {"placement", options.placement}});
    else
        std::println("{}", to_string(where));
    if (std::fflush(stdout) != 0)
        throw Problem(FAILED, "writing to stdout: " + std::generic_category().message(errno));
}

void alloc(Options& options) {
    if (options.background && !options.command.empty())
        throw Problem(USAGE, "alloc: --background and a command exclude each other");
    const VramDevice device = open_device(options);
    DmaBuf buffer = attempt("alloc", "", [&] {
        return device.alloc({.size = options.size,
                             .chunk = options.chunk,
                             .placement = placement_of(options.placement),
                             .caps = caps_of(options.caps),
                             .fd_flags = static_cast<std::uint32_t>(
                                 (options.read_only ? O_RDONLY : O_RDWR) | O_CLOEXEC)});
    });
    Reference where{.pid = ::getpid(), .fd = buffer.fd()};
    if (!options.command.empty()) {
        hold_as(std::move(options.command), buffer.release());
    } else if (options.background) {
        where.pid = hold_in_background();
        announce(options, where);
    } else {
        hold_here([&] { announce(options, where); });
    }
}

void run(Options& options) {
    Buffer buffer = open_buffer(options.buffer);
    hold_as(std::move(options.command), buffer.memory.release());
}

void list(const Options& options) {
    Json buffers = Json::array();
    for (const Found& found : find_buffers()) {
        const std::string where = to_string(found.where);
        if (options.json)
            buffers.push_back({{"buffer", where},
                               {"program", found.program},
                               {"size", found.size},
                               {"inode", found.inode}});
        else
            std::println("{:<12} {:>10}  dmabuf {:<6} {}", where,
                         bytes_text(static_cast<double>(found.size)), found.inode, found.program);
    }
    if (options.json)
        print({{"buffers", std::move(buffers)}});
}

Json describe(const Buffer& buffer, const pfn_vram_buf_info& info) {
    const bool revoked = (info.flags & PFN_VRAM_BUF_REVOKED) != 0;
    return {{"buffer", buffer.name},
            {"device", buffer.node},
            {"size", info.size},
            {"placement", revoked ? Json(nullptr) : Json(placement_name(info.placement))},
            {"caps", caps_names(info.caps)},
            {"revoked", revoked},
            {"pinned", (info.flags & PFN_VRAM_BUF_PINNED) != 0},
            {"moving", (info.flags & PFN_VRAM_BUF_MOVING) != 0},
            {"ranges", info.ranges},
            {"generation", info.generation},
            {"importers", info.attachments},
            {"metadata_bytes", info.metadata_bytes}};
}

void print_info(const Buffer& buffer, const pfn_vram_buf_info& info) {
    const bool revoked = (info.flags & PFN_VRAM_BUF_REVOKED) != 0;
    const auto caps = caps_names(info.caps);
    std::println("{}: {} of {}, {}", buffer.name, bytes_text(static_cast<double>(info.size)),
                 buffer.node,
                 revoked ? "revoked"
                         : std::format("in {}, {}", placement_name(info.placement),
                                       count_text(info.ranges, "range")));
    std::println("  {}; moved or revoked {}", caps.empty() ? "holds still" : "can " + join(caps),
                 count_text(info.generation, "time"));
    std::println("  {}{}{}", count_text(info.attachments, "importer"),
                 (info.flags & PFN_VRAM_BUF_PINNED) != 0 ? ", pinned" : "",
                 (info.flags & PFN_VRAM_BUF_MOVING) != 0 ? ", moving" : "");
}

void info(const Options& options) {
    const Buffer buffer = open_buffer(options.buffer);
    if (options.json)
        print(describe(buffer, buffer.info()));
    else
        print_info(buffer, buffer.info());
}

/// After a command that changes a buffer: for programs how it is now, for people
/// nothing.
void report(const Options& options, const Buffer& buffer) {
    if (options.json)
        print(describe(buffer, buffer.info()));
}

void move(const Options& options) {
    const Buffer buffer = open_buffer(options.buffer);
    const pfn_vram_move times = attempt(buffer.name, "move", [&] {
        return buffer.device.move(buffer.memory.fd(), placement_of(options.placement),
                                  options.chunk, options.async ? PFN_VRAM_MOVE_ASYNC : 0);
    });
    if (!options.json)
        return;
    Json json = describe(buffer, buffer.info());
    json["quiesce_ns"] = times.quiesce_ns;
    json["copy_ns"] = times.copy_ns;
    print(json);
}

void revoke(const Options& options) {
    const Buffer buffer = open_buffer(options.buffer);
    attempt(buffer.name, "revoke", [&] { buffer.device.revoke(buffer.memory.fd()); });
    report(options, buffer);
}

void restore(const Options& options) {
    const Buffer buffer = open_buffer(options.buffer);
    attempt(buffer.name, "", [&] {
        buffer.device.restore(buffer.memory.fd(), placement_of(options.placement), options.chunk);
    });
    report(options, buffer);
}

void fill(const Options& options) {
    const Buffer buffer = open_buffer(options.buffer);
    const std::uint64_t written = fill(buffer, options.part, options.filling);
    if (options.json)
        print({{"buffer", buffer.name}, {"offset", options.part.offset}, {"written", written}});
}

void dump(const Options& options) {
    const Buffer buffer = open_buffer(options.buffer);
    if (options.json)
        print(dump_json(buffer, options.part));
    else
        dump(buffer, options.part, options.raw);
}

void free(const Options& options) {
    let_go(options.buffer);
}

// The command line.

class CommandLine {
  public:
    explicit CommandLine(CLI::App& app) : app_(app) {
        app_.require_subcommand(0, 1); // one, see act(): CLI11 would not name a wrong one
        app_.fallthrough();
        app_.add_flag("--json", options_.json, "print a JSON document");
        add_alloc();
        add("list", "Show the buffers that processes have open", [this] { list(options_); });
        on_buffer("info", "Show how a buffer is", [this] { info(options_); });
        add_run();
        auto* mover = on_buffer("move", "Move a buffer, data intact", [this] { move(options_); });
        add_placement(mover, true);
        mover->add_flag("--async", options_.async, "do not wait for the data to arrive");
        on_buffer("revoke", "Take a buffer back from everybody", [this] { revoke(options_); });
        add_placement(on_buffer("restore", "Give a revoked buffer memory again, zeroed",
                                [this] { restore(options_); }),
                      false);
        add_fill();
        auto* dumper = on_buffer("dump", "Print a buffer's contents", [this] { dump(options_); });
        add_part(dumper);
        dumper->add_flag("--raw", options_.raw, "the bytes as they are");
        on_buffer("free", "End the process that alloc --background has left",
                  [this] { free(options_); });
    }

    void act() const {
        if (!action_)
            throw Problem(USAGE, "a command is required (see --help)");
        action_();
    }

  private:
    CLI::App* add(const std::string& name, const std::string& help, std::function<void()> act) {
        CLI::App* sub = app_.add_subcommand(name, help);
        sub->fallthrough();
        sub->callback([this, act = std::move(act)] { action_ = act; });
        return sub;
    }
    CLI::App* on_buffer(const std::string& name, const std::string& help,
                        std::function<void()> act) {
        CLI::App* sub = add(name, help, std::move(act));
        sub->add_option("BUFFER", options_.buffer, "PID:FD, as alloc and list print it")
            ->required();
        return sub;
    }
    void add_placement(CLI::App* sub, bool required) {
        sub->add_option("PLACEMENT", options_.placement, "vram or system")
            ->check(CLI::IsMember({"vram", "system"}))
            ->required(required);
        add_chunk(sub);
    }
    void add_chunk(CLI::App* sub) {
        sub->add_option("--chunk", options_.chunk,
                        "scatter it in pieces of this size, a power of two")
            ->transform(CLI::AsSizeValue(false));
    }
    void add_part(CLI::App* sub) {
        sub->add_option("--offset", options_.part.offset, "first byte")
            ->transform(CLI::AsSizeValue(false));
        sub->add_option("--length", options_.part.length, "bytes (default: up to the end)")
            ->transform(CLI::AsSizeValue(false));
    }
    void add_alloc() {
        CLI::App* sub = add("alloc", "Allocate a buffer, print its name, and keep it open",
                            [this] { alloc(options_); });
        sub->add_option("--size", options_.size, "bytes, for example 4MiB")
            ->transform(CLI::AsSizeValue(false))
            ->required();
        sub->add_option("--device", options_.device, "default: the first of /dev/pfn_vram*");
        sub->add_option("--placement", options_.placement, "vram (default) or system")
            ->check(CLI::IsMember({"vram", "system"}));
        add_chunk(sub);
        sub->add_option("--caps", options_.caps, "of pin,move,revoke (default: all), or none")
            ->delimiter(',')
            ->check(CLI::IsMember({"pin", "move", "revoke", "none"}));
        sub->add_flag("--read-only", options_.read_only, "nobody may write to it");
        sub->add_flag("--background", options_.background,
                      "return at once, and leave a process that keeps it open");
        sub->add_option("COMMAND", options_.command,
                        "after --: run this with the buffer open, instead of waiting");
    }
    void add_run() {
        CLI::App* sub =
            on_buffer("run", "Run a program with a buffer open", [this] { run(options_); });
        sub->add_option("COMMAND", options_.command,
                        "after --: the program; {} stands for the descriptor's number")
            ->required();
    }
    void add_fill() {
        CLI::App* sub = on_buffer("fill", "Write to a buffer", [this] { fill(options_); });
        CLI::Option_group* what = sub->add_option_group("with", "What to write, one of");
        what->add_option("--byte", options_.filling.byte, "this value")->check(CLI::Range(0, 255));
        what->add_option("--seed", options_.filling.seed,
                         "a pattern in which every 8 bytes differ");
        what->add_option("--from", options_.filling.file, "the contents of a file, - is stdin");
        what->require_option(1);
        add_part(sub);
    }

    CLI::App& app_;
    Options options_;
    std::function<void()> action_;
};

} // namespace
} // namespace pfn::tools

int main(int argc, char** argv) {
    std::optional<pfn::tools::CommandLine> line;
    return pfn::tools::run_tool(
        {.name = "pfn-buf",
         .purpose = "Allocate, move, revoke, fill and look at device memory of pfn_vram.",
         .add_options = [&](CLI::App& app) { line.emplace(app); },
         .run =
             [&] {
                 line->act();
                 return pfn::tools::FINE;
             }},
        argc, argv);
}
