// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
#include "pfn_demo/options.hpp"

#include "common/vram.hpp"

#include <CLI/CLI.hpp>

namespace pfn::demo {
namespace {

constexpr std::uint64_t MIN_SIZE = 64U << 10U;
constexpr std::uint64_t MAX_SIZE = 1U << 30U;

/// "" if @p size can be a buffer's size, else what is wrong with it.
std::string check_size(std::uint64_t size) {
    if (size < MIN_SIZE || size > MAX_SIZE)
        return "must be between 64KiB and 1GiB";
    if (size % page_size() != 0)
        return "must be a multiple of the page size, " + std::to_string(page_size());
    return {};
}

} // namespace

Parsed parse_options(int argc, const char* const* argv) {
    Options options;
    CLI::App app("A remote peer uses \"GPU\" memory over RDMA while that memory moves.",
                 "pfn_demo");
    app.add_option("--seconds", options.seconds, "how long to move memory under traffic")
        ->check(CLI::Range(1, 3600))
        ->capture_default_str();
    // AsSizeValue(false): 4MiB and 4M are both 4 * 1024 * 1024
    app.add_option("--size", options.size, "size of each buffer, for example 8MiB (default 4MiB)")
        ->transform(CLI::AsSizeValue(false));
    app.add_option("--device", options.device, "device that has the memory")->capture_default_str();
    app.add_flag("--quiet", options.quiet, "print the verdict only");
    try {
        app.parse(argc, argv);
    } catch (const CLI::CallForHelp&) {
        return {.options = std::nullopt, .message = app.help(), .status = 0};
    } catch (const CLI::ParseError& e) {
        return {.options = std::nullopt,
                .message = std::string("pfn_demo: ") + e.what() + "\n",
                .status = 2};
    }
    if (const std::string wrong = check_size(options.size); !wrong.empty())
        return {
            .options = std::nullopt, .message = "pfn_demo: --size " + wrong + "\n", .status = 2};
    return {.options = options, .message = {}, .status = 0};
}

} // namespace pfn::demo
