// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
//
// ibv_rereg_mr() on device memory: rights and protection domain change, memory and
// addresses don't, and what fails changes nothing. And the access flags that are
// hints: relaxed ordering and its optional relatives.
#include "support/shadow_test.hpp"

#include <fcntl.h>

namespace pfn {
namespace {

constexpr int ACCESS = IBV_REREG_MR_CHANGE_ACCESS;
constexpr int PD = IBV_REREG_MR_CHANGE_PD;

class Rereg : public ShadowTest {
  protected:
    /// Does the peer get through to the device memory?
    ibv_wc_status try_write() {
        renew_host();
        peer.qp.post_write(1, host.sge(7, 9000), device.remote(4090));
        const auto status = complete(peer);
        if (status == IBV_WC_SUCCESS)
            expect_host_to_device(7, 4090, 9000);
        else
            reconnect();
        EXPECT_TRUE(as_expected());
        return status;
    }

    /// Rights, domain and memory of the MR are as after registration.
    void expect_intact() {
        EXPECT_EQ(IBV_WC_SUCCESS, try_write());
        read(host.sge(0, SIZE), device.remote());
        expect_device_to_host(0, 0, SIZE);
        EXPECT_TRUE(as_expected());
        peer.qp.post_fetch_add(1, host.sge(0, 8), device.remote(8), 1);
        succeed(peer);
        expect_host_word(0, device_word(8) - 1);
        expect_device_word(8, device_word(8));
        EXPECT_TRUE(as_expected());
    }
};

INSTANTIATE_TEST_SUITE_P(Buffers, Rereg, testing::ValuesIn(BUFFER_CASES), case_name);
INSTANTIATE_TEST_SUITE_P(Foreign, Rereg, testing::ValuesIn(FOREIGN_CASES), case_name);

TEST_P(Rereg, TakesRightsAwayAndGivesThemBack) {
    EXPECT_EQ(IBV_WC_SUCCESS, try_write());
    device.mr.rereg(ACCESS, nullptr, IBV_ACCESS_REMOTE_READ);
    EXPECT_EQ(IBV_WC_REM_ACCESS_ERR, try_write());
    device.mr.rereg(ACCESS, nullptr, 0);
    peer.qp.post_read(1, host.sge(0, 8), device.remote());
    EXPECT_EQ(IBV_WC_REM_ACCESS_ERR, complete(peer));
    reconnect();
    device.mr.rereg(ACCESS, nullptr, FULL_ACCESS);
    expect_intact();
}

TEST_P(Rereg, ChangesTheProtectionDomain) {
    const Pd other(gpu.context.get());
    device.mr.rereg(PD, &other, 0);
    EXPECT_EQ(IBV_WC_REM_ACCESS_ERR, try_write());
    device.mr.rereg(PD, &gpu.pd, 0);
    expect_intact();
}

TEST_P(Rereg, ChangesBothAtOnce) {
    const Pd other(gpu.context.get());
    device.mr.rereg(PD | ACCESS, &other, IBV_ACCESS_REMOTE_READ);
    EXPECT_EQ(IBV_WC_REM_ACCESS_ERR, try_write());
    device.mr.rereg(PD, &gpu.pd, 0);
    EXPECT_EQ(IBV_WC_REM_ACCESS_ERR, try_write());
    device.mr.rereg(ACCESS, nullptr, FULL_ACCESS);
    expect_intact();
}

TEST_P(Rereg, HoldsTheNewProtectionDomainOnly) {
    Pd first(gpu.context.get());
    Pd second(gpu.context.get());
    auto mr = Mr::dmabuf(first, device.buffer.fd(), 0, SIZE, 0);
    EXPECT_ERRNO(EBUSY, first.dealloc());
    mr.rereg(PD, &second, 0);
    EXPECT_ERRNO(0, first.dealloc());
    EXPECT_ERRNO(EBUSY, second.dealloc());
    mr.dereg();
    EXPECT_ERRNO(0, second.dealloc());
}

TEST_P(Rereg, OfMemoryThatHasMoved) {
    SKIP_IF_FOREIGN();
    vram.move(device.buffer.fd(), PFN_VRAM_PLACEMENT_SYSTEM);
    device.mr.rereg(ACCESS, nullptr, IBV_ACCESS_REMOTE_READ);
    EXPECT_EQ(IBV_WC_REM_ACCESS_ERR, try_write());
    EXPECT_EQ(0U, query_mr(device.mr).faults); // nobody has touched the memory
    device.mr.rereg(ACCESS, nullptr, FULL_ACCESS);
    expect_intact();
    EXPECT_EQ(1U, query_mr(device.mr).faults);
}

// Rule: I5
TEST_P(Rereg, OfRevokedMemory) {
    SKIP_IF_FOREIGN();
    vram.revoke(device.buffer.fd());
    EXPECT_ERRNO(0, device.mr.rereg(ACCESS, nullptr, IBV_ACCESS_REMOTE_READ));
    EXPECT_EQ(PFN_MR_STATE_REVOKED, query_mr(device.mr).state);
    EXPECT_ERRNO(0, device.mr.dereg());
}

// What is refused changes nothing.

TEST_P(Rereg, NewTranslationIsEOPNOTSUPP) {
    errno = 0;
    EXPECT_EQ(IBV_REREG_MR_ERR_CMD,
              ibv_rereg_mr(device.mr.get(), IBV_REREG_MR_CHANGE_TRANSLATION, nullptr,
                           host.bytes().data(), host.bytes().size(), 0));
    EXPECT_EQ(Errno{EOPNOTSUPP}, Errno{errno});
    expect_intact();
    // Together with what would be allowed.
    const Pd other(gpu.context.get());
    errno = 0;
    EXPECT_EQ(IBV_REREG_MR_ERR_CMD,
              ibv_rereg_mr(device.mr.get(), IBV_REREG_MR_CHANGE_TRANSLATION | PD | ACCESS,
                           other.get(), host.bytes().data(), host.bytes().size(), 0));
    EXPECT_EQ(Errno{EOPNOTSUPP}, Errno{errno});
    expect_intact();
    EXPECT_ERRNO(0, device.mr.dereg());
}

TEST_P(Rereg, RightsThatNobodyCanGrant) {
    struct Case {
        unsigned access;
        int error;
    };
    constexpr Case CASES[] = {
        {FULL_ACCESS | IBV_ACCESS_ON_DEMAND, EOPNOTSUPP}, // no page tables to follow
        {FULL_ACCESS | IBV_ACCESS_FLUSH_PERSISTENT, EOPNOTSUPP},
        {FULL_ACCESS | IBV_ACCESS_ZERO_BASED, EOPNOTSUPP}, // rxe has that for windows only
        {FULL_ACCESS | IBV_ACCESS_HUGETLB, EOPNOTSUPP},    // nor does rxe care about pages
        {FULL_ACCESS | 1U << 10U, EINVAL},                 // unknown and not optional
        {IBV_ACCESS_REMOTE_WRITE, EINVAL},                 // without local write
        {IBV_ACCESS_REMOTE_ATOMIC, EINVAL},
    };
    const Pd other(gpu.context.get());
    for (const auto& [access, error] : CASES) {
        EXPECT_ERRNO(error, device.mr.rereg(ACCESS, nullptr, access)) << std::hex << access;
        EXPECT_ERRNO(error, device.mr.rereg(ACCESS | PD, &other, access)) << std::hex << access;
    }
    expect_intact();
}

// Rule: I6
TEST_P(Rereg, WriteAccessToAReadOnlyDmaBufIsEACCES) {
    const auto exporter = GetParam().exporter;
    if (GetParam().foreign() && exporter != Exporter::SYSTEM_HEAP)
        GTEST_SKIP() << "only pfn_vram and dma-heaps are asked for read-only dma-bufs here";
    auto only_read = spec();
    only_read.fd_flags = O_RDONLY | O_CLOEXEC;
    const auto readonly = exporter == Exporter::SYSTEM_HEAP ? system_heap(SIZE, only_read.fd_flags)
                                                            : vram.alloc(only_read);
    const auto mr = Mr::dmabuf(gpu.pd, readonly.fd(), 0, SIZE, 0, IBV_ACCESS_REMOTE_READ);
    EXPECT_ERRNO(EACCES, mr.rereg(ACCESS, nullptr, FULL_ACCESS));
    EXPECT_ERRNO(EACCES, mr.rereg(ACCESS, nullptr, IBV_ACCESS_LOCAL_WRITE));
    // Who may bind windows may give rights away.
    EXPECT_ERRNO(EACCES, mr.rereg(ACCESS, nullptr, IBV_ACCESS_REMOTE_READ | IBV_ACCESS_MW_BIND));
    EXPECT_ERRNO(0, mr.rereg(ACCESS, nullptr, IBV_ACCESS_REMOTE_READ | IBV_ACCESS_FLUSH_GLOBAL));
    peer.qp.post_write(1, host.sge(0, 8), {.address = 0, .rkey = mr.rkey()});
    EXPECT_EQ(IBV_WC_REM_ACCESS_ERR, complete(peer));
}

TEST_P(Rereg, NothingToDoIsEINVAL) {
    EXPECT_ERRNO(EINVAL, device.mr.rereg(0, nullptr, 0));
    EXPECT_ERRNO(EINVAL, device.mr.rereg(PD, &gpu.pd, FULL_ACCESS)); // access without its flag
    EXPECT_ERRNO(EINVAL, device.mr.rereg(1 << 5, nullptr, 0));
    expect_intact();
}

TEST_P(Rereg, OrdinaryMrsStillCan) { // the librxe overlay gave them rereg, too
    host.mr.rereg(ACCESS, nullptr, IBV_ACCESS_LOCAL_WRITE);
    gpu.qp.post_write(1, device.sge(0, 8), host.remote());
    EXPECT_EQ(IBV_WC_REM_ACCESS_ERR, complete(gpu));
}

// Hints. soft-RoCE does everything in order, so they change nothing.

class Hints : public ShadowTest {};

INSTANTIATE_TEST_SUITE_P(Buffers, Hints, testing::ValuesIn(BUFFER_CASES), case_name);
INSTANTIATE_TEST_SUITE_P(Foreign, Hints, testing::ValuesIn(FOREIGN_CASES), case_name);

TEST_P(Hints, RelaxedOrderingCanBeRegistered) {
    const auto mr = second_mr(FULL_ACCESS | IBV_ACCESS_RELAXED_ORDERING);
    write(host.sge(7, 9000), {.address = 4090, .rkey = mr.rkey()});
    expect_host_to_device(7, 4090, 9000);
    // The last one wins, relaxed or not.
    for (std::size_t i = 0; i < Qp::DEPTH; ++i)
        peer.qp.post_write(i, host.sge(i * 64, 6000), {.address = 30000, .rkey = mr.rkey()});
    for (std::size_t i = 0; i < Qp::DEPTH; ++i)
        ASSERT_EQ(i, succeed(peer).wr_id);
    expect_host_to_device((Qp::DEPTH - 1) * 64, 30000, 6000);
    EXPECT_TRUE(as_expected());
}

TEST_P(Hints, AllOptionalFlagsCanBeAddedLater) {
    for (unsigned bit = 20; bit <= 29; ++bit)
        EXPECT_ERRNO(0, device.mr.rereg(ACCESS, nullptr, FULL_ACCESS | 1U << bit)) << bit;
    device.mr.rereg(ACCESS, nullptr, FULL_ACCESS | IBV_ACCESS_OPTIONAL_RANGE);
    write(host.sge(7, 9000), device.remote(4090));
    expect_host_to_device(7, 4090, 9000);
    EXPECT_TRUE(as_expected());
}

TEST_P(Hints, OthersCannotBeRegistered) {
    // uverbs knows relaxed ordering only for a dma-buf, "optional" or not.
    for (unsigned bit = 21; bit <= 29; ++bit)
        EXPECT_ERRNO(EINVAL, second_mr(FULL_ACCESS | 1U << bit)) << bit;
    EXPECT_ERRNO(EINVAL, second_mr(FULL_ACCESS | IBV_ACCESS_OPTIONAL_RANGE));
    // An ordinary MR takes all of them.
    EXPECT_ERRNO(0, Mr::host(gpu.pd, host.bytes(), FULL_ACCESS | IBV_ACCESS_OPTIONAL_RANGE));
}

} // namespace
} // namespace pfn
