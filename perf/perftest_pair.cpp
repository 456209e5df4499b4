// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
#include "perftest_pair.hpp"

#include "common/error.hpp"
#include "common/fd.hpp"
#include "common/files.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <csignal>
#include <cstdint>
#include <format>
#include <optional>
#include <sstream>

namespace pfn::perf {
namespace {

using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;

constexpr const char* SERVER_ADDRESS = "192.0.2.1"; // of the namespace gpu

/// A program whose output is kept.
class Side {
  public:
    /// @p netns: where it runs; none: here.
    Side(const std::string& program, const Options& options,
         const std::optional<std::string>& netns)
        : output_(::memfd_create("output", MFD_CLOEXEC)), child_(start(program, options, netns)) {}

    [[nodiscard]] pid_t pid() const { return child_.pid(); }
    [[nodiscard]] bool ends_within(std::chrono::milliseconds time) const {
        return child_.ends_within(time);
    }
    PerftestEnd end(std::chrono::milliseconds timeout) {
        const Exit exit = child_.wait(timeout);
        return {.exit = exit, .output = read_file(std::format("/proc/self/fd/{}", output_.get()))};
    }
    /// The end of one that waits for somebody who will not come.
    PerftestEnd give_up() {
        if (!ends_within(5s))
            child_.kill(SIGKILL);
        return end(60s);
    }

  private:
    Child start(const std::string& program, const Options& options,
                const std::optional<std::string>& netns) const {
        if (!output_)
            throw_errno("memfd_create");
        const std::string path = std::string(PFN_PERFTEST_BIN) + "/" + program;
        if (::access(path.c_str(), X_OK) < 0)
            throw_errno(path);
        return Child::fork([&](Channel&) {
            if (netns)
                enter_netns(*netns);
            if (::dup2(output_.get(), STDOUT_FILENO) < 0 ||
                ::dup2(output_.get(), STDERR_FILENO) < 0)
                throw_errno("dup2");
            std::vector<char*> args{const_cast<char*>(path.c_str())}; // NOLINT: execv's interface
            for (const std::string& option : options)
                args.push_back(const_cast<char*>(option.c_str())); // NOLINT: same
            args.push_back(nullptr);
            ::execv(args[0], args.data());
            throw_errno("run " + path);
            return 127;
        });
    }

    Fd output_;
    Child child_;
};

/// Does anybody listen at @p port in the network namespace of process @p pid?
bool listens(pid_t pid, std::uint16_t port) {
    const std::string local = std::format(":{:04X} ", port);
    for (const char* protocol : {"tcp", "tcp6"}) {
        std::istringstream sockets(read_file(std::format("/proc/{}/net/{}", pid, protocol)));
        for (std::string line; std::getline(sockets, line);) {
            // "0: 00000000:4853 00000000:0000 0A ...", 0A being LISTEN
            if (line.contains(local) && line.contains(":0000 0A "))
                return true;
        }
    }
    return false;
}

/// Wait for the server to listen; false if it has ended instead.
bool waits_for_client(const Side& server, std::uint16_t port, Clock::time_point deadline) {
    while (!server.ends_within(10ms)) {
        if (listens(server.pid(), port))
            return true;
        if (Clock::now() > deadline)
            throw Timeout("the perftest server does not listen");
    }
    return false;
}

/// Each pair has a port of its own: the last one's may not be free yet.
std::uint16_t next_port() {
    static std::uint16_t port = 18514;
    return ++port;
}

Options joined(std::initializer_list<Options> parts) {
    Options all;
    for (const Options& part : parts)
        all.insert(all.end(), part.begin(), part.end());
    return all;
}

} // namespace

PerftestEnds run_perftest(const PerftestPair& pair, std::chrono::seconds timeout) {
    const auto deadline = Clock::now() + timeout;
    const std::uint16_t port = next_port();
    // -F: clocks of virtual CPUs are not what /proc/cpuinfo says.
    // -u 17: 4 s in all until a side is given up; its default gives a machine that is
    // busy half a second.
    const Options common = joined({{"-F", "-u", "17", "-p", std::to_string(port)}, pair.both});
    Side server(pair.program, joined({{"-d", "rxe_gpu"}, common, pair.server}), "gpu");
    if (!waits_for_client(server, port, deadline))
        return {.server = server.end(timeout),
                .client = {.exit = {.status = 1, .signal = 0}, .output = ""}};
    Side client(pair.program, joined({{"-d", "rxe_peer"}, common, pair.client, {SERVER_ADDRESS}}),
                "peer");
    PerftestEnds ends;
    ends.client = client.end(timeout);
    ends.server = ends.client.good() ? server.end(timeout) : server.give_up();
    return ends;
}

PerftestEnd run_alone(const std::string& program, const Options& options,
                      std::chrono::seconds timeout) {
    return Side(program, options, std::nullopt).end(timeout);
}

} // namespace pfn::perf
