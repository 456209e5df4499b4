// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
#include "tools/buf/contents.hpp"

#include "common/error.hpp"
#include "common/pattern.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <format>
#include <print>
#include <span>
#include <string_view>
#include <vector>

namespace pfn::tools {
namespace {

/// Memory that was revoked while it is being looked at: a SIGBUS, which is an answer
/// and not a crash.
void on_sigbus(int /*signal*/) {
    constexpr std::string_view LINE = "pfn-buf: the buffer has been revoked meanwhile, or its "
                                      "device unplugged\n";
    (void)!::write(STDERR_FILENO, LINE.data(), LINE.size());
    ::_exit(FAILED);
}

/// The bytes of @p part. Throws Problem if there are none.
std::span<std::byte> select(const Buffer& buffer, const Part& part, const Mapping& mapping) {
    const std::uint64_t size = buffer.memory.size();
    if (part.offset >= size || part.length.value_or(0) > size - part.offset)
        throw Problem(USAGE, buffer.name + ": it has " + std::to_string(size) +
                                 " bytes: --offset and --length go beyond its end");
    return mapping.bytes().subspan(part.offset, part.length.value_or(size - part.offset));
}

Mapping map(const Buffer& buffer, int prot) {
    if ((buffer.info().flags & PFN_VRAM_BUF_REVOKED) != 0)
        throw Problem(FAILED, buffer.name + ": it has been revoked; pfn-buf restore gives it "
                                            "memory again");
    ::signal(SIGBUS, on_sigbus);
    try {
        return {buffer.memory.fd(), buffer.memory.size(), prot};
    } catch (const std::system_error& e) {
        if (e.code().value() == EACCES)
            throw Problem(FAILED, buffer.name + ": it was allocated with --read-only");
        throw;
    }
}

/// Read @p file into @p out, until either ends.
std::uint64_t fill_from(std::span<std::byte> out, const std::string& file) {
    const Fd opened(file == "-" ? ::dup(STDIN_FILENO) : ::open(file.c_str(), O_RDONLY | O_CLOEXEC));
    if (!opened)
        throw Problem(FAILED, file + ": " + std::generic_category().message(errno));
    std::uint64_t done = 0;
    while (done < out.size()) {
        const auto rest = out.subspan(done);
        const ssize_t n = ::read(opened.get(), rest.data(), rest.size());
        if (n < 0)
            throw Problem(FAILED, file + ": " + std::generic_category().message(errno));
        if (n == 0)
            break;
        done += static_cast<std::uint64_t>(n);
    }
    return done;
}

/// A line of a dump: place, 16 bytes, and what of them can be printed.
std::string line(std::uint64_t offset, std::span<const std::byte> bytes) {
    std::string hex;
    std::string text;
    for (const std::byte byte : bytes) {
        const auto value = std::to_integer<unsigned>(byte);
        hex += std::format("{}{:02x}", hex.size() == 24 ? "  " : " ", value);
        text += value >= 0x20 && value < 0x7f ? static_cast<char>(value) : '.';
    }
    return std::format("{:08x} {:<50} |{}|", offset, hex, text);
}

constexpr std::size_t LINE = 16;
constexpr std::size_t PIECE = 65536;

/// Call @p use with a copy of each piece: device memory is slow to read byte by byte.
template<typename Use>
void for_each_piece(std::span<const std::byte> bytes, Use use) {
    std::vector<std::byte> copy;
    for (std::size_t done = 0; done < bytes.size(); done += copy.size()) {
        const auto piece = bytes.subspan(done, std::min(PIECE, bytes.size() - done));
        copy.assign(piece.begin(), piece.end());
        use(done, std::span<const std::byte>(copy));
    }
}

void dump_lines(std::uint64_t offset, std::span<const std::byte> piece) {
    for (std::size_t i = 0; i < piece.size(); i += LINE)
        std::println("{}", line(offset + i, piece.subspan(i, std::min(LINE, piece.size() - i))));
}

} // namespace

std::uint64_t fill(const Buffer& buffer, const Part& part, const Filling& filling) {
    const Mapping mapping = map(buffer, PROT_READ | PROT_WRITE);
    const auto out = select(buffer, part, mapping);
    if (!filling.file.empty())
        return fill_from(out, filling.file);
    if (filling.seed)
        fill_pattern(out, *filling.seed);
    else
        std::memset(out.data(), static_cast<int>(filling.byte.value_or(0)), out.size());
    return out.size();
}

void dump(const Buffer& buffer, const Part& part, bool raw) {
    const Mapping mapping = map(buffer, PROT_READ);
    for_each_piece(select(buffer, part, mapping),
                   [&](std::size_t done, std::span<const std::byte> piece) {
                       if (raw)
                           std::fwrite(piece.data(), 1, piece.size(), stdout);
                       else
                           dump_lines(part.offset + done, piece);
                   });
}

Json dump_json(const Buffer& buffer, const Part& part) {
    const Mapping mapping = map(buffer, PROT_READ);
    const auto mapped = select(buffer, part, mapping);
    const std::vector<std::byte> bytes(mapped.begin(), mapped.end());
    std::string hex;
    hex.reserve(2 * bytes.size());
    for (const std::byte byte : bytes)
        hex += std::format("{:02x}", std::to_integer<unsigned>(byte));
    return {{"buffer", buffer.name},
            {"offset", part.offset},
            {"length", bytes.size()},
            {"checksum", std::format("{:016x}", checksum(bytes))},
            {"hex", std::move(hex)}};
}

} // namespace pfn::tools
