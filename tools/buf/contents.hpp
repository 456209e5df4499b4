// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
//
// The bytes of a buffer, through a mapping of the CPU.
#pragma once

#include "tools/buf/reference.hpp"
#include "tools/cli.hpp"

#include <cstdint>
#include <optional>
#include <string>

namespace pfn::tools {

/// A part of a buffer.
struct Part {
    std::uint64_t offset = 0;
    std::optional<std::uint64_t> length; ///< bytes; nothing: up to the end
};

/// What to fill with: exactly one of them.
struct Filling {
    std::optional<unsigned> byte;      ///< the same everywhere
    std::optional<std::uint64_t> seed; ///< the pattern of examples/common/pattern.hpp
    std::string file;                  ///< the contents of a file, "-" for stdin
};

/// Returns the number of bytes written: of a file, as many as there are. Throws
/// Problem.
std::uint64_t fill(const Buffer& buffer, const Part& part, const Filling& filling);

/// As a hexadecimal dump, or as they are with @p raw, to stdout. Throws Problem.
void dump(const Buffer& buffer, const Part& part, bool raw);

/// For programs: offset, length, checksum, and all bytes as hexadecimal digits.
Json dump_json(const Buffer& buffer, const Part& part);

} // namespace pfn::tools
