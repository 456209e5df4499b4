// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
//
// How the tools behave towards whoever runs them: exit status, errors in one line,
// JSON.
#pragma once

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include <functional>
#include <stdexcept>
#include <string>

namespace pfn::tools {

/// Keeps keys in the order in which they were written.
using Json = nlohmann::ordered_json;

/// What every tool exits with. Part of what the manual pages promise.
enum Status : int {
    FINE = 0,
    FAILED = 1,   ///< something is wrong, or was refused
    USAGE = 2,    ///< wrong arguments
    NOT_HERE = 3, ///< no device, or no permission: nothing was done
};

/// The end of a tool. what() is one line for a person: what is wrong and, if that
/// can be known, what to do.
class Problem : public std::runtime_error {
  public:
    Problem(Status status, const std::string& line) : std::runtime_error(line), status_(status) {}
    [[nodiscard]] Status status() const { return status_; }

  private:
    Status status_;
};

/// Version of the tools.
const char* version();

/// What a tool is.
struct Tool {
    const char* name;    ///< "pfn-info"
    const char* purpose; ///< for --help
    std::function<void(CLI::App&)> add_options;
    std::function<Status()> run; ///< once the command line has been parsed
};

/// Parse the command line, run the tool, and return the exit status. Whatever it throws
/// is said on stderr in a line; so is a failure to write to stdout.
int run_tool(const Tool& tool, int argc, const char* const* argv);

/// "PATH: there is no such device; is its module loaded?", or what else an errno of
/// opening a device's node means.
Problem cannot_open(const std::string& path, int err);

/// Who besides root may open @p path: "", or "; or be in the group render".
std::string or_group_of(const std::string& path);

/// Print a document, and a newline.
void print(const Json& document);

} // namespace pfn::tools
