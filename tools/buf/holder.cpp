// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
#include "tools/buf/holder.hpp"

#include "common/error.hpp"
#include "tools/cli.hpp"

#include <fcntl.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <optional>
#include <system_error>
#include <utility>

namespace pfn::tools {
namespace {

namespace fs = std::filesystem;

constexpr const char* PROGRAM = "pfn-buf"; ///< as /proc/PID/comm has it

sigset_t ending_signals() {
    sigset_t set;
    ::sigemptyset(&set);
    for (const int signal : {SIGINT, SIGTERM, SIGHUP})
        ::sigaddset(&set, signal);
    return set;
}

/// Where ptrace is for parents only (Yama), let the same user take descriptors of this
/// process all the same: that is what it is there for.
void share_descriptors() {
    ::prctl(PR_SET_PTRACER, PR_SET_PTRACER_ANY, 0, 0, 0);
}

void leave_terminal() {
    ::setsid();
    if (::chdir("/") != 0)
        throw_errno("chdir to /");
    const Fd null(::open("/dev/null", O_RDWR | O_CLOEXEC));
    if (!null)
        throw_errno("open /dev/null");
    for (const int fd : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO})
        ::dup2(null.get(), fd);
}

std::string first_line(const fs::path& file) {
    std::ifstream in(file);
    std::string line;
    std::getline(in, line);
    return line;
}

/// The value of "NAME:\tVALUE" in @p text, "" without.
std::string field(const std::string& text, const std::string& name) {
    const auto at = text.find(name + ":\t");
    if (at == std::string::npos)
        return {};
    const auto from = at + name.size() + 2;
    return text.substr(from, text.find('\n', from) - from);
}

template<typename Number>
std::optional<Number> to_number(const std::string& text) {
    Number value = 0;
    const char* end = text.data() + text.size();
    const auto [rest, error] = std::from_chars(text.data(), end, value);
    if (error != std::errc{} || rest != end)
        return std::nullopt;
    return value;
}

/// Add what process @p pid has. It may end meanwhile, or be none of our business.
void find_buffers_of(pid_t pid, std::vector<Found>& result) {
    const fs::path process = "/proc/" + std::to_string(pid);
    std::error_code ignored;
    for (const auto& entry : fs::directory_iterator(process / "fdinfo", ignored)) {
        std::ifstream in(entry.path());
        const std::string text(std::istreambuf_iterator<char>(in), {});
        if (field(text, "exp_name") != "pfn_vram")
            continue;
        const auto fd = to_number<int>(entry.path().filename());
        const auto size = to_number<std::uint64_t>(field(text, "size"));
        const auto inode = to_number<std::uint64_t>(field(text, "ino"));
        if (fd && size)
            result.push_back({.where = {.pid = pid, .fd = *fd},
                              .program = first_line(process / "comm"),
                              .size = *size,
                              .inode = inode.value_or(0)});
    }
}

} // namespace

void hold_here(const std::function<void()>& announce) {
    const sigset_t set = ending_signals();
    ::sigprocmask(SIG_BLOCK, &set, nullptr);
    share_descriptors();
    announce();
    int signal = 0;
    ::sigwait(&set, &signal);
}

pid_t hold_in_background() {
    std::array<int, 2> ends{};
    if (::pipe2(ends.data(), O_CLOEXEC) < 0)
        throw_errno("pipe");
    const Fd ready(ends[0]);
    Fd done(ends[1]);
    const pid_t pid = ::fork();
    if (pid < 0)
        throw_errno("fork");
    if (pid == 0) {
        leave_terminal();
        hold_here([&] {
            const char byte = 0;
            (void)!::write(done.get(), &byte, 1);
            done.close();
        });
        ::_exit(FINE);
    }
    done.close();
    char byte = 0;
    if (::read(ready.get(), &byte, 1) != 1)
        throw Problem(FAILED, "the process in the background has ended at once");
    return pid;
}

void hold_as(std::vector<std::string> command, const Fd& fd) {
    const std::string number = std::to_string(fd.get());
    std::ranges::replace(command, std::string("{}"), number);
    std::vector<char*> argv;
    argv.reserve(command.size() + 1);
    for (std::string& word : command)
        argv.push_back(word.data());
    argv.push_back(nullptr);
    ::setenv("PFN_BUF_FD", number.c_str(), 1);
    if (::fcntl(fd.get(), F_SETFD, 0) < 0)
        throw_errno("passing a descriptor on");
    ::execvp(argv[0], argv.data());
    throw Problem(errno == ENOENT ? USAGE : FAILED,
                  command[0] + ": " + std::generic_category().message(errno));
}

void let_go(const std::string& name) {
    const Reference reference = parse_reference(name);
    // First the process, then a look at it: it cannot become another one in between.
    const Fd process = open_process(reference.pid);
    const std::string proc = "/proc/" + std::to_string(reference.pid);
    if (first_line(proc + "/comm") != PROGRAM)
        throw Problem(FAILED, name + ": it is not pfn-buf that has it, but " +
                                  first_line(proc + "/comm") + "; end that yourself");
    if (first_line(proc + "/fdinfo/" + std::to_string(reference.fd)).empty())
        throw Problem(FAILED, name + ": no such descriptor, or no permission to see it");
    if (::syscall(SYS_pidfd_send_signal, process.get(), SIGTERM, nullptr, 0) != 0)
        throw_errno("ending process " + std::to_string(reference.pid));
    pollfd ended{.fd = process.get(), .events = POLLIN, .revents = 0};
    constexpr int TIMEOUT_MS = 30000;
    if (::poll(&ended, 1, TIMEOUT_MS) != 1)
        throw Problem(FAILED,
                      name + ": process " + std::to_string(reference.pid) + " does not end");
}

std::vector<Found> find_buffers() {
    std::vector<Found> result;
    std::error_code ignored;
    for (const auto& entry : fs::directory_iterator("/proc", ignored)) {
        if (const auto pid = to_number<pid_t>(entry.path().filename()))
            find_buffers_of(*pid, result);
    }
    std::ranges::sort(
        result, {}, [](const Found& found) { return std::pair(found.where.pid, found.where.fd); });
    return result;
}

} // namespace pfn::tools
