// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
//
// Registering device memory: what is accepted, what is refused and how, and
// what importer and exporter agree on.
#include "support/rdma_test.hpp"

#include <fcntl.h>

#include <array>
#include <bit>
#include <set>

namespace pfn {
namespace {

constexpr std::uint64_t SIZE = 64 * KIB;

/// Registering needs a protection domain and no connection.
class RegisterTest : public testing::Test {
  protected:
    /// errno of registering like this, 0 if it works.
    [[nodiscard]] int reg_errno(int fd, std::uint64_t offset, std::uint64_t length,
                                std::uint64_t iova, unsigned access = FULL_ACCESS) const {
        return errno_of([&] { (void)Mr::dmabuf(pd, fd, offset, length, iova, access); });
    }

    std::uint64_t page = page_size();
    VramDevice vram;
    Context context{GPU_DEVICE};
    Pd pd{context.get()};
};

// What is accepted.

class Register : public RegisterTest, public testing::WithParamInterface<BufferCase> {
  protected:
    DmaBuf buffer = vram.alloc({.size = SIZE,
                                .chunk = GetParam().fragmented ? page : 0,
                                .placement = GetParam().placement});
};

INSTANTIATE_TEST_SUITE_P(Buffers, Register, testing::ValuesIn(BUFFER_CASES), case_name);

TEST_P(Register, WholeBuffer) {
    auto mr = Mr::dmabuf(pd, buffer.fd(), 0, SIZE, 0);
    EXPECT_NE(0U, mr.rkey());
    EXPECT_EQ(1U, vram.buf_info(buffer.fd()).attachments);
    mr.dereg();
    EXPECT_EQ(0U, vram.buf_info(buffer.fd()).attachments);
}

TEST_P(Register, InfoDescribesTheBuffer) {
    const auto mr = Mr::dmabuf(pd, buffer.fd(), 0, SIZE, 0);
    const auto info = query_mr(mr);
    const auto buf = vram.buf_info(buffer.fd());
    EXPECT_EQ(PFN_MR_MODE_DYNAMIC, info.mode);
    EXPECT_EQ(PFN_MR_STATE_PRESENT, info.state);
    EXPECT_EQ(PFN_MR_BACKEND_PFN, info.backend);
    EXPECT_EQ(PFN_MR_BECAUSE_LENDS, info.because);
    EXPECT_EQ(buf.ranges, info.ranges);
    if (GetParam().fragmented) {
        EXPECT_EQ(SIZE / page, info.ranges);
        EXPECT_EQ(page, info.page_size);
    }
    EXPECT_TRUE(std::has_single_bit(info.page_size));
    EXPECT_LE(info.page_size, SIZE / buf.ranges);
    EXPECT_EQ(1U, info.generation);
    const bool bar = vram.info().backend == PFN_VRAM_BACKEND_BAR;
    EXPECT_EQ(bar && GetParam().placement == PFN_VRAM_PLACEMENT_VRAM ? 1U : 0U, info.mmio);
    EXPECT_GT(info.metadata_bytes, 0U);
    EXPECT_EQ(0U, info.faults);
    EXPECT_EQ(0U, info.invalidations);
    EXPECT_EQ(0U, info.prefetches);
    EXPECT_EQ(0U, info.bytes_read);
    EXPECT_EQ(0U, info.bytes_written);
}

TEST_P(Register, PartsAtAnyOffsetAndLength) {
    for (const std::uint64_t offset :
         {std::uint64_t{0}, std::uint64_t{1}, page - 1, page, page + 17, SIZE - 8, SIZE - 1}) {
        for (const std::uint64_t length :
             {std::uint64_t{1}, std::uint64_t{8}, page, page + 1, SIZE - offset}) {
            if (length > SIZE - offset)
                continue;
            EXPECT_EQ(Errno{0}, Errno{reg_errno(buffer.fd(), offset, length, offset)})
                << length << " bytes at " << offset;
        }
    }
}

TEST_P(Register, IovaNeedNotBeTheOffset) {
    for (const std::uint64_t iova :
         {std::uint64_t{0x7f0000000000} + 5, page * 1000 + 5, std::uint64_t{5}}) {
        EXPECT_EQ(Errno{0}, Errno{reg_errno(buffer.fd(), page + 5, page, iova)}) << iova;
    }
}

TEST_P(Register, SameBufferManyTimes) {
    constexpr std::size_t COUNT = 20;
    std::vector<Mr> mrs;
    std::set<std::uint32_t> keys;
    mrs.reserve(COUNT);
    for (std::size_t i = 0; i < COUNT; ++i) {
        mrs.push_back(Mr::dmabuf(pd, buffer.fd(), 0, SIZE, 0));
        keys.insert(mrs.back().rkey());
    }
    EXPECT_EQ(COUNT, keys.size());
    EXPECT_EQ(COUNT, vram.buf_info(buffer.fd()).attachments);
    mrs.clear();
    EXPECT_EQ(0U, vram.buf_info(buffer.fd()).attachments);
}

TEST_P(Register, MetadataDoesNotGrowWithTheBuffer) {
    const auto big = vram.alloc({.size = 16 * SIZE,
                                 .chunk = GetParam().fragmented ? page : 0,
                                 .placement = GetParam().placement});
    const auto small_mr = Mr::dmabuf(pd, buffer.fd(), 0, SIZE, 0);
    const auto big_mr = Mr::dmabuf(pd, big.fd(), 0, 16 * SIZE, 0);
    EXPECT_EQ(query_mr(small_mr).metadata_bytes, query_mr(big_mr).metadata_bytes);
}

// What is refused.

class Refuse : public RegisterTest {
  protected:
    DmaBuf buffer = vram.alloc({.size = SIZE});
};

TEST_F(Refuse, LengthZero) {
    EXPECT_EQ(Errno{EINVAL}, Errno{reg_errno(buffer.fd(), 0, 0, 0)});
}

TEST_F(Refuse, BeyondTheEnd) {
    EXPECT_EQ(Errno{EINVAL}, Errno{reg_errno(buffer.fd(), 0, SIZE + 1, 0)});
    EXPECT_EQ(Errno{EINVAL}, Errno{reg_errno(buffer.fd(), page, SIZE, 0)});
    EXPECT_EQ(Errno{EINVAL}, Errno{reg_errno(buffer.fd(), SIZE, 1, 0)});
    EXPECT_EQ(Errno{EINVAL}, Errno{reg_errno(buffer.fd(), SIZE - 1, 2, SIZE - 1)});
}

TEST_F(Refuse, OffsetPlusLengthOverflows) {
    const std::uint64_t top = ~std::uint64_t{0} - page + 1;
    EXPECT_EQ(Errno{EINVAL}, Errno{reg_errno(buffer.fd(), top, 2 * page, 0)});
    EXPECT_EQ(Errno{EINVAL}, Errno{reg_errno(buffer.fd(), page, top, 0)});
    EXPECT_EQ(Errno{EINVAL}, Errno{reg_errno(buffer.fd(), 0, ~std::uint64_t{0}, 0)});
}

TEST_F(Refuse, IovaPlusLengthOverflows) {
    const std::uint64_t top = ~std::uint64_t{0} - page + 1;
    EXPECT_EQ(Errno{EINVAL}, Errno{reg_errno(buffer.fd(), 0, 2 * page, top)});
}

TEST_F(Refuse, IovaWithAnotherPageOffset) {
    EXPECT_EQ(Errno{EINVAL}, Errno{reg_errno(buffer.fd(), 0, page, 8)});
    EXPECT_EQ(Errno{EINVAL}, Errno{reg_errno(buffer.fd(), 8, page, 0)});
}

TEST_F(Refuse, DescriptorMinusOneIsEBADF) { // programs probe for support like this
    EXPECT_EQ(Errno{EBADF}, Errno{reg_errno(-1, 0, page, 0)});
}

TEST_F(Refuse, ClosedDescriptorIsEBADF) {
    const int fd = buffer.fd();
    buffer.close();
    EXPECT_EQ(Errno{EBADF}, Errno{reg_errno(fd, 0, page, 0)});
}

TEST_F(Refuse, NotADmaBufIsEINVAL) {
    const Fd null(::open("/dev/null", O_RDWR | O_CLOEXEC));
    EXPECT_EQ(Errno{EINVAL}, Errno{reg_errno(null.get(), 0, page, 0)});
    EXPECT_EQ(Errno{EINVAL}, Errno{reg_errno(vram.fd(), 0, page, 0)});
}

// Rule: T11
TEST_F(Refuse, RevokedBufferIsENODEV) {
    vram.revoke(buffer.fd());
    EXPECT_EQ(Errno{ENODEV}, Errno{reg_errno(buffer.fd(), 0, SIZE, 0)});
    EXPECT_EQ(0U, vram.buf_info(buffer.fd()).attachments);
}

// Rule: I6
TEST_F(Refuse, WritingToAReadOnlyDmaBufIsEACCES) {
    const auto readonly = vram.alloc({.size = SIZE, .fd_flags = O_RDONLY | O_CLOEXEC});
    constexpr unsigned LOCAL = IBV_ACCESS_LOCAL_WRITE;
    EXPECT_EQ(Errno{EACCES}, Errno{reg_errno(readonly.fd(), 0, SIZE, 0, LOCAL)});
    EXPECT_EQ(Errno{EACCES},
              Errno{reg_errno(readonly.fd(), 0, SIZE, 0, LOCAL | IBV_ACCESS_REMOTE_WRITE)});
    EXPECT_EQ(Errno{EACCES},
              Errno{reg_errno(readonly.fd(), 0, SIZE, 0, LOCAL | IBV_ACCESS_REMOTE_ATOMIC)});
}

// Rule: I6
TEST_F(Refuse, ReadingFromAReadOnlyDmaBufIsFine) {
    const auto readonly = vram.alloc({.size = SIZE, .fd_flags = O_RDONLY | O_CLOEXEC});
    EXPECT_EQ(Errno{0}, Errno{reg_errno(readonly.fd(), 0, SIZE, 0, 0)});
    EXPECT_EQ(Errno{0}, Errno{reg_errno(readonly.fd(), 0, SIZE, 0, IBV_ACCESS_REMOTE_READ)});
}

TEST_F(Refuse, RemoteWriteWithoutLocalWriteIsEINVAL) {
    EXPECT_EQ(Errno{EINVAL}, Errno{reg_errno(buffer.fd(), 0, SIZE, 0, IBV_ACCESS_REMOTE_WRITE)});
    EXPECT_EQ(Errno{EINVAL}, Errno{reg_errno(buffer.fd(), 0, SIZE, 0, IBV_ACCESS_REMOTE_ATOMIC)});
}

TEST_F(Refuse, AccessThatVerbsDoNotAllowHereIsEINVAL) {
    EXPECT_EQ(Errno{EINVAL}, Errno{reg_errno(buffer.fd(), 0, SIZE, 0, IBV_ACCESS_ON_DEMAND)});
    EXPECT_EQ(Errno{EINVAL}, Errno{reg_errno(buffer.fd(), 0, SIZE, 0, IBV_ACCESS_MW_BIND)});
}

TEST_F(Refuse, NothingIsLeftBehind) {
    const auto before = vram.info();
    for (int i = 0; i < 100; ++i) {
        EXPECT_NE(0, reg_errno(buffer.fd(), 0, SIZE + 1, 0));
        EXPECT_NE(0, reg_errno(buffer.fd(), 0, 0, 0));
        EXPECT_NE(0, reg_errno(buffer.fd(), 0, page, 8));
    }
    EXPECT_EQ(0U, vram.buf_info(buffer.fd()).attachments);
    buffer.close();
    EXPECT_EQ(before.buffers - 1, vram.info().buffers);
}

TEST_F(Refuse, QueryOfAnOrdinaryMrIsEOPNOTSUPP) {
    const HostMemory host(pd, page);
    EXPECT_ERRNO(EOPNOTSUPP, query_mr(host.mr));
}

TEST_F(Refuse, QueryOfNoMrIsENOENT) {
    EXPECT_ERRNO(ENOENT, query_mr(context.get(), 0x7fffffff));
}

TEST_F(Refuse, UnknownModeIsEINVAL) {
    for (const std::uint32_t mode : {4U, ~0U}) {
        EXPECT_ERRNO(EINVAL, ModeMr(pd, mode, buffer.fd(), 0, SIZE, 0));
    }
}

// Modes: each mode with each set of caps, exactly as <linux/dma-buf-pfn.h>
// says. `agreed` is the mode of the MR, or 0 if the exporter cannot promise it.

struct ModeCase {
    std::uint32_t caps;
    std::uint32_t asked;
    std::uint32_t agreed;
};

constexpr std::uint32_t PIN = PFN_VRAM_CAP_PIN;
constexpr std::uint32_t MOVE = PFN_VRAM_CAP_MOVE;
constexpr std::uint32_t REVOKE = PFN_VRAM_CAP_REVOKE;

constexpr std::uint32_t DEFAULT = PFN_MR_MODE_DEFAULT;
constexpr std::uint32_t PINNED = PFN_MR_MODE_PINNED;
constexpr std::uint32_t REVOCABLE = PFN_MR_MODE_REVOCABLE;
constexpr std::uint32_t DYNAMIC = PFN_MR_MODE_DYNAMIC;
constexpr std::uint32_t REFUSED = 0;

constexpr ModeCase MODE_CASES[] = {
    {0, DEFAULT, PINNED},
    {0, PINNED, PINNED},
    {0, REVOCABLE, REVOCABLE},
    {0, DYNAMIC, DYNAMIC},

    {PIN, DEFAULT, PINNED},
    {PIN, PINNED, PINNED},
    {PIN, REVOCABLE, REVOCABLE},
    {PIN, DYNAMIC, DYNAMIC},

    {REVOKE, DEFAULT, REVOCABLE},
    {REVOKE, PINNED, REFUSED},
    {REVOKE, REVOCABLE, REVOCABLE},
    {REVOKE, DYNAMIC, DYNAMIC},

    {REVOKE | PIN, DEFAULT, REVOCABLE},
    {REVOKE | PIN, PINNED, PINNED},
    {REVOKE | PIN, REVOCABLE, REVOCABLE},
    {REVOKE | PIN, DYNAMIC, DYNAMIC},

    {MOVE, DEFAULT, DYNAMIC},
    {MOVE, PINNED, REFUSED},
    {MOVE, REVOCABLE, REFUSED},
    {MOVE, DYNAMIC, DYNAMIC},

    {MOVE | PIN, DEFAULT, DYNAMIC},
    {MOVE | PIN, PINNED, PINNED},
    {MOVE | PIN, REVOCABLE, REVOCABLE},
    {MOVE | PIN, DYNAMIC, DYNAMIC},

    {MOVE | REVOKE, DEFAULT, DYNAMIC},
    {MOVE | REVOKE, PINNED, REFUSED},
    {MOVE | REVOKE, REVOCABLE, REFUSED},
    {MOVE | REVOKE, DYNAMIC, DYNAMIC},

    {MOVE | REVOKE | PIN, DEFAULT, DYNAMIC},
    {MOVE | REVOKE | PIN, PINNED, PINNED},
    {MOVE | REVOKE | PIN, REVOCABLE, REVOCABLE},
    {MOVE | REVOKE | PIN, DYNAMIC, DYNAMIC},
};

std::string mode_case_text(const ModeCase& mode_case) {
    const auto& [caps, asked, agreed] = mode_case;
    constexpr std::array NAMES{"Default", "Pinned", "Revocable", "Dynamic"};
    std::string name = std::string("Asked") + NAMES.at(asked) + "Of";
    if (caps == 0)
        name += "Nothing";
    if (caps & MOVE)
        name += "Move";
    if (caps & REVOKE)
        name += "Revoke";
    if (caps & PIN)
        name += "Pin";
    return name;
}

void PrintTo(const ModeCase& mode_case, std::ostream* out) {
    *out << mode_case_text(mode_case);
}

std::string mode_case_name(const testing::TestParamInfo<ModeCase>& info) {
    return mode_case_text(info.param);
}

class Modes : public RegisterTest, public testing::WithParamInterface<ModeCase> {};

INSTANTIATE_TEST_SUITE_P(All, Modes, testing::ValuesIn(MODE_CASES), mode_case_name);

// Rule: M1-M8
TEST_P(Modes, AreNegotiatedAsDocumented) {
    const auto [caps, asked, agreed] = GetParam();
    const auto buffer = vram.alloc({.size = SIZE, .caps = caps});
    if (agreed == REFUSED) {
        EXPECT_ERRNO(EOPNOTSUPP, ModeMr(pd, asked, buffer.fd(), 0, SIZE, 0));
        EXPECT_EQ(0U, vram.buf_info(buffer.fd()).attachments);
        return;
    }
    const ModeMr mr(pd, asked, buffer.fd(), 0, SIZE, 0);
    EXPECT_EQ(agreed, mr.query().mode);
    // Whoever is promised that the buffer holds still gets it pinned.
    const bool pinned =
        (agreed == PINNED && (caps & (MOVE | REVOKE))) || (agreed == REVOCABLE && (caps & MOVE));
    if (pinned) {
        EXPECT_NE(0U, vram.buf_info(buffer.fd()).flags & PFN_VRAM_BUF_PINNED);
    }
    if (agreed == DYNAMIC) {
        EXPECT_EQ(0U, vram.buf_info(buffer.fd()).flags & PFN_VRAM_BUF_PINNED);
    }
}

// Rule: E1, E2
TEST_P(Modes, DecideWhatTheExporterMayDo) {
    const auto [caps, asked, agreed] = GetParam();
    if (agreed == REFUSED)
        GTEST_SKIP() << "there is no such MR";
    const auto buffer = vram.alloc({.size = SIZE, .caps = caps});
    const ModeMr mr(pd, asked, buffer.fd(), 0, SIZE, 0);
    const int move = !(caps & MOVE) ? EOPNOTSUPP : agreed == DYNAMIC ? 0 : EBUSY;
    EXPECT_ERRNO(move, vram.move(buffer.fd(), PFN_VRAM_PLACEMENT_SYSTEM));
    const int revoke = !(caps & REVOKE) ? EOPNOTSUPP : agreed == PINNED ? EBUSY : 0;
    EXPECT_ERRNO(revoke, vram.revoke(buffer.fd()));
}

// Rule: E1, T18
TEST_F(Refuse, PinEndsWithTheMr) {
    ModeMr mr(pd, PINNED, buffer.fd(), 0, SIZE, 0);
    EXPECT_ERRNO(EBUSY, vram.move(buffer.fd(), PFN_VRAM_PLACEMENT_SYSTEM));
    mr.dereg();
    EXPECT_ERRNO(0, vram.move(buffer.fd(), PFN_VRAM_PLACEMENT_SYSTEM));
}

} // namespace
} // namespace pfn
