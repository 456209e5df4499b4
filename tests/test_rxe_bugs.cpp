// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
//
// Bugs of the stock soft-RoCE that our patch series fixes, a test for each, on
// ordinary memory. A test fails without its patch: names of patches are in the
// comments, the patches in kernel/ib_umem_pfn/rxe/patches, or provider/librxe. Some
// of the bugs kill the kernel.
#include "common/process.hpp"
#include "support/long_run.hpp"
#include "support/rdma_test.hpp"
#include "support/slow_function.hpp"

#include <poll.h>
#include <sys/mman.h>

#include <algorithm>
#include <chrono>
#include <fstream>
#include <functional>
#include <future>
#include <thread>

namespace pfn {
namespace {

using namespace std::chrono_literals;

constexpr unsigned WITH_WINDOWS = FULL_ACCESS | IBV_ACCESS_MW_BIND | IBV_ACCESS_FLUSH_GLOBAL;
constexpr unsigned WINDOW_ACCESS = IBV_ACCESS_REMOTE_READ | IBV_ACCESS_REMOTE_WRITE |
                                   IBV_ACCESS_REMOTE_ATOMIC | IBV_ACCESS_FLUSH_GLOBAL;

/// The stock rxe stops waiting for whoever uses an object after 50 s.
constexpr auto RXE_PATIENCE = 50s;

class RxeBug : public RdmaTest {
  protected:
    static constexpr std::uint64_t SIZE = 64 * KIB;

    /// Bind @p window, of type 2, on @p endpoint and say how that ends.
    ibv_wc_status bind(Endpoint& endpoint, const Mw& window, const ibv_mw_bind_info& part) {
        const std::uint32_t rkey = ibv_inc_rkey(window.get()->rkey);
        endpoint.qp.post_bind_mw(1, window.get(), rkey, part);
        const ibv_wc_status status = complete(endpoint);
        if (status == IBV_WC_SUCCESS)
            window.get()->rkey = rkey;
        return status;
    }

    /// The first @p length bytes of @p memory, or those from @p offset on.
    static ibv_mw_bind_info part_of(const HostMemory& memory, std::uint64_t offset,
                                    std::uint64_t length, unsigned access = WINDOW_ACCESS) {
        return {.mr = memory.mr.get(),
                .addr = memory.memory.address() + offset,
                .length = length,
                .mw_access_flags = access};
    }

    /// How often the peer's queue pairs have sent something again.
    static int retries() {
        std::ifstream file("/sys/class/infiniband/" + std::string(PEER_DEVICE) +
                           "/ports/1/hw_counters/completer_retry_err");
        int value = -1;
        file >> value;
        return value;
    }

    HostMemory host{peer.pd, SIZE};
};

// ---- on-demand paging

class RxeOdp : public RxeBug {
  protected:
    static constexpr unsigned ON_DEMAND = FULL_ACCESS | IBV_ACCESS_ON_DEMAND;

