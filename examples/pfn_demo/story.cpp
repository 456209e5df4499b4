// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
#include "pfn_demo/story.hpp"

#include "common/process.hpp"
#include "common/text.hpp"
#include "pfn_demo/protocol.hpp"
#include "pfn_demo/workers.hpp"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <format>
#include <functional>
#include <print>
#include <string>
#include <system_error>
#include <utility>

namespace pfn::demo {
namespace {

using namespace std::chrono_literals;

constexpr std::array<char, BUFFERS> NAMES{'A', 'B'};

/// A step of a worker may take this long, on a slow machine with large buffers.
constexpr auto STEP_PATIENCE = 10min;

/// What to do about the failures a user is most likely to meet.
std::string advice(const std::system_error& e) {
    std::string what = e.what();
    if (e.code().value() == EOPNOTSUPP && what.starts_with("ibv_reg_dmabuf_mr"))
        return "soft-RoCE cannot register dma-bufs here: load this project's rdma_rxe and set "
               "IBV_DRIVERS to lib/librxe of its build ('./lab demo' does both)";
    if (e.code().value() == ENOENT && what.starts_with("open network namespace"))
        return "the network namespaces 'gpu' and 'peer' are missing ('./lab demo' makes them)";
    if (what.starts_with("open /dev/"))
        return what + ": load the module pfn_vram, or let './lab demo' do it";
    if (e.code().value() == ENOSPC)
        return what + ": choose a smaller --size, or more VRAM with './lab demo --vram MIB'";
    return what;
}

/// Start a worker that says what is wrong before it gives up.
Child start_worker(const char* name, const std::function<int(Channel&)>& body) {
    return Child::fork([&](Channel& narrator) {
        std::string problem;
        try {
            return body(narrator);
        } catch (const std::system_error& e) {
            if (e.code().value() == EPIPE) // the narrator is gone, and has said why
                return 1;
            problem = advice(e);
        } catch (const std::exception& e) {
            problem = e.what();
        }
        std::println(stderr, "pfn_demo: {}: {}", name, problem);
        return 1;
    });
}

/// A worker as the narrator sees it.
class Worker {
  public:
    Worker(const char* name, const std::function<int(Channel&)>& body)
        : child_(start_worker(name, body)) {}

    void send(Ask ask) { child_.channel().send(ask); }
    template<typename Answer>
    Answer receive() {
        return child_.channel().recv<Answer>(STEP_PATIENCE);
    }
    template<typename Answer>
    Answer ask(Ask question) {
        send(question);
        return receive<Answer>();
    }
    Channel& channel() { return child_.channel(); }
    void quit() {
        send(Ask::QUIT);
        (void)child_.wait(60s);
    }

  private:
    Child child_;
};

/// Prints the story, and remembers whether anything went wrong.
class Narrator {
  public:
    explicit Narrator(const Options& options)
        : options_(options), colour_(::isatty(STDOUT_FILENO) != 0) {}

    template<typename... Args>
    void say(std::format_string<Args...> format, Args&&... args) {
        if (options_.quiet)
            return;
        std::println("{}", std::format(format, std::forward<Args>(args)...));
        (void)std::fflush(stdout);
    }

    void heading(const std::string& text) {
        if (colour_)
            say("\n\033[1m{}\033[0m", text);
        else
            say("\n{}", text);
    }

    /// "ok" or a loud word, remembered.
    std::string verdict(bool good) {
        failed_ = failed_ || !good;
        if (!colour_)
            return good ? "ok" : "WRONG";
        return good ? "\033[32mok\033[0m" : "\033[31mWRONG\033[0m";
    }

    [[nodiscard]] bool failed() const { return failed_; }

