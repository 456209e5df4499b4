// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
//
// The perftest overlay: every program on every kind of memory, with moves; that what
// it verifies can be wrong; and options that make no sense.
#include "perftest_pair.hpp"

#include "common/vram.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <ostream>
#include <regex>
#include <string>
#include <vector>

namespace pfn {
namespace {

using perf::Options;
using perf::PerftestEnds;
using perf::run_alone;
using perf::run_perftest;

struct MemoryCase {
    const char* name;
    Options server;
    Options client;
    friend void PrintTo(const MemoryCase& c, std::ostream* out) { *out << c.name; }
};

/// What every program is run on.
const std::vector<MemoryCase> MEMORY{
    {.name = "VramThatMovesAndHeap",
     .server = {"--use_pfn_vram", "--move_interval_ms=1"},
     .client = {"--use_dmabuf_heap"}},
    {.name = "UdmabufAndFragments",
     .server = {"--use_udmabuf"},
     .client = {"--use_pfn_vram=0", "--pfn_placement=system", "--pfn_chunk=4096"}},
};

/// What needs no more than one program.
const std::vector<MemoryCase> MORE_MEMORY{
    {.name = "Host", .server = {}, .client = {}},
    {.name = "OnDemandPaging", .server = {"--odp"}, .client = {}},
    {.name = "DeviceByPath", .server = {"--use_pfn_vram=/dev/pfn_vram0"}, .client = {}},
    {.name = "Pinned", .server = {"--use_pfn_vram", "--pfn_mode=pinned"}, .client = {}},
    {.name = "Revocable", .server = {"--use_pfn_vram", "--pfn_mode=revocable"}, .client = {}},
    {.name = "HeapByName", .server = {"--use_dmabuf_heap=system"}, .client = {}},
};

const std::vector<std::string> PROGRAMS{"ib_write_bw",  "ib_write_lat", "ib_read_bw",
                                        "ib_read_lat",  "ib_send_bw",   "ib_send_lat",
                                        "ib_atomic_bw", "ib_atomic_lat"};

/// Which side of a test verifies what has arrived; in a ping-pong both do.
bool server_verifies(const std::string& program) {
    return !program.starts_with("ib_read");
}
bool client_verifies(const std::string& program) {
    return program.starts_with("ib_read") || program == "ib_write_lat" || program == "ib_send_lat";
}

void expect_verified(bool expected, const perf::PerftestEnd& end) {
    EXPECT_EQ(expected, end.output.contains(" verify_buffer: ")) << end.output;
}

/// A run that is as short as it gets, of messages of several pages.
PerftestEnds run(const std::string& program, Options server, const Options& client = {}) {
    Options both{"-n", "20", "--verify_buffer"};
    if (!program.starts_with("ib_atomic"))
        both.insert(both.end(), {"-s", "10000"});
    return run_perftest(
        {.program = program, .both = both, .server = std::move(server), .client = client});
}

std::uint64_t moves(const std::string& output) {
    std::smatch match;
    if (!std::regex_search(output, match, std::regex(" pfn_vram: moved ([0-9]+) times\n")))
        return 0;
    return std::stoull(match[1]);
}

void expect_works(const std::string& program, const MemoryCase& memory) {
    SCOPED_TRACE(program);
    const PerftestEnds ends = run(program, memory.server, memory.client);
    EXPECT_TRUE(ends.good()) << ends.server.output << ends.client.output;
    expect_verified(server_verifies(program), ends.server);
    expect_verified(client_verifies(program), ends.client);
}

class Memory : public testing::TestWithParam<MemoryCase> {};

TEST_P(Memory, EveryProgram) {
    for (const std::string& program : PROGRAMS)
        expect_works(program, GetParam());
}

INSTANTIATE_TEST_SUITE_P(Perftest, Memory, testing::ValuesIn(MEMORY),
                         [](const auto& param) { return std::string(param.param.name); });

class MoreMemory : public testing::TestWithParam<MemoryCase> {};

TEST_P(MoreMemory, OneProgram) {
    expect_works("ib_write_bw", GetParam());
}

INSTANTIATE_TEST_SUITE_P(Perftest, MoreMemory, testing::ValuesIn(MORE_MEMORY),
                         [](const auto& param) { return std::string(param.param.name); });

TEST(Perftest, BothSidesMayHaveDeviceMemoryThatMoves) {
    // Long enough for a mover to get its turn, however slow the machine.
    const Options moving{"--use_pfn_vram", "--move_interval_ms=1", "--pfn_chunk=4096"};
    const PerftestEnds ends = run_perftest(
        {.program = "ib_write_bw",
         .both = {"-n", "200", "-s", "20000", "--verify_buffer", "-b", "-q", "2", "--mr_per_qp"},
         .server = moving,
         .client = moving});
    EXPECT_TRUE(ends.good()) << ends.server.output << ends.client.output;
    EXPECT_LT(0U, moves(ends.server.output)) << ends.server.output;
    EXPECT_LT(0U, moves(ends.client.output)) << ends.client.output;
    expect_verified(true, ends.server);
    expect_verified(true, ends.client);
}

TEST(Perftest, PlacementIsWhereTheMemoryComesFrom) {
    // When there is no VRAM left, only system memory is to be had.
    const VramDevice vram;
    const DmaBuf all = vram.alloc({.size = vram.info().vram_free, .chunk = page_size()});
    const PerftestEnds in_vram = run("ib_write_bw", {"--use_pfn_vram"});
    EXPECT_FALSE(in_vram.server.good());
    EXPECT_TRUE(in_vram.server.output.contains("No space left on device")) << in_vram.server.output;
    const PerftestEnds in_system = run("ib_write_bw", {"--use_pfn_vram", "--pfn_placement=system"});
    EXPECT_TRUE(in_system.good()) << in_system.server.output;
}

TEST(Perftest, AMoverThatCannotGoOnIsAFailure) {
    const VramDevice vram;
    const DmaBuf all = vram.alloc({.size = vram.info().vram_free, .chunk = page_size()});
    // Long enough for a mover to get its turn, however slow the machine.
    const PerftestEnds ends = run_perftest(
        {.program = "ib_write_bw",
         .both = {"-n", "500", "-s", "20000"},
         .server = {"--use_pfn_vram", "--pfn_placement=system", "--move_interval_ms=1"},
         .client = {}});
    EXPECT_EQ((Exit{.status = 1, .signal = 0}), ends.server.exit) << ends.server.output;
    EXPECT_TRUE(ends.server.output.contains(" pfn_vram: after 0 moves: No space left on device\n"))
        << ends.server.output;
}

TEST(Perftest, VerifyingFindsWhatIsWrong) {
    // The client's messages have no pattern, and are not what the server expects.
    const PerftestEnds ends = run_perftest({.program = "ib_write_bw",
                                            .both = {"-n", "20", "-s", "10000"},
                                            .server = {"--use_pfn_vram", "--verify_buffer"},
                                            .client = {}});
    EXPECT_TRUE(ends.client.good()) << ends.client.output;
    EXPECT_EQ((Exit{.status = 1, .signal = 0}), ends.server.exit) << ends.server.output;
    EXPECT_TRUE(std::regex_search(ends.server.output,
                                  std::regex(" verify_buffer: byte [0-9]+ of the message at")))
        << ends.server.output;
}

TEST(Perftest, VerifyingFindsThatNothingHasArrived) {
    const PerftestEnds ends = run_perftest({.program = "ib_read_bw",
                                            .both = {"-n", "20", "-s", "10000"},
                                            .server = {"--use_pfn_vram"},
                                            .client = {"--verify_buffer"}});
    EXPECT_TRUE(ends.server.good()) << ends.server.output;
    EXPECT_FALSE(ends.client.good());
    EXPECT_TRUE(ends.client.output.contains(" verify_buffer: ")) << ends.client.output;
}

struct BadCase {
    const char* name;
    Options options;
    std::string message;
    friend void PrintTo(const BadCase& c, std::ostream* out) { *out << c.name; }
};

class Refused : public testing::TestWithParam<BadCase> {};

TEST_P(Refused, WithOneLine) {
    const auto end = run_alone("ib_send_bw", GetParam().options);
    EXPECT_EQ((Exit{.status = 1, .signal = 0}), end.exit);
    // The second line is perftest's own, whatever is wrong.
    EXPECT_EQ(" " + GetParam().message + "\n Parser function exited with Error\n", end.output);
}

const std::vector<BadCase> BAD{
    {"NoDevice", {"--use_pfn_vram=7"}, "/dev/pfn_vram7: No such file or directory"},
    {"NoHeap", {"--use_dmabuf_heap=none"}, "/dev/dma_heap/none: No such file or directory"},
    {"TwoTypes", {"--use_udmabuf", "--use_pfn_vram"}, "Can't use multiple memory types"},
    {"TypeOfPerftest", {"--use_udmabuf", "--mmap=/x"}, "Can't use multiple memory types"},
    {"Placement",
     {"--use_pfn_vram", "--pfn_placement=disk"},
     "Invalid value for --pfn_placement: disk"},
    {"Mode", {"--use_pfn_vram", "--pfn_mode=any"}, "Invalid value for --pfn_mode: any"},
    {"Chunk", {"--use_pfn_vram", "--pfn_chunk=12288"}, "Invalid value for --pfn_chunk: 12288"},
    {"SmallChunk", {"--use_pfn_vram", "--pfn_chunk=64"}, "Invalid value for --pfn_chunk: 64"},
    {"NoInterval",
     {"--use_pfn_vram", "--move_interval_ms=0"},
     "Invalid value for --move_interval_ms: 0"},
    {"NoNumber",
     {"--use_pfn_vram", "--move_interval_ms=-1"},
     "Invalid value for --move_interval_ms: -1"},
    {"MovesPinned",
     {"--use_pfn_vram", "--move_interval_ms=1", "--pfn_mode=pinned"},
     "--move_interval_ms needs --pfn_mode=dynamic"},
    {"MovesHeap",
     {"--use_dmabuf_heap", "--move_interval_ms=1"},
     "--pfn_placement, --pfn_chunk, --pfn_mode and --move_interval_ms need --use_pfn_vram"},
    {"ModeOfHost",
     {"--pfn_mode=pinned"},
     "--pfn_placement, --pfn_chunk, --pfn_mode and --move_interval_ms need --use_pfn_vram"},
    {"Odp", {"--use_pfn_vram", "--odp"}, "a dma-buf can't be an ODP MR"},
    {"VerifyDatagrams",
     {"--verify_buffer", "-c", "UD"},
     "--verify_buffer is for the connection types RC and UC"},
    {"VerifyAll", {"--verify_buffer", "-a"}, "--verify_buffer is for one message size"},
};

INSTANTIATE_TEST_SUITE_P(Perftest, Refused, testing::ValuesIn(BAD),
                         [](const auto& param) { return std::string(param.param.name); });

TEST(Perftest, HelpHasAllOptions) {
    const auto help = run_alone("ib_read_lat", {"--help"});
    for (const char* option : {"use_pfn_vram", "use_dmabuf_heap", "use_udmabuf", "pfn_placement",
                               "pfn_chunk", "pfn_mode", "move_interval_ms", "verify_buffer"}) {
        EXPECT_TRUE(help.output.contains(std::string("--") + option)) << option;
    }
}

} // namespace
} // namespace pfn