    static int advise(const Endpoint& endpoint, ibv_advise_mr_advice advice, bool wait,
                      ibv_sge piece) {
        return ibv_advise_mr(endpoint.pd.get(), advice, wait ? IBV_ADVISE_MR_FLAG_FLUSH : 0, &piece,
                             1);
    }
};

// Advance the buffer in copies across pages of an ODP MR
TEST_F(RxeOdp, PacketsMayCrossPages) {
    const HostMemory odp(gpu.pd, SIZE, ON_DEMAND);
    fill_pattern(host.bytes(), 1);
    write(host.sge(0, 20000), odp.remote(3000));
    EXPECT_TRUE(has_pattern(odp.bytes().subspan(3000, 20000), 1));

    fill_pattern(odp.bytes(), 2);
    read(host.sge(100, 20000), odp.remote(3000));
    EXPECT_TRUE(has_pattern(host.bytes().subspan(100, 20000), 2, 3000));

    fill_pattern(host.bytes(), 3);
    gpu.qp.post_recv(1, odp.sge(3000, 20000));
    peer.qp.post_send(2, host.sge(0, 20000));
    EXPECT_EQ(IBV_WC_SUCCESS, complete(peer));
    EXPECT_EQ(IBV_WC_SUCCESS, complete(gpu));
    EXPECT_TRUE(has_pattern(odp.bytes().subspan(3000, 20000), 3));
}

// Refuse advise_mr on MRs that are not ODP MRs
TEST_F(RxeOdp, OnlyOdpMrsTakeAdvice) {
    for (const bool wait : {true, false}) {
        EXPECT_EQ(Errno{EOPNOTSUPP},
                  Errno{advise(peer, IBV_ADVISE_MR_ADVICE_PREFETCH, wait, host.sge(0, SIZE))});
    }
}

// Find the pages of an ODP MR that has its own iova
TEST_F(RxeOdp, MayHaveItsOwnIova) {
    constexpr std::uint64_t IOVA = 0x10000;
    const Mapping memory = Mapping::anonymous(SIZE);
    const std::unique_ptr<ibv_mr, VerbsDelete<ibv_dereg_mr>> mr(
        ibv_reg_mr_iova(gpu.pd.get(), memory.bytes().data(), SIZE, IOVA, ON_DEMAND));
    ASSERT_TRUE(mr);
    for (const bool wait : {true, false}) {
        EXPECT_EQ(Errno{0}, Errno{advise(gpu, IBV_ADVISE_MR_ADVICE_PREFETCH_WRITE, wait,
                                         {.addr = IOVA + 4096, .length = 8192, .lkey = mr->lkey})});
    }
    const auto remote = [&](std::uint64_t offset) {
        return Remote{.address = IOVA + offset, .rkey = mr->rkey};
    };
    fill_pattern(host.bytes(), 1);
    write(host.sge(0, 9000), remote(100));
    EXPECT_TRUE(has_pattern(memory.bytes().subspan(100, 9000), 1));
    fill_pattern(memory.bytes(), 2);
    read(host.sge(0, 9000), remote(SIZE - 9000));
    EXPECT_TRUE(has_pattern(host.bytes().first(9000), 2, SIZE - 9000));

    std::ranges::fill(memory.bytes(), std::byte{0});
    peer.qp.post_fetch_add(1, host.sge(0, 8), remote(SIZE - 8), 5);
    EXPECT_EQ(IBV_WC_SUCCESS, complete(peer));
    EXPECT_EQ(std::byte{5}, memory.bytes()[SIZE - 8]);
    peer.qp.post_atomic_write(1, remote(SIZE - 16), 7);
    EXPECT_EQ(IBV_WC_SUCCESS, complete(peer));
    EXPECT_EQ(std::byte{7}, memory.bytes()[SIZE - 16]);
}

// Let ODP MRs be larger than 2 GiB
TEST_F(RxeOdp, MayBeLarge) {
    constexpr std::uint64_t LARGE = 3 * 1024 * MIB;
    const Mapping memory(-1, LARGE, Mapping::PROT_DEFAULT,
                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE);
    Mr mr;
    ASSERT_ERRNO(0, mr = Mr::host(gpu.pd, memory.bytes(), ON_DEMAND));
    fill_pattern(host.bytes(), 1);
    write(host.sge(0, 9000), {.address = memory.address() + LARGE - 9000, .rkey = mr.rkey()});
    EXPECT_TRUE(has_pattern(memory.bytes().last(9000), 1));
}

// Let advise_mr prefetch ODP MRs that are read-only
TEST_F(RxeOdp, ReadOnlyMrsTakeAdvice) {
    const HostMemory odp(gpu.pd, SIZE, IBV_ACCESS_REMOTE_READ | IBV_ACCESS_ON_DEMAND);
    for (const bool wait : {true, false}) {
        SCOPED_TRACE(wait);
        EXPECT_EQ(Errno{0},
                  Errno{advise(gpu, IBV_ADVISE_MR_ADVICE_PREFETCH, wait, odp.sge(0, SIZE))});
        EXPECT_EQ(Errno{0}, Errno{advise(gpu, IBV_ADVISE_MR_ADVICE_PREFETCH_NO_FAULT, wait,
                                         odp.sge(0, SIZE))});
        EXPECT_EQ(Errno{EPERM},
                  Errno{advise(gpu, IBV_ADVISE_MR_ADVICE_PREFETCH_WRITE, wait, odp.sge(0, SIZE))});
    }
}

// ---- work requests that fail

using RxeRequests = RxeBug;

// Complete a failed send with its own error
TEST_F(RxeRequests, FailedSendIsNotJustFlushed) {
    ibv_sge nowhere = host.sge(0, 8);
    nowhere.lkey ^= 0xff;
    peer.qp.post_send(1, nowhere);
    peer.qp.post_send(2, host.sge(0, 8));
    EXPECT_NE(IBV_WC_WR_FLUSH_ERR, complete(peer));
    EXPECT_EQ(IBV_WC_WR_FLUSH_ERR, complete(peer));
}

// Report local protection errors as such
TEST_F(RxeRequests, BadMemoryIsALocalProtectionError) {
    const HostMemory read_only(gpu.pd, SIZE, IBV_ACCESS_REMOTE_READ);
    const HostMemory memory(gpu.pd, SIZE);
    ibv_sge unknown = memory.sge(0, 8);
    unknown.lkey ^= 0xff;
    const ibv_sge outside = memory.sge(SIZE - 4, 8);
    for (const ibv_sge& bad : {unknown, outside}) {
        gpu.qp.post_write(1, bad, host.remote());
        EXPECT_EQ(IBV_WC_LOC_PROT_ERR, complete(gpu));
        reconnect();
    }
    for (const ibv_sge& bad : {unknown, outside, read_only.sge(0, 8)}) {
        gpu.qp.post_recv(1, bad);
        peer.qp.post_send(2, host.sge(0, 8));
        EXPECT_EQ(IBV_WC_LOC_PROT_ERR, complete(gpu));
        EXPECT_EQ(IBV_WC_REM_OP_ERR, complete(peer));
        reconnect();
    }
}

// librxe-5-reset: forget a QP's completions when it is reset
TEST_F(RxeRequests, ResetForgetsWhatHasCompleted) {
    constexpr std::uint64_t MESSAGES = 8;
    constexpr int ROUNDS = 40; // several times around the CQ
    const auto reset = [](const Qp& qp) {
        ibv_qp_attr attr{};
        attr.qp_state = IBV_QPS_RESET;
        return Errno{ibv_modify_qp(qp.get(), &attr, IBV_QP_STATE)};
    };
    Qp stays(gpu.context, gpu.pd, gpu.cq);
    Qp its_peer(peer.context, peer.pd, peer.cq);
    connect(stays, its_peer);
    const HostMemory memory(gpu.pd, SIZE);
    for (int round = 0; round < ROUNDS; round++) {
        // rxe has told the receiver when it tells the sender.
        for (std::uint64_t i = 0; i < MESSAGES; i++) {
            gpu.qp.post_recv(100 + i, memory.sge(0, 8));
            peer.qp.post_send(0, host.sge(0, 8));
            ASSERT_EQ(IBV_WC_SUCCESS, complete(peer));
            stays.post_recv(i, memory.sge(0, 8));
            its_peer.post_send(0, host.sge(0, 8));
            ASSERT_EQ(IBV_WC_SUCCESS, complete(peer));
        }
        ASSERT_EQ(Errno{0}, reset(gpu.qp));
        for (std::uint64_t i = 0; i < MESSAGES; i++)
            ASSERT_EQ(i, gpu.cq.wait().wr_id) << "round " << round;
        ASSERT_FALSE(gpu.cq.poll());
        ASSERT_EQ(Errno{0}, reset(peer.qp));
        connect(gpu.qp, peer.qp);
    }
}

// Check the opcode of work requests from user space
TEST_F(RxeRequests, OpcodesThatAreNotForUserSpaceAreRefused) {
    // IB_WR_REG_MR, which has a kernel pointer in it; the one behind it, which is
    // the first that is not in rxe's table; two that are far away.
    for (const unsigned opcode : {0x20U, 0x21U, 0x10000000U, 0x80000000U}) {
        ibv_send_wr wr{};
        wr.opcode = static_cast<ibv_wr_opcode>(opcode); // NOLINT: that's the point
        peer.qp.post(wr);
        EXPECT_EQ(IBV_WC_LOC_QP_OP_ERR, complete(peer)) << "opcode " << opcode;
        reconnect();
    }
}

// Give up after 7 retries if the retry count is 7
TEST_F(RxeRequests, SevenRetriesAreSeven) {
    reconnect({.ack_timeout = 12, .retries = 7}); // 17 ms
    gpu.qp = Qp(gpu.context, gpu.pd, gpu.cq);     // nobody answers any more
    const int before = retries();
    peer.qp.post_write(1, host.sge(0, 8), {.address = 0, .rkey = 0});
    EXPECT_EQ(IBV_WC_RETRY_EXC_ERR, complete(peer));
    EXPECT_EQ(before + 7, retries());
}

/// "Last WQE reached" events that @p context has had, after waiting for the first.
int last_wqe_events(const Context& context) {
    pollfd ready{.fd = context.get()->async_fd, .events = POLLIN, .revents = 0};
    std::chrono::milliseconds patience = PATIENCE;
    int count = 0;
    while (::poll(&ready, 1, static_cast<int>(patience.count())) == 1) {
        ibv_async_event event{};
        if (ibv_get_async_event(context.get(), &event) != 0)
            throw_errno("ibv_get_async_event");
        const bool reached = event.event_type == IBV_EVENT_QP_LAST_WQE_REACHED;
        ibv_ack_async_event(&event);
        if (reached) {
            ++count;
            patience = std::chrono::milliseconds(0);
        }
    }
    return count;
}

// Report the last WQE of a shared receive queue once
TEST_F(RxeRequests, LastWqeIsReportedOnce) {
    const Srq srq(gpu.pd);
    const auto modify = [](const Qp& qp, ibv_qp_state state) {
        ibv_qp_attr attr{};
        attr.qp_state = state;
        return Errno{ibv_modify_qp(qp.get(), &attr, IBV_QP_STATE)};
    };
    Qp sharer(gpu.context, gpu.pd, gpu.cq, {.srq = srq.get()});
    for (int round = 0; round < 2; round++) {
        ASSERT_EQ(Errno{0}, modify(peer.qp, IBV_QPS_RESET));
        connect(sharer, peer.qp);
        ASSERT_EQ(Errno{0}, modify(sharer, IBV_QPS_ERR));
        ASSERT_EQ(1, last_wqe_events(gpu.context));
        for (int i = 0; i < 20; i++) {
            ASSERT_EQ(Errno{0}, modify(sharer, IBV_QPS_ERR));
            std::this_thread::yield();
        }
        // Reset waits for what that has set going.
        ASSERT_EQ(Errno{0}, modify(sharer, IBV_QPS_RESET));
        pollfd ready{.fd = gpu.context.get()->async_fd, .events = POLLIN, .revents = 0};
        ASSERT_EQ(0, ::poll(&ready, 1, 0)) << "there is another event";
    }
}

// ---- queue pairs that go

/// Has the kernel warned of something since it booted?
bool has_warned() {
    unsigned long tainted = 0;
    std::ifstream("/proc/sys/kernel/tainted") >> tainted;
    return (tainted & 1UL << 9) != 0;
}

// Keep the QP until its task is scheduled for a packet
TEST_F(RxeRequests, QueuePairMayGoWhileAPacketArrives) {
    ASSERT_FALSE(has_warned());
    const HostMemory target(gpu.pd, SIZE);
    const SlowFunction slow("rdma_rxe:rxe_sched_task");
    for (int round = 0; round < 100 && !has_warned(); ++round) {
        reconnect();
        for (std::uint64_t i = 0; i < 8; ++i)
            peer.qp.post_write(i, host.sge(0, 8), target.remote());
        std::this_thread::sleep_for(std::chrono::microseconds(round * 37 % 4000));
        gpu.qp = Qp(gpu.context, gpu.pd, gpu.cq);
    }
    EXPECT_FALSE(has_warned());
    EXPECT_GE(SlowFunction::calls(), 100U);
}

// ---- memory windows

struct WindowCase {
    const char* name;
    ibv_mw_type type;
    bool zero_based;
};

constexpr WindowCase WINDOW_CASES[] = {
    {"Type1", IBV_MW_TYPE_1, false},
    {"Type2", IBV_MW_TYPE_2, false},
    {"Type2ZeroBased", IBV_MW_TYPE_2, true},
};

/// A window that begins and ends in the middle of pages, the end in the middle
/// of a word.
class RxeWindowBounds : public RxeBug, public testing::WithParamInterface<WindowCase> {
  protected:
    static constexpr std::uint64_t FIRST = 4000;
    static constexpr std::uint64_t LENGTH = 9004;

