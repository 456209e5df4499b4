// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
//
// Being told of a revoke without trying, and what comes after one: the key that
// stays taken, and an exporter that changes its mind.
#include "support/rdma_test.hpp"

#include <poll.h>
#include <sys/eventfd.h>

#include <cerrno>
#include <set>
#include <thread>

namespace pfn {
namespace {

constexpr std::uint64_t SIZE = 64 * KIB;

class RevokeEvent : public RdmaTest {
  protected:
    [[nodiscard]] ModeMr watched(const DmaBuf& buffer, int event) const {
        return {gpu.pd, PFN_MR_MODE_DEFAULT, buffer.fd(), 0, SIZE, 0, FULL_ACCESS, event};
    }
    /// How often it was signalled since the last time.
    static std::uint64_t signals(const Fd& event) {
        std::uint64_t count = 0;
        if (::read(event.get(), &count, sizeof count) < 0 && errno != EAGAIN)
            throw_errno("reading an eventfd");
        return count;
    }
    static Fd new_event() { return Fd(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)); }
};

// Rule: I7
TEST_F(RevokeEvent, ComesOnceAndOnlyForARevoke) {
    const DmaBuf buffer = vram.alloc({.size = SIZE});
    const Fd event = new_event();
    const ModeMr mr = watched(buffer, event.get());
    vram.move(buffer.fd(), PFN_VRAM_PLACEMENT_SYSTEM);
    EXPECT_EQ(0U, signals(event));
    vram.revoke(buffer.fd());
    EXPECT_EQ(1U, signals(event));
    vram.restore(buffer.fd());
    vram.revoke(buffer.fd());
    EXPECT_EQ(0U, signals(event)) << "revoked once is revoked for good";
}

// Rule: I7
TEST_F(RevokeEvent, WakesWhoWaits) {
    const DmaBuf buffer = vram.alloc({.size = SIZE});
    const Fd event = new_event();
    const ModeMr mr = watched(buffer, event.get());
    const std::jthread revoker([&] { vram.revoke(buffer.fd()); });
    pollfd waiting{.fd = event.get(), .events = POLLIN, .revents = 0};
    EXPECT_EQ(1, ::poll(&waiting, 1, 30'000));
    EXPECT_EQ(PFN_MR_STATE_REVOKED, static_cast<pfn_mr_state>(mr.query().state));
}

// Rule: I7
TEST_F(RevokeEvent, ManyMrsOneEventfd) {
    const DmaBuf buffer = vram.alloc({.size = SIZE});
    const Fd event = new_event();
    constexpr int COUNT = 10;
    std::vector<ModeMr> mrs;
    mrs.reserve(COUNT);
    for (int i = 0; i < COUNT; ++i)
        mrs.push_back(watched(buffer, event.get()));
    mrs.pop_back(); // who has left is not told
    vram.revoke(buffer.fd());
    EXPECT_EQ(9U, signals(event));
}

TEST_F(RevokeEvent, DescriptorMayBeClosedEarly) {
    const DmaBuf buffer = vram.alloc({.size = SIZE});
    Fd event = new_event();
    const Fd copy(::dup(event.get()));
    const ModeMr mr = watched(buffer, event.get());
    event.close();
    vram.revoke(buffer.fd());
    EXPECT_EQ(1U, signals(copy));
    {
        Fd only = new_event();
        const DmaBuf other = vram.alloc({.size = SIZE});
        const ModeMr lonely = watched(other, only.get());
        only.close();
        vram.revoke(other.fd()); // nobody is left to hear it
    }
}

TEST_F(RevokeEvent, NotAnEventfd) {
    const DmaBuf buffer = vram.alloc({.size = SIZE});
    const Fd null(::open("/dev/null", O_RDWR | O_CLOEXEC));
    EXPECT_ERRNO(EINVAL, watched(buffer, null.get()));
    EXPECT_ERRNO(EBADF, watched(buffer, 9999));
    EXPECT_EQ(0U, vram.buf_info(buffer.fd()).attachments);
    vram.revoke(buffer.fd());
}

// Rule: I4
TEST_F(RevokeEvent, KeysOfRevokedMrsStayTaken) {
    const DmaBuf buffer = vram.alloc({.size = SIZE});
    std::vector<ModeMr> revoked;
    std::set<std::uint32_t> indices; // rxe: the upper 24 bits of a key
    for (int i = 0; i < 20; ++i) {
        revoked.push_back(watched(buffer, -1));
        indices.insert(revoked.back().rkey() >> 8);
    }
    vram.revoke(buffer.fd());
    const DmaBuf fresh = vram.alloc({.size = SIZE});
    for (int i = 0; i < 200; ++i)
        EXPECT_FALSE(indices.contains(watched(fresh, -1).rkey() >> 8));
}

class Restore : public RdmaTest, public testing::WithParamInterface<BufferCase> {
  protected:
    [[nodiscard]] std::uint64_t chunk() const { return GetParam().fragmented ? page_size() : 0; }
    DmaBuf buffer = vram.alloc({.size = SIZE});
    HostMemory host{peer.pd, SIZE};
};

INSTANTIATE_TEST_SUITE_P(Buffers, Restore, testing::ValuesIn(BUFFER_CASES), case_name);

// Rule: E7
TEST_P(Restore, NobodyIsRevivedWhoWasThere) {
    for (const std::uint32_t mode : {PFN_MR_MODE_REVOCABLE, PFN_MR_MODE_DYNAMIC}) {
        const ModeMr old(gpu.pd, mode, buffer.fd(), 0, SIZE, 0);
        const Remote remote{.address = 0, .rkey = old.rkey()};
        write(host.sge(0, SIZE), remote);
        vram.revoke(buffer.fd());
        vram.restore(buffer.fd(), GetParam().placement, chunk());

        EXPECT_EQ(PFN_MR_STATE_REVOKED, static_cast<pfn_mr_state>(old.query().state));
        peer.qp.post_write(1, host.sge(0, 8), remote);
        EXPECT_EQ(IBV_WC_REM_ACCESS_ERR, complete(peer));
        reconnect();
        EXPECT_ERRNO(ENODEV, advise(gpu.pd, IBV_ADVISE_MR_ADVICE_PREFETCH, IBV_ADVISE_MR_FLAG_FLUSH,
                                    ibv_sge{.addr = 0, .length = 8, .lkey = old.lkey()}));
        EXPECT_TRUE(all_zero(buffer.map().bytes())) << "an old MR has written";
    }
}

// Rule: E7
TEST_P(Restore, NewMrsAndOldMappingsSeeZeroes) {
    const Mapping cpu = buffer.map();
    fill_pattern(cpu.bytes(), 3);
    vram.revoke(buffer.fd());
    EXPECT_ERRNO(ENODEV, Mr::dmabuf(gpu.pd, buffer.fd(), 0, SIZE, 0));
    vram.restore(buffer.fd(), GetParam().placement, chunk());

    const Mr mr = Mr::dmabuf(gpu.pd, buffer.fd(), 0, SIZE, 0);
    fill_pattern(host.bytes(), 4);
    read(host.sge(0, SIZE), {.address = 0, .rkey = mr.rkey()});
    EXPECT_TRUE(all_zero(host.bytes()));
    EXPECT_TRUE(all_zero(cpu.bytes()));

    fill_pattern(host.bytes(), 5);
    write(host.sge(0, SIZE), {.address = 0, .rkey = mr.rkey()});
    EXPECT_TRUE(has_pattern(cpu.bytes(), 5));
    EXPECT_EQ(GetParam().placement, vram.buf_info(buffer.fd()).placement);
}

TEST_P(Restore, MovesAgain) {
    vram.revoke(buffer.fd());
    vram.restore(buffer.fd(), GetParam().placement, chunk());
    const Mapping cpu = buffer.map();
    fill_pattern(cpu.bytes(), 6);
    vram.move(buffer.fd(), PFN_VRAM_PLACEMENT_SYSTEM, page_chunk());
    vram.move(buffer.fd(), PFN_VRAM_PLACEMENT_VRAM);
    EXPECT_TRUE(has_pattern(cpu.bytes(), 6));
}

class RestoreErrors : public RdmaTest {};

// Rule: E7
TEST_F(RestoreErrors, OnlyWhatWasRevoked) {
    const DmaBuf buffer = vram.alloc({.size = SIZE});
    EXPECT_ERRNO(EINVAL, vram.restore(buffer.fd()));
    vram.revoke(buffer.fd());
    EXPECT_ERRNO(EINVAL, vram.restore(buffer.fd(), 17));
    EXPECT_ERRNO(EINVAL, vram.restore(buffer.fd(), PFN_VRAM_PLACEMENT_VRAM, 17));
    EXPECT_ERRNO(EBADF, vram.restore(-1));
    vram.restore(buffer.fd());
    EXPECT_ERRNO(EINVAL, vram.restore(buffer.fd()));
}

TEST_F(RestoreErrors, WithoutRoomItStaysRevoked) {
    const std::uint64_t all = vram.info().vram_size;
    const DmaBuf buffer = vram.alloc({.size = all});
    vram.revoke(buffer.fd());
    {
        const DmaBuf other = vram.alloc({.size = page_size()});
        EXPECT_ERRNO(ENOSPC, vram.restore(buffer.fd()));
        EXPECT_EQ(PFN_VRAM_BUF_REVOKED, vram.buf_info(buffer.fd()).flags);
    }
    vram.restore(buffer.fd());
}

TEST_F(RestoreErrors, AThousandTimes) {
    const DmaBuf buffer = vram.alloc({.size = SIZE});
    const std::uint64_t generation = vram.buf_info(buffer.fd()).generation;
    const std::uint64_t free = vram.info().vram_free;
    for (int i = 0; i < 1000; ++i) {
        vram.revoke(buffer.fd());
        vram.restore(buffer.fd());
    }
    EXPECT_EQ(generation + 2000, vram.buf_info(buffer.fd()).generation);
    EXPECT_EQ(free, vram.info().vram_free);
}

} // namespace
} // namespace pfn
