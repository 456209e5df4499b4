// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
//
// What an MR does not allow must not happen, and both sides must be told with
// the right words: remote errors when a peer asks for too much of a pfn MR, local
// ones when its owner does.
#include "support/shadow_test.hpp"

#include <functional>

namespace pfn {
namespace {

// The peer asks for too much.

class Protection : public ShadowTest {
  protected:
    using Post = std::function<void(Remote)>;
    struct Request {
        const char* name;
        unsigned right; ///< what the MR must allow for it
        Post post;
    };

    /// All that a peer can ask of an MR, 8 bytes of each.
    std::vector<Request> requests() {
        return {
            {"WRITE", IBV_ACCESS_REMOTE_WRITE,
             [&](Remote to) { peer.qp.post_write(1, host.sge(0, 8), to); }},
            {"WRITE with immediate", IBV_ACCESS_REMOTE_WRITE,
             [&](Remote to) {
                 gpu.qp.post_recv(2, {});
                 peer.qp.post_write_imm(1, host.sge(0, 8), to, 3);
             }},
            {"READ", IBV_ACCESS_REMOTE_READ,
             [&](Remote from) { peer.qp.post_read(1, host.sge(0, 8), from); }},
            {"fetch-and-add", IBV_ACCESS_REMOTE_ATOMIC,
             [&](Remote at) { peer.qp.post_fetch_add(1, host.sge(0, 8), at, 1); }},
            {"compare-and-swap", IBV_ACCESS_REMOTE_ATOMIC,
             [&, before = device_word(0)](Remote at) {
                 peer.qp.post_cmp_swap(1, host.sge(0, 8), at, before, 1);
             }},
            {"ATOMIC_WRITE", IBV_ACCESS_REMOTE_WRITE,
             [&](Remote at) { peer.qp.post_atomic_write(1, at, 1); }},
            {"FLUSH", IBV_ACCESS_FLUSH_GLOBAL,
             [&](Remote at) { peer.qp.post_flush(1, at, 8, IBV_FLUSH_GLOBAL); }},
        };
    }

    /// @p request ends in a remote access error and changes nothing.
    void expect_refused(const Request& request, Remote remote) {
        request.post(remote);
        EXPECT_EQ(IBV_WC_REM_ACCESS_ERR, complete(peer)) << request.name;
        EXPECT_TRUE(as_expected()) << request.name;
        reconnect();
    }

    static constexpr unsigned ALL = FULL_ACCESS | IBV_ACCESS_FLUSH_GLOBAL;
};

INSTANTIATE_TEST_SUITE_P(Buffers, Protection, testing::ValuesIn(BUFFER_CASES), case_name);
INSTANTIATE_TEST_SUITE_P(Foreign, Protection, testing::ValuesIn(FOREIGN_CASES), case_name);

TEST_P(Protection, NothingWithoutItsRight) {
    const auto mr = second_mr(FULL_ACCESS);
    for (const Request& request : requests()) {
        mr.rereg(IBV_REREG_MR_CHANGE_ACCESS, nullptr, ALL & ~request.right);
        expect_refused(request, {.address = 0, .rkey = mr.rkey()});
    }
}

TEST_P(Protection, NothingOutsideOfTheMr) {
    constexpr std::uint64_t START = 8192;
    constexpr std::uint64_t LENGTH = 5000;
    const auto mr = Mr::dmabuf(gpu.pd, device.buffer.fd(), START, LENGTH, START);
    mr.rereg(IBV_REREG_MR_CHANGE_ACCESS, nullptr, ALL);
    for (const Request& request : requests()) {
        // Before it, over its end (5000 is a multiple of 8: aligned), and where
        // address plus length wraps around.
        for (const std::uint64_t address : {START - 8, START + LENGTH, ~std::uint64_t{7}})
            expect_refused(request, {.address = address, .rkey = mr.rkey()});
    }
}

TEST_P(Protection, NothingPartlyOutsideOfTheMr) {
    const auto mr = Mr::dmabuf(gpu.pd, device.buffer.fd(), 4096, 4100, 4096);
    const auto expect_both_refused = [&](std::uint64_t address, std::size_t length) {
        expect_refused(
            {"WRITE", 0, [&](Remote to) { peer.qp.post_write(1, host.sge(0, length), to); }},
            {.address = address, .rkey = mr.rkey()});
        expect_refused(
            {"READ", 0, [&](Remote from) { peer.qp.post_read(1, host.sge(0, length), from); }},
            {.address = address, .rkey = mr.rkey()});
    };
    expect_both_refused(4095, 2);
    expect_both_refused(8195, 2);
    // Several packets of which the first ones would be inside.
    expect_both_refused(4096, 4101);
    expect_both_refused(4100, 20000);
}

TEST_P(Protection, NothingWithAnotherKey) {
    device.mr.rereg(IBV_REREG_MR_CHANGE_ACCESS, nullptr, ALL);
    for (const Request& request : requests())
        expect_refused(request, {.address = 0, .rkey = device.mr.rkey() ^ 0x1});
}

TEST_P(Protection, NothingOfAnotherProtectionDomain) {
    const Pd other(gpu.context.get());
    const auto mr = Mr::dmabuf(other, device.buffer.fd(), 0, SIZE, 0);
    mr.rereg(IBV_REREG_MR_CHANGE_ACCESS, nullptr, ALL);
    for (const Request& request : requests())
        expect_refused(request, {.address = 0, .rkey = mr.rkey()});
}

TEST_P(Protection, NothingAfterDereg) {
    auto mr = second_mr(FULL_ACCESS);
    mr.rereg(IBV_REREG_MR_CHANGE_ACCESS, nullptr, ALL);
    const Remote remote{.address = 0, .rkey = mr.rkey()};
    mr.dereg();
    for (const Request& request : requests())
        expect_refused(request, remote);
}

// Rule: I4
TEST_P(Protection, NothingAfterRevoke) {
    SKIP_IF_FOREIGN();
    device.mr.rereg(IBV_REREG_MR_CHANGE_ACCESS, nullptr, ALL);
    const auto all = requests();
    vram.revoke(device.buffer.fd());
    // The CPU's view is gone with the memory: compare the host's only.
    for (const Request& request : all) {
        request.post(device.remote());
        EXPECT_EQ(IBV_WC_REM_ACCESS_ERR, complete(peer)) << request.name;
        EXPECT_TRUE(has_pattern(host.bytes(), 2)) << request.name;
        reconnect();
    }
}

TEST_P(Protection, TheReceiverOfARefusedImmediateIsTold) {
    gpu.qp.post_recv(7, {});
    peer.qp.post_write_imm(1, host.sge(0, 8), device.remote(SIZE), 3);
    EXPECT_EQ(IBV_WC_REM_ACCESS_ERR, complete(peer));
    const ibv_wc wc = gpu.cq.wait();
    EXPECT_EQ(7U, wc.wr_id);
    EXPECT_EQ(IBV_WC_REM_ACCESS_ERR, wc.status) << ibv_wc_status_str(wc.status);
    EXPECT_TRUE(as_expected());
}

// The owner asks for too much.

class LocalProtection : public ShadowTest {
  protected:
    /// Sending from, and receiving into, memory that must not be used like that.
    void expect_source_refused(const ibv_sge& bad) {
        gpu.qp.post_write(1, bad, host.remote());
        EXPECT_EQ(IBV_WC_LOC_PROT_ERR, complete(gpu)) << "WRITE";
        reconnect();
        peer.qp.post_recv(2, host.sge(0, SIZE));
        gpu.qp.post_send(1, bad);
        EXPECT_EQ(IBV_WC_LOC_PROT_ERR, complete(gpu)) << "SEND";
        reconnect();
        EXPECT_TRUE(as_expected());
    }