    /// A window, bound on the gpu's queue pair as it is now.
    struct Bound {
        explicit Bound(RxeWindowBounds& test) : window(test.gpu.pd, GetParam().type) {
            const unsigned zero = GetParam().zero_based ? IBV_ACCESS_ZERO_BASED : 0;
            const auto part = part_of(test.memory, FIRST, LENGTH, WINDOW_ACCESS | zero);
            if (GetParam().type == IBV_MW_TYPE_1) {
                ibv_mw_bind request{.wr_id = 1, .send_flags = IBV_SEND_SIGNALED, .bind_info = part};
                EXPECT_EQ(0, ibv_bind_mw(test.gpu.qp.get(), window.get(), &request));
                EXPECT_EQ(IBV_WC_SUCCESS, test.complete(test.gpu));
            } else {
                EXPECT_EQ(IBV_WC_SUCCESS, test.bind(test.gpu, window, part));
            }
            start = zero ? 0 : part.addr;
        }
        /// What a peer says to reach the byte @p offset bytes from the start.
        Remote at(std::int64_t offset) const {
            return {.address = start + static_cast<std::uint64_t>(offset),
                    .rkey = window.get()->rkey};
        }
        Mw window;
        std::uint64_t start = 0;
    };

    using Post = std::function<void(const Bound&)>;

