// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
#include "common/process.hpp"

#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>

namespace pfn {
namespace {

/// Wait until @p fd can be read; false after @p timeout.
bool readable(int fd, std::chrono::milliseconds timeout) {
    const auto deadline = std::chrono::steady_clock::now() + timeout;
    for (;;) {
        const auto left = std::chrono::ceil<std::chrono::milliseconds>(
            deadline - std::chrono::steady_clock::now());
        pollfd p{.fd = fd, .events = POLLIN, .revents = 0};
        const int n = ::poll(&p, 1, left.count() > 0 ? static_cast<int>(left.count()) : 0);
        if (n >= 0)
            return n > 0;
        if (errno != EINTR)
            throw_errno("poll");
    }
}

} // namespace

std::pair<Channel, Channel> Channel::make_pair() {
    std::array<int, 2> fds{};
    if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds.data()) < 0)
        throw_errno("socketpair");
    return {Channel(Fd(fds[0])), Channel(Fd(fds[1]))};
}

void Channel::send_bytes(std::span<const std::byte> message) const {
    if (::send(fd(), message.data(), message.size(), MSG_NOSIGNAL) < 0)
        throw_errno("send to the other process");
}

std::vector<std::byte> Channel::recv_bytes(std::chrono::milliseconds timeout) const {
    if (!readable(fd(), timeout))
        throw Timeout("the other process said nothing for " + std::to_string(timeout.count()) +
                      " ms");
    const ssize_t size = ::recv(fd(), nullptr, 0, MSG_PEEK | MSG_TRUNC);
    if (size < 0)
        throw_errno("receive from the other process");
    if (size == 0)
        throw_errno(EPIPE, "the other process is gone");
    std::vector<std::byte> message(static_cast<std::size_t>(size));
    if (::recv(fd(), message.data(), message.size(), 0) != size)
        throw_errno("receive from the other process");
    return message;
}

void Channel::recv_into(std::span<std::byte> out, std::chrono::milliseconds timeout) const {
    const auto message = recv_bytes(timeout);
    if (message.size() != out.size())
        throw_errno(EPROTO, "message of " + std::to_string(message.size()) + " bytes where " +
                                std::to_string(out.size()) + " were expected");
    std::memcpy(out.data(), message.data(), out.size());
}

bool Channel::ready() const {
    return readable(fd(), std::chrono::milliseconds(0));
}

Child::Child(pid_t pid, Fd pidfd, Channel channel)
    : pid_(pid), pidfd_(std::move(pidfd)), channel_(std::move(channel)) {}

Child::Child(Child&& other) noexcept
    : pid_(std::exchange(other.pid_, -1)), pidfd_(std::move(other.pidfd_)),
      channel_(std::move(other.channel_)) {}

Child Child::fork(const std::function<int(Channel&)>& body) {
    auto [mine, theirs] = Channel::make_pair();
    (void)std::fflush(nullptr);
    const pid_t pid = ::fork();
    if (pid < 0)
        throw_errno("fork");
    if (pid == 0) {
        mine.close();
        ::prctl(PR_SET_PDEATHSIG, SIGKILL);
        int status = 125;
        try {
            status = body(theirs);
        } catch (const std::exception& e) {
            (void)std::fprintf(stderr, "child %d: %s\n", ::getpid(), e.what());
        }
        (void)std::fflush(nullptr);
        ::_exit(status);
    }
    const long pidfd = ::syscall(SYS_pidfd_open, pid, 0);
    if (pidfd < 0)
        throw_errno("pidfd_open");
    return {pid, Fd(static_cast<int>(pidfd)), std::move(mine)};
}

Child::~Child() {
    if (pid_ > 0) {
        ::kill(pid_, SIGKILL);
        ::waitpid(pid_, nullptr, 0);
    }
}

void Child::kill(int signal) const {
    if (::kill(pid_, signal) < 0)
        throw_errno("kill");
}

bool Child::ends_within(std::chrono::milliseconds timeout) const {
    return readable(pidfd_.get(), timeout);
}

Exit Child::wait(std::chrono::milliseconds timeout) {
    if (!ends_within(timeout))
        throw Timeout("process " + std::to_string(pid_) + " did not end in time");
    int status = 0;
    if (::waitpid(pid_, &status, 0) < 0)
        throw_errno("waitpid");
    pid_ = -1;
    if (WIFSIGNALED(status))
        return {.status = 0, .signal = WTERMSIG(status)};
    return {.status = WEXITSTATUS(status), .signal = 0};
}

Exit run_program(const std::vector<std::string>& argv, std::chrono::milliseconds timeout) {
    auto child = Child::fork([&](Channel&) {
        std::vector<char*> args;
        args.reserve(argv.size() + 1);
        for (const std::string& arg : argv)
            args.push_back(const_cast<char*>(arg.c_str())); // NOLINT: execvp's interface
        args.push_back(nullptr);
        ::execvp(args[0], args.data());
        throw_errno("run " + argv[0]);
        return 127;
    });
    return child.wait(timeout);
}

void enter_netns(const std::string& name) {
    const Fd netns(::open(("/run/netns/" + name).c_str(), O_RDONLY | O_CLOEXEC));
    if (!netns)
        throw_errno("open network namespace " + name);
    if (::setns(netns.get(), CLONE_NEWNET) < 0)
        throw_errno("enter network namespace " + name);
}

} // namespace pfn
