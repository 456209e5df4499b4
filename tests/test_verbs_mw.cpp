// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
//
// Memory windows on device memory: a key of its own for a part of an MR, with
// fewer rights, that comes and goes without the MR. Type 1 windows are bound with
// ibv_bind_mw() and good for the whole protection domain, type 2 windows with a
// work request and for one queue pair only.
//
// uverbs refuses IBV_ACCESS_MW_BIND when a dma-buf is registered, ibv_rereg_mr()
// adds it.
#include "support/shadow_test.hpp"

#include <sys/utsname.h>

#include <string_view>

namespace pfn {
namespace {

constexpr unsigned READ_WRITE = IBV_ACCESS_REMOTE_WRITE | IBV_ACCESS_REMOTE_READ;
constexpr unsigned ALL_OF_IT = READ_WRITE | IBV_ACCESS_REMOTE_ATOMIC;

class Windows : public ShadowTest {
  protected:
    Windows() { allow_windows(device.mr); }

    static void allow_windows(const Mr& mr) {
        mr.rereg(IBV_REREG_MR_CHANGE_ACCESS, nullptr, FULL_ACCESS | IBV_ACCESS_MW_BIND);
    }

    /// A part of the MR, as binding wants it.
    [[nodiscard]] ibv_mw_bind_info part(std::uint64_t address, std::uint64_t length,
                                        unsigned access = ALL_OF_IT) const {
        return part_of(device.mr, address, length, access);
    }
    static ibv_mw_bind_info part_of(const Mr& mr, std::uint64_t address, std::uint64_t length,
                                    unsigned access = ALL_OF_IT) {
        return {.mr = mr.get(), .addr = address, .length = length, .mw_access_flags = access};
    }
    static ibv_mw_bind_info nothing() { return {}; }

    /// Bind a type 1 window and return how that ends; @p window has a new key.
    ibv_wc_status bind(const Mw& window, const ibv_mw_bind_info& info) {
        ibv_mw_bind bind{.wr_id = 1, .send_flags = IBV_SEND_SIGNALED, .bind_info = info};
        EXPECT_EQ(0, ibv_bind_mw(gpu.qp.get(), window.get(), &bind));
        return complete(gpu);
    }

    /// Bind a type 2 window to the gpu's queue pair and return how that ends.
    ibv_wc_status bind(const Mw& window, std::uint32_t rkey, const ibv_mw_bind_info& info) {
        gpu.qp.post_bind_mw(1, window.get(), rkey, info);
        const auto status = complete(gpu);
        if (status == IBV_WC_SUCCESS)
            window.get()->rkey = rkey; // rxe compares it when it is bound again
        return status;
    }

    /// A window that is bound; it must go before a queue pair that it is bound to.
    struct Bound {
        Mw window;
        std::uint32_t rkey;
    };
    Bound bound(ibv_mw_type type, const ibv_mw_bind_info& info) {
        Mw window(gpu.pd, type);
        if (type == IBV_MW_TYPE_1) {
            EXPECT_EQ(IBV_WC_SUCCESS, bind(window, info));
        } else {
            EXPECT_EQ(IBV_WC_SUCCESS, bind(window, ibv_inc_rkey(window.get()->rkey), info));
        }
        const std::uint32_t rkey = window.get()->rkey;
        return {.window = std::move(window), .rkey = rkey};
    }

    /// Do what a window on the bytes [4000, 13000) of the MR is for.
    void use(std::uint32_t rkey) {
        renew_host();
        write(host.sge(5, 9000), {.address = 4000, .rkey = rkey});
        expect_host_to_device(5, 4000, 9000);
        EXPECT_TRUE(as_expected());
        read(host.sge(20000, 9000), {.address = 4000, .rkey = rkey});
        expect_device_to_host(4000, 20000, 9000);
        EXPECT_TRUE(as_expected());
    }

    void expect_dead(std::uint32_t rkey) {
        peer.qp.post_write(1, host.sge(5, 9000), {.address = 4000, .rkey = rkey});
        EXPECT_EQ(IBV_WC_REM_ACCESS_ERR, complete(peer));
        EXPECT_TRUE(as_expected());
    }