    void expect_allowed(const char* what, const Post& post) {
        const Bound bound(*this);
        post(bound);
        EXPECT_EQ(IBV_WC_SUCCESS, complete(peer)) << what;
    }
    void expect_refused(const char* what, std::int64_t offset, const Post& post) {
        SCOPED_TRACE(std::string(what) + " at " + std::to_string(offset));
        fill_pattern(memory.bytes(), 1);
        fill_pattern(host.bytes(), 2);
        {
            const Bound bound(*this);
            post(bound);
            EXPECT_EQ(IBV_WC_REM_ACCESS_ERR, complete(peer));
            EXPECT_TRUE(has_pattern(memory.bytes(), 1));
            EXPECT_TRUE(has_pattern(host.bytes(), 2));
        }
        reconnect();
    }

    HostMemory memory{gpu.pd, SIZE, WITH_WINDOWS};
};

INSTANTIATE_TEST_SUITE_P(Windows, RxeWindowBounds, testing::ValuesIn(WINDOW_CASES),
                         [](const auto& c) { return std::string(c.param.name); });

// Check remote accesses against the bounds of memory windows

TEST_P(RxeWindowBounds, LetInWhatIsInside) {
    fill_pattern(memory.bytes(), 1);
    fill_pattern(host.bytes(), 2);
    expect_allowed("read", [&](const Bound& window) {
        peer.qp.post_read(1, host.sge(0, LENGTH), window.at(0));
    });
    EXPECT_TRUE(has_pattern(host.bytes().first(LENGTH), 1, FIRST));
    fill_pattern(host.bytes(), 2);
    expect_allowed("write", [&](const Bound& window) {
        peer.qp.post_write(1, host.sge(0, LENGTH), window.at(0));
    });
    EXPECT_TRUE(has_pattern(memory.bytes().first(FIRST), 1));
    EXPECT_TRUE(has_pattern(memory.bytes().subspan(FIRST, LENGTH), 2));
    EXPECT_TRUE(has_pattern(memory.bytes().subspan(FIRST + LENGTH), 1, FIRST + LENGTH));
    expect_allowed("last byte", [&](const Bound& window) {
        peer.qp.post_write(1, host.sge(0, 1), window.at(LENGTH - 1));
    });
    for (const std::int64_t offset : {std::int64_t{0}, std::int64_t{LENGTH - 12}}) {
        expect_allowed("fetch and add", [&](const Bound& window) {
            peer.qp.post_fetch_add(1, host.sge(0, 8), window.at(offset), 1);
        });
        expect_allowed("atomic write", [&](const Bound& window) {
            peer.qp.post_atomic_write(1, window.at(offset), 1);
        });
    }
    expect_allowed("flush", [&](const Bound& window) {
        peer.qp.post_flush(1, window.at(0), LENGTH, IBV_FLUSH_GLOBAL);
    });
    expect_allowed("flush of the MR", [&](const Bound& window) {
        peer.qp.post_flush(1, window.at(-100), 0, IBV_FLUSH_GLOBAL, IBV_FLUSH_MR);
    });
}

TEST_P(RxeWindowBounds, KeepOutWhatIsNotInside) {
    constexpr std::int64_t END = LENGTH;
    const struct {
        std::int64_t offset;
        std::size_t length;
    } ranges[] = {{-4, 4}, {-4, 8}, {-4, LENGTH + 8}, {0, LENGTH + 1}, {END - 1, 2}, {END, 1}};
    for (const auto& range : ranges) {
        expect_refused("write", range.offset, [&](const Bound& window) {
            peer.qp.post_write(1, host.sge(0, range.length), window.at(range.offset));
        });
        expect_refused("read", range.offset, [&](const Bound& window) {
            peer.qp.post_read(1, host.sge(0, range.length), window.at(range.offset));
        });
        expect_refused("flush", range.offset, [&](const Bound& window) {
            peer.qp.post_flush(1, window.at(range.offset), range.length, IBV_FLUSH_GLOBAL);
        });
    }
    // Before the window, across its end, behind it.
    for (const std::int64_t offset : {std::int64_t{-8}, END - 4, END + 4}) {
        expect_refused("fetch and add", offset, [&](const Bound& window) {
            peer.qp.post_fetch_add(1, host.sge(0, 8), window.at(offset), 1);
        });
        expect_refused("compare and swap", offset, [&](const Bound& window) {
            peer.qp.post_cmp_swap(1, host.sge(0, 8), window.at(offset), 0, 1);
        });
        expect_refused("atomic write", offset, [&](const Bound& window) {
            peer.qp.post_atomic_write(1, window.at(offset), 1);
        });
    }
}

class RxeWindows : public RxeBug {
  protected:
    HostMemory memory{gpu.pd, SIZE, WITH_WINDOWS};
};

// Don't invalidate a memory window that is not bound
TEST_F(RxeWindows, AreNotInvalidatedUnlessBound) {
    const Mw never(gpu.pd, IBV_MW_TYPE_2);
    gpu.qp.post_local_inv(1, never.get()->rkey);
    EXPECT_EQ(IBV_WC_LOC_QP_OP_ERR, complete(gpu));
    reconnect();

    const Mw window(gpu.pd, IBV_MW_TYPE_2);
    ASSERT_EQ(IBV_WC_SUCCESS, bind(gpu, window, part_of(memory, 0, SIZE)));
    for (const ibv_wc_status expected : {IBV_WC_SUCCESS, IBV_WC_REM_INV_REQ_ERR}) {
        gpu.qp.post_recv(1, {});
        peer.qp.post_send_inv(2, {}, window.get()->rkey);
        EXPECT_EQ(expected, complete(gpu));
        static_cast<void>(complete(peer));
    }
}

// Invalidate a memory window on its own QP only
TEST_F(RxeWindows, AreNotInvalidatedByStrangers) {
    const Mw window(gpu.pd, IBV_MW_TYPE_2);
    ASSERT_EQ(IBV_WC_SUCCESS, bind(gpu, window, part_of(memory, 0, SIZE)));
    Endpoint stranger(GPU_DEVICE);
    Endpoint his_peer(PEER_DEVICE);
    connect(stranger.qp, his_peer.qp);
    stranger.qp.post_recv(1, {});
    his_peer.qp.post_send_inv(2, {}, window.get()->rkey);
    EXPECT_EQ(IBV_WC_REM_INV_REQ_ERR, complete(stranger));

    stranger.qp = Qp(stranger.context, stranger.pd, stranger.cq);
    his_peer.qp = Qp(his_peer.context, his_peer.pd, his_peer.cq);
    connect(stranger.qp, his_peer.qp);
    stranger.qp.post_local_inv(1, window.get()->rkey);
    EXPECT_EQ(IBV_WC_LOC_QP_OP_ERR, complete(stranger));

    write(host.sge(0, 8), {.address = memory.memory.address(), .rkey = window.get()->rkey});
}

// Refuse to bind memory windows that are not inside of the MR
TEST_F(RxeWindows, AreNotBoundOutsideOfTheMr) {
    constexpr unsigned ZERO_BASED = WINDOW_ACCESS | IBV_ACCESS_ZERO_BASED;
    const struct {
        const char* what;
        std::uint64_t offset;
        std::uint64_t length;
        unsigned access;
    } cases[] = {
        {"wraps around", 8, ~std::uint64_t{7}, WINDOW_ACCESS},
        {"too long", 8, SIZE, WINDOW_ACCESS},
        {"zero-based, begins before the MR", ~std::uint64_t{7}, SIZE, ZERO_BASED},
        {"zero-based, begins behind the MR", SIZE, 8, ZERO_BASED},
        {"zero-based, ends behind the MR", 8, SIZE, ZERO_BASED},
    };
    for (const auto& c : cases) {
        const Mw window(gpu.pd, IBV_MW_TYPE_2);
        EXPECT_EQ(IBV_WC_MW_BIND_ERR,
                  bind(gpu, window, part_of(memory, c.offset, c.length, c.access)))
            << c.what;
        reconnect();
    }
}

// Let a QP be destroyed while memory windows are bound on it
TEST_F(RxeWindows, OutliveTheirQueuePair) {
    const Mw window(gpu.pd, IBV_MW_TYPE_2);
    ASSERT_EQ(IBV_WC_SUCCESS, bind(gpu, window, part_of(memory, 0, SIZE)));
    const auto start = std::chrono::steady_clock::now();
    reconnect();
    EXPECT_LT(std::chrono::steady_clock::now() - start, RXE_PATIENCE);

    // It is bound no more,
    const std::uint32_t dead = window.get()->rkey;
    peer.qp.post_write(1, host.sge(0, 8), {.address = memory.memory.address(), .rkey = dead});
    EXPECT_EQ(IBV_WC_REM_ACCESS_ERR, complete(peer));
    EXPECT_ERRNO(0, memory.mr.dereg());
    reconnect();
    // and can be again.
    memory.mr = Mr::host(gpu.pd, memory.bytes(), WITH_WINDOWS);
    ASSERT_EQ(IBV_WC_SUCCESS, bind(gpu, window, part_of(memory, 0, SIZE)));
    write(host.sge(0, 8), {.address = memory.memory.address(), .rkey = window.get()->rkey});
}

// , toowhat a program leaves behind goes in the reverse order.
TEST_F(RxeWindows, DoNotKeepAProgramFromExiting) {
    auto child = Child::fork([&](Channel& parent) {
        const Context context(GPU_DEVICE);
        const Pd pd(context.get());
        const HostMemory own(pd, SIZE, WITH_WINDOWS);
        const Mw window(pd, IBV_MW_TYPE_2);
        const Cq cq(context.get(), Qp::DEPTH);
        Qp qp(context, pd, cq);
        qp.connect(qp.address());
        qp.post_bind_mw(1, window.get(), ibv_inc_rkey(window.get()->rkey), part_of(own, 0, SIZE));
        parent.send(cq.wait().status);
        ::_exit(0); // without destroying anything
        return 0;
    });
    EXPECT_EQ(IBV_WC_SUCCESS, child.channel().recv<ibv_wc_status>());
    EXPECT_TRUE(child.ends_within(RXE_PATIENCE));
}

// Refuse to reregister an MR while memory windows are bound to it
TEST_F(RxeWindows, KeepTheirMrAsItIs) {
    const Mw window(gpu.pd, IBV_MW_TYPE_2);
    ASSERT_EQ(IBV_WC_SUCCESS, bind(gpu, window, part_of(memory, 0, SIZE)));
    const Pd other(gpu.context.get());
    EXPECT_ERRNO(EINVAL, memory.mr.rereg(IBV_REREG_MR_CHANGE_PD, &other, 0));
    EXPECT_ERRNO(EINVAL, memory.mr.rereg(IBV_REREG_MR_CHANGE_ACCESS, nullptr, 0));
    gpu.qp.post_local_inv(1, window.get()->rkey);
    ASSERT_EQ(IBV_WC_SUCCESS, complete(gpu));
    EXPECT_ERRNO(0, memory.mr.rereg(IBV_REREG_MR_CHANGE_ACCESS, nullptr, FULL_ACCESS));
}

// ---- packets that get lost or stuck

/// Run tc on the peer's Ethernet device: "tc WHAT VERB dev veth_peer WORDS...".
void tc(const std::string& what, const std::string& verb, const std::vector<std::string>& words) {
    std::vector<std::string> argv{"ip", "netns", "exec", "peer",     "tc",
                                  what, verb,    "dev",  "veth_peer"};
    argv.insert(argv.end(), words.begin(), words.end());
    EXPECT_EQ(Exit{}, run_program(argv, PATIENCE)) << "tc " << what << " " << verb;
}

class RxeLoss : public RxeBug {
  protected:
    void SetUp() override {
        RxeBug::SetUp();
        // Until the peer can hear again there must be retries left.
        reconnect({.ack_timeout = 19});
    }