    /// @p bad must be of 8 bytes.
    void expect_target_refused(const ibv_sge& bad) {
        gpu.qp.post_read(1, bad, host.remote());
        EXPECT_EQ(IBV_WC_LOC_PROT_ERR, complete(gpu)) << "READ";
        reconnect();

        gpu.qp.post_recv(1, bad);
        peer.qp.post_send(2, host.sge(0, 8));
        EXPECT_EQ(IBV_WC_LOC_PROT_ERR, complete(gpu)) << "RECV";
        EXPECT_EQ(IBV_WC_REM_OP_ERR, complete(peer)) << "RECV";
        reconnect();

        // The other side's memory has been added to by then.
        gpu.qp.post_fetch_add(1, bad, host.remote(8), 1);
        EXPECT_EQ(IBV_WC_LOC_PROT_ERR, complete(gpu)) << "fetch-and-add";
        expect_host_word(8, host.word(8));
        reconnect();
        EXPECT_TRUE(as_expected());
    }
};

INSTANTIATE_TEST_SUITE_P(Buffers, LocalProtection, testing::ValuesIn(BUFFER_CASES), case_name);
INSTANTIATE_TEST_SUITE_P(Foreign, LocalProtection, testing::ValuesIn(FOREIGN_CASES), case_name);

TEST_P(LocalProtection, BeyondTheEnd) {
    const HostMemory ordinary(gpu.pd, SIZE); // it is the same there
    for (const ibv_sge& bad : {device.sge(SIZE - 4, 8), ordinary.sge(SIZE - 4, 8)}) {
        expect_source_refused(bad);
        expect_target_refused(bad);
    }
}

TEST_P(LocalProtection, KeyThatIsNone) {
    ibv_sge bad = device.sge(0, 8);
    bad.lkey ^= 1;
    expect_source_refused(bad);
    expect_target_refused(bad);
}

TEST_P(LocalProtection, AnotherProtectionDomain) {
    const Pd other(gpu.context.get());
    const auto mr = Mr::dmabuf(other, device.buffer.fd(), 0, SIZE, 0);
    const ibv_sge bad{.addr = 0, .length = 8, .lkey = mr.lkey()};
    expect_source_refused(bad);
    expect_target_refused(bad);
}

TEST_P(LocalProtection, NoLocalWrite) {
    const auto mr = second_mr(IBV_ACCESS_REMOTE_READ);
    expect_target_refused({.addr = 0, .length = 8, .lkey = mr.lkey()});
    // To read from it needs no right.
    gpu.qp.post_write(1, ibv_sge{.addr = 0, .length = 8, .lkey = mr.lkey()}, host.remote());
    succeed(gpu);
    expect_device_to_host(0, 0, 8);
    EXPECT_TRUE(as_expected());
}

} // namespace
} // namespace pfn