    void expect_mr_works(const Mr& mr) {
        renew_host();
        write(host.sge(5, 9000), {.address = 4000, .rkey = mr.rkey()});
        expect_host_to_device(5, 4000, 9000);
        EXPECT_TRUE(as_expected());
    }
};

INSTANTIATE_TEST_SUITE_P(Buffers, Windows, testing::ValuesIn(BUFFER_CASES), case_name);
INSTANTIATE_TEST_SUITE_P(Foreign, Windows, testing::ValuesIn(FOREIGN_CASES), case_name);

// Both types.

TEST_P(Windows, LetAPeerIn) {
    for (const ibv_mw_type type : {IBV_MW_TYPE_1, IBV_MW_TYPE_2}) {
        const auto window = bound(type, part(4000, 9000));
        use(window.rkey);
        // 8 bytes at an address that is a multiple of 8, in the window.
        const auto before = device_word(4096);
        peer.qp.post_fetch_add(1, host.sge(0, 8), {.address = 4096, .rkey = window.rkey}, 3);
        succeed(peer);
        expect_device_word(4096, before + 3);
        expect_host_word(0, before);
        peer.qp.post_atomic_write(1, {.address = 4104, .rkey = window.rkey}, 77);
        succeed(peer);
        expect_device_word(4104, 77);
        EXPECT_TRUE(as_expected());
    }
}

TEST_P(Windows, LetNobodyDoWhatTheyDoNotAllow) {
    for (const ibv_mw_type type : {IBV_MW_TYPE_1, IBV_MW_TYPE_2}) {
        const auto refused = [&](unsigned access, auto&& post) {
            {
                const auto window = bound(type, part(4000, 9000, access));
                post(Remote{.address = 4096, .rkey = window.rkey});
                EXPECT_EQ(IBV_WC_REM_ACCESS_ERR, complete(peer));
                EXPECT_TRUE(as_expected());
            }
            reconnect();
        };
        refused(IBV_ACCESS_REMOTE_READ,
                [&](Remote to) { peer.qp.post_write(1, host.sge(0, 8), to); });
        refused(IBV_ACCESS_REMOTE_READ, [&](Remote to) { peer.qp.post_atomic_write(1, to, 1); });
        refused(IBV_ACCESS_REMOTE_WRITE,
                [&](Remote from) { peer.qp.post_read(1, host.sge(0, 8), from); });
        refused(READ_WRITE, [&](Remote at) { peer.qp.post_fetch_add(1, host.sge(0, 8), at, 1); });
    }
}

TEST_P(Windows, LetNobodyOut) {
    for (const ibv_mw_type type : {IBV_MW_TYPE_1, IBV_MW_TYPE_2}) {
        const auto refused = [&](auto&& post) {
            {
                const auto window = bound(type, part(4096, 9000));
                post(window.rkey);
                EXPECT_EQ(IBV_WC_REM_ACCESS_ERR, complete(peer));
                EXPECT_TRUE(as_expected());
            }
            reconnect();
        };
        constexpr std::uint64_t END = 4096 + 9000;
        for (const std::uint64_t address : {std::uint64_t{0}, std::uint64_t{4088}, END - 7, END}) {
            refused([&](std::uint32_t rkey) {
                peer.qp.post_write(1, host.sge(0, 8), {.address = address, .rkey = rkey});
            });
            refused([&](std::uint32_t rkey) {
                peer.qp.post_read(1, host.sge(0, 8), {.address = address, .rkey = rkey});
            });
        }
        for (const std::uint64_t address : {std::uint64_t{4088}, END}) { // aligned
            refused([&](std::uint32_t rkey) {
                peer.qp.post_fetch_add(1, host.sge(0, 8), {.address = address, .rkey = rkey}, 1);
            });
            refused([&](std::uint32_t rkey) {
                peer.qp.post_atomic_write(1, {.address = address, .rkey = rkey}, 1);
            });
        }
        // More than one packet, of which the last is outside.
        refused([&](std::uint32_t rkey) {
            peer.qp.post_write(1, host.sge(0, 9001), {.address = 4096, .rkey = rkey});
        });
    }
}

TEST_P(Windows, CanBeOfASingleByte) {
    for (const ibv_mw_type type : {IBV_MW_TYPE_1, IBV_MW_TYPE_2}) {
        const auto window = bound(type, part(SIZE - 1, 1));
        renew_host();
        write(host.sge(9, 1), {.address = SIZE - 1, .rkey = window.rkey});
        expect_host_to_device(9, SIZE - 1, 1);
        EXPECT_TRUE(as_expected());
    }
}

TEST_P(Windows, FollowTheMrWhenItMoves) {
    SKIP_IF_FOREIGN();
    for (const ibv_mw_type type : {IBV_MW_TYPE_1, IBV_MW_TYPE_2}) {
        const auto window = bound(type, part(4000, 9000));
        vram.move(device.buffer.fd(), PFN_VRAM_PLACEMENT_SYSTEM);
        use(window.rkey);
        vram.move(device.buffer.fd(), PFN_VRAM_PLACEMENT_VRAM, page_chunk());
        use(window.rkey);
    }
    EXPECT_EQ(4U, query_mr(device.mr).faults);
}

// Rule: I4
TEST_P(Windows, DieWithTheMemory) {
    SKIP_IF_FOREIGN();
    for (const ibv_mw_type type : {IBV_MW_TYPE_1, IBV_MW_TYPE_2}) {
        {
            const DeviceMemory revoked(vram, gpu.pd, spec());
            allow_windows(revoked.mr);
            const auto window = bound(type, part_of(revoked.mr, 4000, 9000));
            vram.revoke(revoked.buffer.fd());
            expect_dead(window.rkey);
        }
        reconnect();
    }
}

TEST_P(Windows, KeepTheirMr) {
    for (const ibv_mw_type type : {IBV_MW_TYPE_1, IBV_MW_TYPE_2}) {
        auto mr = second_mr(FULL_ACCESS);
        allow_windows(mr);
        {
            const auto window = bound(type, part_of(mr, 4000, 9000));
            ASSERT_ERRNO(EINVAL, mr.dereg());
            // Nor may it change under them: they were bound by the rights it has.
            EXPECT_ERRNO(EINVAL,
                         mr.rereg(IBV_REREG_MR_CHANGE_ACCESS, nullptr, IBV_ACCESS_REMOTE_READ));
            use(window.rkey);
        }
        EXPECT_ERRNO(0, mr.dereg());
    }
}

// What cannot be bound. The queue pair is in error then.

TEST_P(Windows, AreNotBoundWithoutTheRightTo) {
    for (const ibv_mw_type type : {IBV_MW_TYPE_1, IBV_MW_TYPE_2}) {
        const auto refused = [&](const ibv_mw_bind_info& info, const char* what) {
            {
                const Mw window(gpu.pd, type);
                if (type == IBV_MW_TYPE_1) {
                    EXPECT_EQ(IBV_WC_MW_BIND_ERR, bind(window, info)) << what;
                } else {
                    EXPECT_EQ(IBV_WC_MW_BIND_ERR,
                              bind(window, ibv_inc_rkey(window.get()->rkey), info))
                        << what;
                }
            }
            reconnect();
        };
        const auto plain = second_mr(FULL_ACCESS);
        refused(part_of(plain, 4000, 9000), "MR without MW_BIND");
        const auto readonly = second_mr(IBV_ACCESS_REMOTE_READ);
        readonly.rereg(IBV_REREG_MR_CHANGE_ACCESS, nullptr,
                       IBV_ACCESS_REMOTE_READ | IBV_ACCESS_MW_BIND);
        refused(part_of(readonly, 4000, 9000, IBV_ACCESS_REMOTE_WRITE), "write to a read-only MR");
        refused(part_of(readonly, 4000, 9000, IBV_ACCESS_REMOTE_ATOMIC),
                "atomics on a read-only MR");

        const auto later = Mr::dmabuf(gpu.pd, device.buffer.fd(), 8192, 8192, 8192);
        allow_windows(later);
        refused(part_of(later, 8191, 2), "begins before the MR");
        refused(part_of(later, 16383, 2), "ends after the MR");
        refused(part_of(later, 8192, 8193), "is longer than the MR");
        refused(part_of(later, 0, 16), "is outside of the MR");
        refused(part_of(later, ~std::uint64_t{0} - 7, 16), "wraps around");
        if (type == IBV_MW_TYPE_2) {
            refused(part_of(later, 16000, 8192, ALL_OF_IT | IBV_ACCESS_ZERO_BASED),
                    "zero-based, ends after the MR");
        }
    }
    EXPECT_TRUE(as_expected());
}

TEST_P(Windows, AreNotBoundAcrossProtectionDomains) {
    utsname kernel{};
    ASSERT_EQ(0, ::uname(&kernel));
    if (std::string_view(kernel.release).starts_with("7.2."))
        GTEST_SKIP() << "rxe does not look before 7.3";
    const Pd other(gpu.context.get());
    const auto foreign = Mr::dmabuf(other, device.buffer.fd(), 0, SIZE, 0);
    allow_windows(foreign);
    {
        const Mw window(gpu.pd, IBV_MW_TYPE_2);
        EXPECT_EQ(IBV_WC_MW_BIND_ERR,
                  bind(window, ibv_inc_rkey(window.get()->rkey), part_of(foreign, 0, 100)));
    }
    reconnect();
    const Mw window(gpu.pd, IBV_MW_TYPE_1);
    ibv_mw_bind info{.wr_id = 1, .send_flags = 0, .bind_info = part_of(foreign, 0, 100)};
    EXPECT_EQ(EPERM, ibv_bind_mw(gpu.qp.get(), window.get(), &info)); // libibverbs looks
}

// Type 1: a new bind ends the old one.

TEST_P(Windows, OfType1BoundAgainHaveANewKey) {
    const Mw window(gpu.pd, IBV_MW_TYPE_1);
    ASSERT_EQ(IBV_WC_SUCCESS, bind(window, part(4000, 9000)));
    const auto old = window.get()->rkey;
    ASSERT_EQ(IBV_WC_SUCCESS, bind(window, part(3000, 20000)));
    EXPECT_NE(old, window.get()->rkey);
    write(host.sge(0, 20000), {.address = 3000, .rkey = window.get()->rkey});
    expect_host_to_device(0, 3000, 20000);
    expect_dead(old);
}

TEST_P(Windows, OfType1BoundToAnotherMrLeaveTheFirst) {
    const Mw window(gpu.pd, IBV_MW_TYPE_1);
    auto first = second_mr(FULL_ACCESS);
    allow_windows(first);
    ASSERT_EQ(IBV_WC_SUCCESS, bind(window, part_of(first, 4000, 9000)));
    ASSERT_EQ(IBV_WC_SUCCESS, bind(window, part(4000, 9000)));
    EXPECT_ERRNO(0, first.dereg());
    write(host.sge(5, 9000), {.address = 4000, .rkey = window.get()->rkey});
    expect_host_to_device(5, 4000, 9000);
    EXPECT_TRUE(as_expected());
}

TEST_P(Windows, OfType1BoundToNothingAreDead) {
    auto mr = second_mr(FULL_ACCESS);
    allow_windows(mr);
    const Mw window(gpu.pd, IBV_MW_TYPE_1);
    ASSERT_EQ(IBV_WC_SUCCESS, bind(window, part_of(mr, 4000, 9000)));
    const auto old = window.get()->rkey;
    ASSERT_EQ(IBV_WC_SUCCESS, bind(window, nothing()));
    EXPECT_ERRNO(0, mr.dereg());
    expect_dead(old);
    reconnect();
    expect_dead(window.get()->rkey);
}

TEST_P(Windows, OfType1WorkOnEveryQueuePair) {
    const auto window = bound(IBV_MW_TYPE_1, part(4000, 9000));
    reconnect();
    use(window.rkey);
}

TEST_P(Windows, OfType1CannotBeInvalidated) {
    const auto window = bound(IBV_MW_TYPE_1, part(4000, 9000));
    gpu.qp.post_local_inv(1, window.rkey);
    EXPECT_EQ(IBV_WC_LOC_QP_OP_ERR, complete(gpu));
    reconnect();
    use(window.rkey);
}

// Type 2.

TEST_P(Windows, OfType2WorkOnOneQueuePairOnly) {
    Qp other_gpu(gpu.context, gpu.pd, gpu.cq);
    Qp other_peer(peer.context, peer.pd, peer.cq);
    connect(other_gpu, other_peer);
    const auto window = bound(IBV_MW_TYPE_2, part(4000, 9000));
    other_peer.post_write(1, host.sge(0, 8), {.address = 4000, .rkey = window.rkey});
    EXPECT_EQ(IBV_WC_REM_ACCESS_ERR, complete(peer));
    EXPECT_TRUE(as_expected());
    use(window.rkey);
}

TEST_P(Windows, OfType2AreBoundOnce) {
    const auto window = bound(IBV_MW_TYPE_2, part(4000, 9000));
    EXPECT_EQ(IBV_WC_MW_BIND_ERR, bind(window.window, ibv_inc_rkey(window.rkey), part(0, 100)));
}

TEST_P(Windows, OfType2AreNotBoundToNothing) {
    const Mw window(gpu.pd, IBV_MW_TYPE_2);
    EXPECT_EQ(IBV_WC_MW_BIND_ERR, bind(window, ibv_inc_rkey(window.get()->rkey), nothing()));
}

TEST_P(Windows, OfType2CanBeZeroBased) {
    const auto info = part(4096, 9000, ALL_OF_IT | IBV_ACCESS_ZERO_BASED);
    {
        const auto window = bound(IBV_MW_TYPE_2, info);
        renew_host();
        write(host.sge(5, 9000), {.address = 0, .rkey = window.rkey});
        expect_host_to_device(5, 4096, 9000);
        const auto before = device_word(4096 + 8);
        peer.qp.post_fetch_add(1, host.sge(0, 8), {.address = 8, .rkey = window.rkey}, 3);
        succeed(peer);
        expect_device_word(4096 + 8, before + 3);
        expect_host_word(0, before);
        peer.qp.post_atomic_write(1, {.address = 16, .rkey = window.rkey}, 77);
        succeed(peer);
        expect_device_word(4096 + 16, 77);
        read(host.sge(20000, 8999), {.address = 1, .rkey = window.rkey});
        expect_device_to_host(4097, 20000, 8999);
        EXPECT_TRUE(as_expected());
    }
    for (const std::uint64_t address :
         {std::uint64_t{8993}, std::uint64_t{9000}, ~std::uint64_t{7}}) {
        {
            const auto window = bound(IBV_MW_TYPE_2, info);
            peer.qp.post_write(1, host.sge(0, 8), {.address = address, .rkey = window.rkey});
            EXPECT_EQ(IBV_WC_REM_ACCESS_ERR, complete(peer)) << address;
            EXPECT_TRUE(as_expected());
        }
        reconnect();
    }
}

TEST_P(Windows, AreBoundThroughTheNewerInterface) {
    const Mw window(gpu.pd, IBV_MW_TYPE_2);
    const std::uint32_t rkey = ibv_inc_rkey(window.get()->rkey);
    const auto info = part(4000, 9000);
    gpu.qp.post_wr(1, [&](ibv_qp_ex* qp) { ibv_wr_bind_mw(qp, window.get(), rkey, &info); });
    EXPECT_EQ(IBV_WC_BIND_MW, succeed(gpu).opcode);
    write(host.sge(5, 9000), {.address = 4000, .rkey = rkey});
    expect_host_to_device(5, 4000, 9000);
    EXPECT_TRUE(as_expected());
    gpu.qp.post_wr(1, [&](ibv_qp_ex* qp) { ibv_wr_local_inv(qp, rkey); });
    EXPECT_EQ(IBV_WC_LOCAL_INV, succeed(gpu).opcode);
    expect_dead(rkey);
}

// Invalidation.

TEST_P(Windows, OfType2InvalidatedAreDeadAndCanBeBoundAgain) {
    auto mr = second_mr(FULL_ACCESS);
    allow_windows(mr);
    const auto window = bound(IBV_MW_TYPE_2, part_of(mr, 4000, 9000));
    gpu.qp.post_local_inv(2, window.rkey);
    succeed(gpu);
    EXPECT_ERRNO(0, mr.dereg());
    const auto again = ibv_inc_rkey(window.rkey);
    ASSERT_EQ(IBV_WC_SUCCESS, bind(window.window, again, part(4000, 9000)));
    use(again);
    expect_dead(window.rkey);
}

TEST_P(Windows, OfType2AreInvalidatedByTheSenderToo) {
    const auto window = bound(IBV_MW_TYPE_2, part(4000, 9000));
    use(window.rkey);
    gpu.qp.post_recv(3, device.sge(20000, 9000));
    peer.qp.post_send_inv(4, host.sge(0, 9000), window.rkey);
    succeed(peer);
    const ibv_wc wc = succeed(gpu);
    EXPECT_EQ(IBV_WC_GRH | IBV_WC_WITH_INV, wc.wc_flags);
    EXPECT_EQ(window.rkey, wc.invalidated_rkey);
    EXPECT_EQ(9000U, wc.byte_len);
    expect_host_to_device(0, 20000, 9000);
    EXPECT_TRUE(as_expected());
    expect_dead(window.rkey);
}

TEST_P(Windows, OfType2AreInvalidatedOnce) {
    {
        const auto window = bound(IBV_MW_TYPE_2, part(4000, 9000));
        gpu.qp.post_local_inv(2, window.rkey);
        succeed(gpu);
        gpu.qp.post_local_inv(3, window.rkey);
        EXPECT_EQ(IBV_WC_LOC_QP_OP_ERR, complete(gpu));
    }
    reconnect();
    const auto window = bound(IBV_MW_TYPE_2, part(4000, 9000));
    for (const std::uint64_t id : {1U, 2U})
        gpu.qp.post_recv(id, device.sge(20000, 8));
    peer.qp.post_send_inv(4, host.sge(0, 8), window.rkey);
    succeed(peer);
    succeed(gpu);
    peer.qp.post_send_inv(4, host.sge(0, 8), window.rkey);
    EXPECT_EQ(IBV_WC_REM_INV_REQ_ERR, complete(gpu));
}

TEST_P(Windows, OfType2NeverBoundCannotBeInvalidated) {
    const Mw window(gpu.pd, IBV_MW_TYPE_2);
    gpu.qp.post_local_inv(2, window.get()->rkey);
    EXPECT_EQ(IBV_WC_LOC_QP_OP_ERR, complete(gpu));
}

TEST_P(Windows, OfType2AreInvalidatedOnTheirQueuePairOnly) {
    Qp other_gpu(gpu.context, gpu.pd, gpu.cq);
    Qp other_peer(peer.context, peer.pd, peer.cq);
    connect(other_gpu, other_peer);
    const auto window = bound(IBV_MW_TYPE_2, part(4000, 9000));
    other_gpu.post_local_inv(2, window.rkey);
    EXPECT_EQ(IBV_WC_LOC_QP_OP_ERR, complete(gpu));
    use(window.rkey);
}

TEST_P(Windows, OfType2EndWithTheirQueuePair) {
    auto mr = second_mr(FULL_ACCESS);
    allow_windows(mr);
    const auto window = bound(IBV_MW_TYPE_2, part_of(mr, 4000, 9000));
    reconnect(); // new queue pairs, the old ones are gone
    EXPECT_ERRNO(0, mr.dereg());
    expect_dead(window.rkey);
    reconnect();
    // The window itself lives on.
    const auto again = ibv_inc_rkey(window.rkey);
    EXPECT_EQ(IBV_WC_SUCCESS, bind(window.window, again, part(4000, 9000)));
    use(again);
}

TEST_P(Windows, KeyThatIsNoneCannotBeInvalidated) {
    const auto window = bound(IBV_MW_TYPE_2, part(4000, 9000));
    gpu.qp.post_local_inv(2, window.rkey ^ 1);
    EXPECT_EQ(IBV_WC_LOC_QP_OP_ERR, complete(gpu));
}

TEST_P(Windows, AnMrCannotBeInvalidated) {
    // Not one that was registered: only what a REG_MR work request has made, which
    // user space cannot.
    gpu.qp.post_local_inv(2, device.mr.rkey());
    EXPECT_EQ(IBV_WC_LOC_QP_OP_ERR, complete(gpu));
    reconnect();
    expect_mr_works(device.mr);
}

TEST_P(Windows, AnMrCannotBeInvalidatedBySending) {
    // The data has arrived and been acknowledged before the receiver looks at the
    // key, so only the receiver learns of it.
    gpu.qp.post_recv(3, device.sge(20000, 8));
    peer.qp.post_send_inv(4, host.sge(0, 8), device.mr.rkey());
    const auto receiver = complete(gpu);
    EXPECT_EQ(IBV_WC_REM_INV_REQ_ERR, receiver) << ibv_wc_status_str(receiver);
    const auto sender = complete(peer);
    EXPECT_EQ(IBV_WC_SUCCESS, sender) << ibv_wc_status_str(sender);
    expect_host_to_device(0, 20000, 8);
    reconnect();
    expect_mr_works(device.mr);
}

} // namespace
} // namespace pfn