    /// No answer of one packet reaches the peer (to a READ or FLUSH) while this lives.
    struct Deaf {
        Deaf() {
            tc("qdisc", "add", {"clsact"});
            // The first byte behind the headers of IPv4 and UDP is the opcode.
            tc("filter", "add",
               {"ingress", "protocol", "ip", "u32", "match", "u8", "0x10", "0xff", "at", "28",
                "action", "drop"});
        }
        ~Deaf() { tc("qdisc", "del", {"clsact"}); }
        Deaf(const Deaf&) = delete;
        Deaf& operator=(const Deaf&) = delete;
    };

    /// Post something of which the answer gets lost, and the answer to the next
    /// try arrives.
    void expect_answered_again(const std::function<void()>& post) {
        const int before = retries();
        {
            const Deaf deaf;
            post();
            const auto deadline = std::chrono::steady_clock::now() + PATIENCE;
            while (retries() == before) {
                ASSERT_LT(std::chrono::steady_clock::now(), deadline) << "nothing got lost";
                std::this_thread::sleep_for(10ms);
            }
        }
        EXPECT_EQ(IBV_WC_SUCCESS, complete(peer));
    }

    HostMemory memory{gpu.pd, SIZE, WITH_WINDOWS};
};

// Answer a FLUSH again if its answer was lost
TEST_F(RxeLoss, FlushIsAnsweredAgain) {
    expect_answered_again([&] { peer.qp.post_flush(1, memory.remote(), SIZE, IBV_FLUSH_GLOBAL); });
}

// Answer a READ from a zero-based window again
TEST_F(RxeLoss, ReadFromAZeroBasedWindowIsAnsweredAgain) {
    const Mw window(gpu.pd, IBV_MW_TYPE_2);
    ASSERT_EQ(IBV_WC_SUCCESS,
              bind(gpu, window,
                   part_of(memory, SIZE / 2, SIZE / 2, WINDOW_ACCESS | IBV_ACCESS_ZERO_BASED)));
    fill_pattern(memory.bytes(), 1);
    expect_answered_again([&] {
        peer.qp.post_read(1, host.sge(0, 1000), {.address = 100, .rkey = window.get()->rkey});
    });
    EXPECT_TRUE(has_pattern(host.bytes().first(1000), 1, SIZE / 2 + 100));
}

// Don't free objects that are still in use
TEST_F(RxeLoss, QueuePairIsThereAsLongAsItsPackets) {
    if (!long_run())
        GTEST_SKIP() << "needs a minute; set UMEM_PFN_LONG=1";
    write(host.sge(0, 8), memory.remote()); // neighbours know each other from here on
    tc("qdisc", "add", {"root", "plug", "limit", "100000"});
    peer.qp.post_write(1, host.sge(0, 8), memory.remote());
    auto gone =
        std::async(std::launch::async, [&] { peer.qp = Qp(peer.context, peer.pd, peer.cq); });
    EXPECT_EQ(std::future_status::timeout, gone.wait_for(RXE_PATIENCE + 10s));
    tc("qdisc", "del", {"root"});
    EXPECT_EQ(std::future_status::ready, gone.wait_for(PATIENCE));
}

} // namespace
} // namespace pfn
