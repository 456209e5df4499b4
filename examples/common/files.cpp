// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
#include "common/files.hpp"

#include "common/error.hpp"

#include <fstream>
#include <iterator>

namespace pfn {

std::string read_file(const std::string& path) {
    std::ifstream in(path);
    if (!in)
        throw_errno("read " + path);
    return {std::istreambuf_iterator<char>(in), {}};
}

void write_file(const std::string& path, const std::string& text) {
    std::ofstream out(path);
    out << text << std::flush;
    if (!out)
        throw_errno("write to " + path);
}

} // namespace pfn