  private:
    const Options& options_;
    bool colour_;
    bool failed_ = false;
};

std::string placement_text(std::uint32_t placement) {
    return placement == PFN_VRAM_PLACEMENT_VRAM ? "VRAM" : "system memory";
}

std::string device_text(const pfn_vram_dev_info& device) {
    const std::string size = bytes_text(static_cast<double>(device.vram_size));
    if (device.backend == PFN_VRAM_BACKEND_BAR)
        return std::format("{} of VRAM, the BAR of PCI device {}", size, device.bus_name);
    return std::format("{} of VRAM, made of RAM as there is no PCI device", size);
}

void introduce(Narrator& out, const GpuOpened& opened) {
    out.say("A remote peer uses \"GPU\" memory while that memory moves.");
    out.say("");
    out.say("  gpu   {:<10} {}", GPU_ADDRESS, device_text(opened.device));
    out.say("  peer  {:<10} soft-RoCE like the gpu, in a network namespace of its own",
            PEER_ADDRESS);
}

void tell_allocation(Narrator& out, const Allocated& allocated) {
    out.heading("gpu allocates two buffers and registers them with ibv_reg_dmabuf_mr()");
    for (std::size_t i = 0; i < BUFFERS; ++i) {
        const auto& buffer = allocated.buffer.at(i);
        const auto& mr = allocated.mr.at(i);
        out.say("  {}  {:>9}  {:<14} {:>12}   the MR takes {} of kernel memory", NAMES.at(i),
                bytes_text(static_cast<double>(buffer.size)), placement_text(buffer.placement),
                count_text(mr.ranges, "range"), bytes_text(static_cast<double>(mr.metadata_bytes)));
    }
}

void tell_fill(Narrator& out, const Sums& peer, const Sums& gpu) {
    out.heading("peer writes a pattern, reads it back and adds 1 to a counter, 100 times");
    for (std::size_t i = 0; i < BUFFERS; ++i) {
        const bool same = peer.checksum.at(i) == gpu.checksum.at(i) &&
                          peer.counter.at(i) == gpu.counter.at(i) && peer.errors == 0;
        out.say("  {}  peer read {:016x} and {}, gpu's CPU sees {:016x} and {}   {}", NAMES.at(i),
                peer.checksum.at(i), peer.counter.at(i), gpu.checksum.at(i), gpu.counter.at(i),
                out.verdict(same));
    }
}

void tell_traffic(Narrator& out, Worker& gpu, Worker& peer, unsigned seconds) {
    out.heading("gpu moves both VRAM -> system -> VRAM ..., peer keeps writing, reading, adding");
    out.say("  {:>6} {:>8} {:>8} {:>14} {:>12} {:>12} {:>8}", "time", "moves", "faults",
            "invalidations", "written", "read back", "errors");
    gpu.ask<Done>(Ask::START_MOVE);
    peer.send(Ask::TRAFFIC);
    peer.channel().send(seconds);
    Moves moves{};
    Progress progress{};
    for (unsigned second = 1; !progress.last; ++second) {
        progress = peer.receive<Progress>();
        moves = gpu.ask<Moves>(progress.last ? Ask::STOP_MOVE : Ask::MOVES);
        out.say("  {:>4} s {:>8} {:>8} {:>14} {:>12} {:>12} {:>8}", second, moves.moves,
                moves.faults, moves.invalidations,
                bytes_text(static_cast<double>(progress.bytes_written)),
                bytes_text(static_cast<double>(progress.bytes_read)), progress.errors);
    }
    out.say("  To stop RDMA for a move took {} at worst.   {}",
            time_text(static_cast<double>(moves.worst_quiesce_ns)),
            out.verdict(progress.errors == 0 && moves.moves > 0 && moves.faults > 0));
}

void tell_verification(Narrator& out, Worker& gpu, Worker& peer) {
    peer.send(Ask::VERSIONS);
    const auto versions = peer.channel().recv_bytes(60s);
    const auto expected = peer.ask<Sums>(Ask::COUNTERS);
    gpu.send(Ask::VERIFY);
    gpu.channel().send_bytes(versions);
    const auto verified = gpu.receive<Verified>();

    out.heading("gpu looks at every byte through the CPU");
    out.say("  {} compared, {} wrong pieces   {}", bytes_text(static_cast<double>(verified.bytes)),
            verified.bad_pieces, out.verdict(verified.bad_pieces == 0));
    for (std::size_t i = 0; i < BUFFERS; ++i)
        out.say("  {}  is in {} again, moved {} times; counter {}, the peer added {}   {}",
                NAMES.at(i), placement_text(verified.buffer.at(i).placement),
                verified.buffer.at(i).generation, verified.counter.at(i), expected.counter.at(i),
                out.verdict(verified.counter.at(i) == expected.counter.at(i)));
}

/// "1/29" if @p value is that part of @p base.
std::string part_text(double value, double base) {
    if (value <= 0 || base <= 0)
        return "";
    const double times = base / value;
    return times >= 2 ? std::format("1/{:.0f}", times) : std::format("{:.1f} x", 1 / times);
}

void tell_cost(Narrator& out, const Cost& cost, std::uint64_t size) {
    out.heading(std::format("What it costs to register {}, on this machine: {}",
                            bytes_text(static_cast<double>(size)), machine_kind()));
    out.say("  {:<26}{:>7}{:>15}{:>8}{:>12}{:>12}{:>8}", "", "ranges", "kernel memory", "",
            "(MR says)", "time", "");
    const auto line = [&](const char* name, const CostRow& row) {
        const bool base = &row == &cost.host;
        out.say(
            "  {:<26}{:>7}{:>15}{:>8}{:>12}{:>12}{:>8}", name, row.ranges,
            bytes_text(row.slab_bytes), base ? "" : part_text(row.slab_bytes, cost.host.slab_bytes),
            base ? "-" : bytes_text(static_cast<double>(row.own_bytes)), time_text(row.register_ns),
            base ? "" : part_text(row.register_ns, cost.host.register_ns));
    };
    line("ordinary MR, 4 KiB pages", cost.host);
    line("pfn MR, contiguous", cost.contiguous);
    line("pfn MR, fragmented", cost.fragmented);
}

} // namespace

int tell_story(const Options& options) {
    Narrator out(options);
    Worker gpu("gpu", [&](Channel& narrator) { return run_gpu(options, narrator); });
    Worker peer("peer", [](Channel& narrator) { return run_peer(narrator); });
    try {
        introduce(out, gpu.ask<GpuOpened>(Ask::OPEN));
        tell_allocation(out, gpu.ask<Allocated>(Ask::ALLOCATE));

        gpu.ask<Done>(Ask::ACCEPT);
        peer.send(Ask::CONNECT);
        (void)gpu.receive<Done>();
        (void)peer.receive<Done>();
        out.heading("peer connects (librdmacm) and is given the two keys");

        const auto written = peer.ask<Sums>(Ask::FILL);
        tell_fill(out, written, gpu.ask<Sums>(Ask::CHECKSUM));
        tell_traffic(out, gpu, peer, options.seconds);
        tell_verification(out, gpu, peer);
        tell_cost(out, gpu.ask<Cost>(Ask::COST), options.size);
        peer.quit();
        gpu.quit();
    } catch (const std::system_error& e) {
        if (e.code().value() != EPIPE) // a worker is gone, and has said why
            std::println(stderr, "pfn_demo: {}", e.what());
        return 1;
    }
    out.say("");
    std::println("{}", out.failed() ? "Something was WRONG, see above."
                                    : "Nothing was lost, nothing was torn.");
    return out.failed() ? 1 : 0;
}

} // namespace pfn::demo
