// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
//
// The shared library's own promises; needs no device.
#include "common/meminfo.hpp"
#include "common/pattern.hpp"
#include "common/process.hpp"
#include "common/text.hpp"
#include "common/vram.hpp"

#include <gtest/gtest.h>

#include <array>
#include <csignal>
#include <cstddef>
#include <vector>

#include <fcntl.h>
#include <unistd.h>

namespace pfn {
namespace {

using namespace std::chrono_literals;

std::vector<std::byte> pattern(std::size_t size, std::uint64_t seed, std::uint64_t position = 0) {
    std::vector<std::byte> data(size);
    fill_pattern(data, seed, position);
    return data;
}

TEST(Pattern, MatchesItself) {
    EXPECT_EQ(std::nullopt, find_mismatch(pattern(4099, 7), 7));
}

TEST(Pattern, PiecesAtOddPositionsMakeTheWhole) {
    const auto whole = pattern(100, 3);
    for (std::size_t from = 0; from < 20; ++from) {
        for (std::size_t to = from; to < 40; ++to) {
            const auto piece = pattern(to - from, 3, from);
            EXPECT_TRUE(std::equal(piece.begin(), piece.end(), whole.begin() + from))
                << from << " to " << to;
        }
    }
}

TEST(Pattern, EveryWrongByteIsFoundWhereItIs) {
    auto data = pattern(67, 9, 5);
    for (std::size_t i = 0; i < data.size(); ++i) {
        data[i] ^= std::byte{1};
        EXPECT_EQ(i, find_mismatch(data, 9, 5));
        data[i] ^= std::byte{1};
    }
}

TEST(Pattern, OtherSeedIsAMismatch) {
    EXPECT_EQ(0U, find_mismatch(pattern(64, 1), 2));
}

TEST(Pattern, OtherPositionIsAMismatch) {
    EXPECT_NE(std::nullopt, find_mismatch(pattern(64, 1, 0), 1, 8));
    EXPECT_NE(std::nullopt, find_mismatch(pattern(64, 1, 0), 1, 4096));
}

TEST(Pattern, ZeroesAreNoPattern) {
    EXPECT_NE(std::nullopt, find_mismatch(std::vector<std::byte>(64), 0));
}

TEST(Checksum, KnownValues) { // from the FNV reference
    EXPECT_EQ(0xcbf29ce484222325U, checksum({}));
    const std::array a{std::byte{'a'}};
    EXPECT_EQ(0xaf63dc4c8601ec8cU, checksum(a));
}

TEST(ErrnoOf, SaysWhatWasThrown) {
    EXPECT_EQ(0, errno_of([] {}));
    EXPECT_EQ(EBUSY, errno_of([] { throw_errno(EBUSY, "test"); }));
}

TEST(FdOwner, ClosesAtTheEnd) {
    int raw = -1;
    {
        const Fd fd(::open("/dev/null", O_RDONLY | O_CLOEXEC));
        raw = fd.get();
        ASSERT_GE(::fcntl(raw, F_GETFD), 0);
    }
    EXPECT_EQ(-1, ::fcntl(raw, F_GETFD));
}

TEST(FdOwner, MovedFromOwnsNothing) {
    Fd a(::open("/dev/null", O_RDONLY | O_CLOEXEC));
    const int raw = a.get();
    const Fd b(std::move(a));
    EXPECT_EQ(raw, b.get());
    EXPECT_FALSE(a); // NOLINT(bugprone-use-after-move): that is the question
}

TEST(MappingOwner, AnonymousMemoryIsZeroedAndWritable) {
    const auto memory = Mapping::anonymous(2 * page_size());
    EXPECT_EQ(2 * page_size(), memory.bytes().size());
    EXPECT_EQ(std::byte{0}, memory.bytes().back());
    memory.bytes().back() = std::byte{1};
    EXPECT_EQ(std::byte{1}, memory.bytes().back());
}

TEST(MemInfoReader, ValuesArePlausible) {
    const MemInfo info = read_meminfo();
    EXPECT_GT(info.mem_available, 0U);
    EXPECT_GE(info.slab, info.slab_unreclaimable);
}

TEST(ChildProcess, ExitStatusArrives) {
    auto child = Child::fork([](Channel&) { return 7; });
    EXPECT_EQ((Exit{.status = 7, .signal = 0}), child.wait(10s));
}

TEST(ChildProcess, ExceptionIsStatus125) {
    testing::internal::CaptureStderr();
    auto child = Child::fork([](Channel&) -> int { throw_errno(EIO, "planned failure"); });
    EXPECT_EQ((Exit{.status = 125, .signal = 0}), child.wait(10s));
    EXPECT_NE(std::string::npos, testing::internal::GetCapturedStderr().find("planned failure"));
}

TEST(ChildProcess, SignalArrives) {
    auto child = Child::fork([](Channel&) {
        ::pause();
        return 0;
    });
    child.kill(SIGKILL);
    EXPECT_EQ((Exit{.status = 0, .signal = SIGKILL}), child.wait(10s));
}

TEST(ChildProcess, WaitHasATimeout) {
    auto child = Child::fork([](Channel&) {
        ::pause();
        return 0;
    });
    EXPECT_THROW(child.wait(20ms), Timeout);
}

TEST(ChildProcess, ForgottenChildIsKilled) {
    pid_t pid = 0;
    {
        const auto child = Child::fork([](Channel&) {
            ::pause();
            return 0;
        });
        pid = child.pid();
    }
    EXPECT_EQ(-1, ::kill(pid, 0));
}

TEST(ChildProcess, ProgramsRun) {
    EXPECT_EQ((Exit{.status = 0, .signal = 0}), run_program({"true"}, 10s));
    EXPECT_EQ((Exit{.status = 1, .signal = 0}), run_program({"false"}, 10s));
}

TEST(Conversation, MessagesArriveWholeAndInOrder) {
    auto child = Child::fork([](Channel& parent) {
        parent.send(parent.recv<int>() + 1);
        parent.send_bytes(pattern(5000, 1));
        return 0;
    });
    child.channel().send(41);
    EXPECT_EQ(42, child.channel().recv<int>());
    const auto bytes = child.channel().recv_bytes(10s);
    EXPECT_EQ(5000U, bytes.size());
    EXPECT_EQ(std::nullopt, find_mismatch(bytes, 1));
    EXPECT_EQ(0, child.wait(10s).status);
}

TEST(Conversation, WrongSizeIsRefused) {
    auto [a, b] = Channel::make_pair();
    a.send(char{1});
    EXPECT_EQ(EPROTO, errno_of([&end = b] { (void)end.recv<int>(); }));
}

TEST(Conversation, OtherSideGone) {
    auto [a, b] = Channel::make_pair();
    a.close();
    EXPECT_EQ(EPIPE, errno_of([&end = b] { (void)end.recv<int>(); }));
    EXPECT_EQ(EPIPE, errno_of([&end = b] { end.send(1); }));
}

TEST(Conversation, SilenceTimesOut) {
    auto [a, b] = Channel::make_pair();
    EXPECT_THROW((void)b.recv<int>(10ms), Timeout);
}

TEST(Text, Bytes) {
    EXPECT_EQ("0 B", bytes_text(0));
    EXPECT_EQ("1023 B", bytes_text(1023));
    EXPECT_EQ("1.0 KiB", bytes_text(1024));
    EXPECT_EQ("4.0 MiB", bytes_text(4 << 20));
    EXPECT_EQ("2.5 GiB", bytes_text(2.5 * (1 << 30)));
}

TEST(Text, Times) {
    EXPECT_EQ("850 ns", time_text(850));
    EXPECT_EQ("21.3 us", time_text(21300));
    EXPECT_EQ("1.2 ms", time_text(1.2e6));
    EXPECT_EQ("3.0 s", time_text(3e9));
}

TEST(Text, Counts) {
    EXPECT_EQ("1 range", count_text(1, "range"));
    EXPECT_EQ("1024 ranges", count_text(1024, "range"));
}

} // namespace
} // namespace pfn
