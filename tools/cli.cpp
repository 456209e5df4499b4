// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
#include "tools/cli.hpp"

#include <grp.h>
#include <sys/stat.h>

#include <cerrno>
#include <cstdio>
#include <print>
#include <system_error>

namespace pfn::tools {
namespace {

/// A full disk or a closed pipe is the reader's loss, but it must not look like success.
Problem cannot_write(int err) {
    return {FAILED, "writing to stdout: " + std::generic_category().message(err)};
}

/// Write what is buffered.
Status flush(Status status) {
    if (std::fflush(stdout) == 0 && std::ferror(stdout) == 0)
        return status;
    throw cannot_write(errno);
}

Status parse_and_run(const Tool& tool, int argc, const char* const* argv) {
    CLI::App app(tool.purpose, tool.name);
    app.set_version_flag("--version", std::string(tool.name) + " " + version());
    app.get_formatter()->column_width(34);
    tool.add_options(app);
    try {
        app.parse(argc, argv);
    } catch (const CLI::CallForHelp&) {
        std::print("{}", app.help());
        return flush(FINE);
    } catch (const CLI::CallForVersion& e) {
        std::println("{}", e.what());
        return flush(FINE);
    } catch (const CLI::ParseError& e) {
        throw Problem(USAGE, std::string(e.what()) + " (see --help)");
    }
    try {
        return flush(tool.run());
    } catch (const std::system_error&) {
        const int err = errno;
        if (std::ferror(stdout) != 0) // std::println() says EIO whatever it was
            throw cannot_write(err);
        throw;
    }
}

} // namespace

const char* version() {
    return UMEM_PFN_VERSION;
}

int run_tool(const Tool& tool, int argc, const char* const* argv) {
    try {
        return parse_and_run(tool, argc, argv);
    } catch (const Problem& e) {
        (void)std::fprintf(stderr, "%s: %s\n", tool.name, e.what());
        return e.status();
    } catch (const std::exception& e) {
        (void)std::fprintf(stderr, "%s: %s\n", tool.name, e.what());
        return FAILED;
    }
}

std::string or_group_of(const std::string& path) {
    struct stat node{};
    if (::stat(path.c_str(), &node) != 0 || (node.st_mode & S_IWGRP) == 0 || node.st_gid == 0)
        return {};
    const group* entry = ::getgrgid(node.st_gid);
    return "; or be in the group " + (entry ? entry->gr_name : std::to_string(node.st_gid));
}

Problem cannot_open(const std::string& path, int err) {
    switch (err) {
    case EACCES:
    case EPERM:
        return {NOT_HERE, path + ": no permission: be root" + or_group_of(path)};
    case ENOENT:
        return {NOT_HERE, path + ": there is no such device; is its module loaded? See pfn-info"};
    case ENODEV:
    case ENXIO:
        return {NOT_HERE, path + ": the device has been unplugged"};
    default:
        return {FAILED, path + ": " + std::generic_category().message(err)};
    }
}

void print(const Json& document) {
    // What is no UTF-8, in a name of somebody else's device, must not end a report.
    std::println("{}", document.dump(2, ' ', false, Json::error_handler_t::replace));
}

} // namespace pfn::tools
