// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
//
// Processes and what they say to each other.
#pragma once

#include "common/error.hpp"
#include "common/fd.hpp"

#include <sys/types.h>

#include <chrono>
#include <cstddef>
#include <functional>
#include <span>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

namespace pfn {

/// One end of a conversation between two processes. Messages arrive whole and
/// in order; the two sides must agree on what comes next.
class Channel {
  public:
    explicit Channel(Fd fd) : fd_(std::move(fd)) {}
    /// Two connected ends, closed on exec.
    static std::pair<Channel, Channel> make_pair();

    [[nodiscard]] int fd() const { return fd_.get(); }
    void close() noexcept { fd_.close(); }

    /// Throws std::system_error; EPIPE if the other side is gone.
    void send_bytes(std::span<const std::byte> message) const;
    /// The next message. Throws Timeout; EPIPE if the other side is gone.
    [[nodiscard]] std::vector<std::byte> recv_bytes(std::chrono::milliseconds timeout) const;

    template<typename T>
    void send(const T& value) const {
        static_assert(std::is_trivially_copyable_v<T>);
        send_bytes(std::as_bytes(std::span(&value, 1)));
    }
    /// The next message, which must be a T; EPROTO if its size says otherwise.
    template<typename T>
    [[nodiscard]] T recv(std::chrono::milliseconds timeout = std::chrono::seconds(60)) const {
        static_assert(std::is_trivially_copyable_v<T>);
        T value{};
        recv_into(std::as_writable_bytes(std::span(&value, 1)), timeout);
        return value;
    }

    /// Is there a message, or the end, to be received without waiting?
    [[nodiscard]] bool ready() const;

  private:
    void recv_into(std::span<std::byte> out, std::chrono::milliseconds timeout) const;
    Fd fd_;
};

/// How a process has ended.
struct Exit {
    int status = 0; ///< exit status, if it exited
    int signal = 0; ///< signal that killed it, or 0
    bool operator==(const Exit&) const = default;
};

/// A child process. Killed and reaped at the end, if it still runs.
class Child {
  public:
    /// Fork and run @p body in the child, which ends with its return value as
    /// exit status, or with 125 and a line on stderr if it throws. Nothing of
    /// the parent's objects is destroyed in the child.
    static Child fork(const std::function<int(Channel&)>& body);
    Child(Child&& other) noexcept;
    Child& operator=(Child&&) = delete;
    ~Child();

    [[nodiscard]] pid_t pid() const { return pid_; }
    /// The parent's end of the conversation.
    [[nodiscard]] Channel& channel() { return channel_; }
    void kill(int signal) const;
    /// Has it ended, or does it within @p timeout?
    [[nodiscard]] bool ends_within(std::chrono::milliseconds timeout) const;
    /// Wait for the end. Throws Timeout.
    Exit wait(std::chrono::milliseconds timeout);

  private:
    Child(pid_t pid, Fd pidfd, Channel channel);
    pid_t pid_;
    Fd pidfd_;
    Channel channel_;
};

/// Run a program, found in PATH, and wait for it. Its output goes where this
/// process's goes. Throws Timeout (the program is killed then).
Exit run_program(const std::vector<std::string>& argv, std::chrono::milliseconds timeout);

/// Enter the network namespace @p name, a file in /run/netns.
void enter_netns(const std::string& name);

} // namespace pfn
