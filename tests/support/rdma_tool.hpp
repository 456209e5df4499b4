// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
//
// What iproute2's rdma shows of a device.
#pragma once

#include "common/error.hpp"

#include <nlohmann/json.hpp>
#include <sys/stat.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <memory>
#include <string>

namespace pfn {

using Json = nlohmann::json;

/// What `rdma -j ARGUMENTS` prints. Throws if it does not start or that is no JSON.
inline Json rdma(const std::string& arguments) {
    struct Close {
        void operator()(FILE* pipe) const noexcept { ::pclose(pipe); }
    };
    const std::string command = "rdma -j " + arguments;
    const std::unique_ptr<FILE, Close> pipe(::popen(command.c_str(), "re"));
    if (!pipe)
        throw_errno(command);
    std::string text;
    std::array<char, 4096> piece{};
    while (const std::size_t n = std::fread(piece.data(), 1, piece.size(), pipe.get()))
        text.append(piece.data(), n);
    return Json::parse(text);
}

/// How many MRs the kernel knows, whoever's.
inline std::size_t mr_count() {
    return rdma("resource show mr").size();
}

/// By what rdma names the dma-buf @p fd: its inode.
inline std::uint64_t inode(int fd) {
    struct stat st{};
    if (::fstat(fd, &st) < 0)
        throw_errno("fstat");
    return st.st_ino;
}

} // namespace pfn
