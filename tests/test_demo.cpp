// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
//
// The parts of the demo that need no guest.
#include "common/vram.hpp"
#include "pfn_demo/options.hpp"
#include "pfn_demo/traffic.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <initializer_list>
#include <vector>

namespace pfn::demo {
namespace {

Parsed parse(std::initializer_list<const char*> arguments) {
    std::vector<const char*> argv{"pfn_demo"};
    argv.insert(argv.end(), arguments);
    return parse_options(static_cast<int>(argv.size()), argv.data());
}

/// One line that says what is wrong, and exit status 2.
void expect_refused(std::initializer_list<const char*> arguments) {
    const Parsed parsed = parse(arguments);
    EXPECT_FALSE(parsed.options);
    EXPECT_EQ(2, parsed.status);
    EXPECT_TRUE(parsed.message.starts_with("pfn_demo: ")) << parsed.message;
    EXPECT_EQ(1, std::ranges::count(parsed.message, '\n')) << parsed.message;
}

TEST(DemoOptions, Defaults) {
    const Parsed parsed = parse({});
    ASSERT_TRUE(parsed.options);
    EXPECT_EQ(5U, parsed.options->seconds);
    EXPECT_EQ(4U << 20U, parsed.options->size);
    EXPECT_EQ("/dev/pfn_vram0", parsed.options->device);
    EXPECT_FALSE(parsed.options->quiet);
}

TEST(DemoOptions, AllOfThem) {
    const Parsed parsed =
        parse({"--seconds", "9", "--size=8MiB", "--device", "/dev/pfn_vram3", "--quiet"});
    ASSERT_TRUE(parsed.options);
    EXPECT_EQ(9U, parsed.options->seconds);
    EXPECT_EQ(8U << 20U, parsed.options->size);
    EXPECT_EQ("/dev/pfn_vram3", parsed.options->device);
    EXPECT_TRUE(parsed.options->quiet);
}

TEST(DemoOptions, SizesWithUnits) {
    EXPECT_EQ(1U << 20U, parse({"--size", "1M"}).options->size);
    EXPECT_EQ(128U << 10U, parse({"--size", "128 KiB"}).options->size);
    EXPECT_EQ(65536U, parse({"--size", "65536"}).options->size);
}

TEST(DemoOptions, HelpIsNoFailure) {
    const Parsed parsed = parse({"--help"});
    EXPECT_FALSE(parsed.options);
    EXPECT_EQ(0, parsed.status);
    EXPECT_NE(std::string::npos, parsed.message.find("--seconds"));
}

TEST(DemoOptions, BadInputIsOneClearLine) {
    expect_refused({"--seconds", "0"});
    expect_refused({"--seconds", "soon"});
    expect_refused({"--seconds", "-1"});
    expect_refused({"--size", "1"});
    expect_refused({"--size", "2GiB"});
    expect_refused({"--size", "100001"});
    expect_refused({"--size", "4 parsecs"});
    expect_refused({"--frobnicate"});
    expect_refused({"surplus"});
}

TEST(DemoLayout, PiecesCoverTheAreaExactly) {
    for (const std::uint64_t size :
         {std::uint64_t{64} << 10U, std::uint64_t{132} << 10U, std::uint64_t{4} << 20U}) {
        const Layout layout{size};
        std::uint64_t end = 0;
        for (std::size_t i = 0; i < layout.pieces(); ++i) {
            EXPECT_EQ(end, layout.offset(i));
            EXPECT_GT(layout.length(i), 0U);
            end += layout.length(i);
        }
        EXPECT_EQ(layout.area(), end);
        EXPECT_EQ(layout.counter(), end);
        EXPECT_EQ(size, layout.counter() + page_size());
    }
}

TEST(DemoLayout, SeedsDiffer) {
    EXPECT_NE(pattern_seed(0, 1, 2), pattern_seed(1, 1, 2));
    EXPECT_NE(pattern_seed(0, 1, 2), pattern_seed(0, 2, 2));
    EXPECT_NE(pattern_seed(0, 1, 2), pattern_seed(0, 1, 3));
}

} // namespace
} // namespace pfn::demo
