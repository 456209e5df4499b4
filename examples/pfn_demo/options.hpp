// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
#pragma once

#include <cstdint>
#include <optional>
#include <string>

namespace pfn::demo {

/// What the user can choose.
struct Options {
    unsigned seconds = 5;                  ///< of traffic while the memory moves
    std::uint64_t size = 4U << 20U;        ///< bytes of each buffer
    std::string device = "/dev/pfn_vram0"; ///< the exporter
    bool quiet = false;                    ///< print the verdict only
};

/// Either options, or the program is over: print `message` and exit.
struct Parsed {
    std::optional<Options> options;
    std::string message; ///< help text, or one line that says what is wrong
    int status = 0;      ///< exit status if there are no options
};

/// Parse the command line. Prints nothing.
Parsed parse_options(int argc, const char* const* argv);

} // namespace pfn::demo
