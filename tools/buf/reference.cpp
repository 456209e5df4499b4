// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
#include "tools/buf/reference.hpp"

#include "tools/cli.hpp"
#include "tools/devices.hpp"

#include <poll.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <string_view>
#include <system_error>

namespace pfn::tools {
namespace {

/// All of @p text as a number that is not negative, or -1.
int number(std::string_view text) {
    int value = -1;
    const char* end = text.data() + text.size();
    // NOLINTNEXTLINE(bugprone-suspicious-stringview-data-usage): it is given the end, too
    const auto [rest, error] = std::from_chars(text.data(), end, value);
    return error == std::errc{} && rest == end && value >= 0 ? value : -1;
}

Fd take_descriptor(const Reference& reference, const std::string& name) {
    const Fd process = open_process(reference.pid);
    const auto fd = static_cast<int>(::syscall(SYS_pidfd_getfd, process.get(), reference.fd, 0));
    if (fd >= 0)
        return Fd(fd);
    switch (errno) {
    case EBADF:
        throw Problem(FAILED, name + ": the process has no such descriptor; see pfn-buf list");
    case EPERM:
        throw Problem(NOT_HERE, name + ": no permission: be root, or the user that has started "
                                       "the process");
    default:
        throw Problem(FAILED, name + ": " + std::generic_category().message(errno));
    }
}

} // namespace

std::string to_string(const Reference& reference) {
    return std::to_string(reference.pid) + ":" + std::to_string(reference.fd);
}

Reference parse_reference(const std::string& text) {
    constexpr std::string_view PROC = "/proc/";
    constexpr std::string_view BETWEEN = "/fd/";
    std::string_view rest = text;
    if (const int own = number(rest); own >= 0)
        return {.pid = ::getpid(), .fd = own};
    std::string_view separator = ":";
    if (rest.starts_with(PROC)) {
        rest.remove_prefix(PROC.size());
        separator = BETWEEN;
    }
    Reference reference;
    if (const auto at = rest.find(separator); at != std::string_view::npos) {
        reference.pid = number(rest.substr(0, at));
        reference.fd = number(rest.substr(at + separator.size()));
    }
    if (reference.pid <= 0 || reference.fd < 0)
        throw Problem(USAGE, "'" + text +
                                 "' names no buffer: PID:FD does, as pfn-buf alloc "
                                 "prints it");
    return reference;
}

Fd open_process(pid_t pid) {
    Fd fd(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));
    // One that has ended, but has not been waited for yet, can be opened still.
    pollfd ended{.fd = fd.get(), .events = POLLIN, .revents = 0};
    if (fd && ::poll(&ended, 1, 0) == 0)
        return fd;
    if (fd || errno == ESRCH)
        throw Problem(FAILED, "there is no process " + std::to_string(pid) + " (any more)");
    throw Problem(FAILED,
                  "process " + std::to_string(pid) + ": " + std::generic_category().message(errno));
}

Buffer open_buffer(const std::string& name) {
    Fd fd = take_descriptor(parse_reference(name), name);
    int refused = ENOENT;
    std::string last = VramDevice::DEFAULT_PATH;
    for (const std::string& node : vram_nodes()) {
        try {
            VramDevice device(node);
            const std::uint64_t size = device.buf_info(fd.get()).size;
            return {name, node, std::move(device), DmaBuf(std::move(fd), size)};
        } catch (const std::system_error& e) {
            const int error = e.code().value();
            if (error == EINVAL)
                throw Problem(FAILED, name + ": this descriptor is not a buffer of pfn_vram");
            // Of another device, or its own has been unplugged; see what the others say.
            refused = error;
            last = node;
        }
    }
    if (refused == EXDEV)
        throw Problem(NOT_HERE, name + ": the device that the buffer is of is not in /dev");
    throw cannot_open(last, refused);
}

} // namespace pfn::tools
