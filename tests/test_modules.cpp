// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
//
// Modules and devices that go away, or must not. Every test leaves the guest as
// it found it.
#include "common/meminfo.hpp"
#include "common/process.hpp"
#include "support/debug_kernel.hpp"
#include "support/long_run.hpp"
#include "support/modules.hpp"
#include "support/rdma_test.hpp"

#include <algorithm>
#include <array>
#include <set>
#include <string>
#include <string_view>
#include <thread>
#include <utility>

namespace pfn {
namespace {

using namespace std::chrono_literals;

constexpr std::uint64_t SIZE = 64 * KIB;

// Users before what they use.
constexpr std::array MODULES{"rdma_rxe", "ib_umem_pfn", "pfn_vram", "dma_buf_pfn"};

// Who needs what.
constexpr std::array<std::pair<std::string_view, std::string_view>, 3> USES{
    {{"rdma_rxe", "ib_umem_pfn"}, {"ib_umem_pfn", "dma_buf_pfn"}, {"pfn_vram", "dma_buf_pfn"}}};

/// Works without open devices of its own, and puts back what a test took.
class Modules : public testing::Test {
  protected:
    void TearDown() override { restore(); }

    void restore() const {
        load_module("rdma_rxe");
        load_module("pfn_vram");
        for (const RxeLink& link : links) {
            if (!rdma_device_exists(link.name))
                add_link(link);
        }
        expect_working();
    }

    void take_everything_down() const {
        for (const RxeLink& link : links)
            delete_link(link);
        for (const char* module : MODULES)
            ASSERT_EQ(Errno{0}, Errno{unload(module)}) << module;
    }

    /// Everything away, and back.
    void reload() const {
        ASSERT_NO_FATAL_FAILURE(take_everything_down());
        for (const char* module : MODULES)
            ASSERT_FALSE(module_loaded(module)) << module;
        ASSERT_NE(0, errno_of([] { const VramDevice gone; }));
        restore();
    }

    [[nodiscard]] Child delete_links_elsewhere() const {
        return Child::fork([this](Channel&) {
            for (const RxeLink& link : links)
                delete_link(link);
            return 0;
        });
    }

    /// Unload, with patience for what finishes in the background.
    static int unload(const std::string& module) {
        const auto deadline = std::chrono::steady_clock::now() + PATIENCE;
        int err = 0;
        while ((err = unload_module(module)) != 0 && std::chrono::steady_clock::now() < deadline)
            std::this_thread::sleep_for(10ms);
        return err;
    }

    /// One write through everything.
    static void expect_working() {
        const VramDevice vram;
        Endpoint gpu(GPU_DEVICE);
        Endpoint peer(PEER_DEVICE);
        connect(gpu.qp, peer.qp);
        const DeviceMemory device(vram, gpu.pd, {.size = SIZE});
        const HostMemory host(peer.pd, SIZE);
        fill_pattern(host.bytes(), 1);
        peer.qp.post_write(1, host.sge(0, SIZE), device.remote());
        ASSERT_EQ(IBV_WC_SUCCESS, peer.cq.wait().status);
        EXPECT_TRUE(has_pattern(device.bytes(), 1));
    }

    /// All buffers since @p before are gone.
    static void expect_full_again(const VramDevice& vram, const pfn_vram_dev_info& before) {
        EXPECT_EQ(before.buffers, vram.info().buffers);
        EXPECT_EQ(before.vram_free, vram.info().vram_free);
    }

    /// A process with an MR. It says when it is ready, wants to be told whether
    /// the RDMA device was taken away, and looks whether that is so, and whether
    /// buffer and process are well.
    static Child fork_user() {
        return Child::fork([](Channel& parent) {
            const VramDevice own;
            const Context context(GPU_DEVICE);
            const Pd pd(context.get());
            const DeviceMemory device(own, pd, {.size = SIZE});
            fill_pattern(device.bytes(), 5);
            parent.send(1);
            const bool taken_away = parent.recv<bool>();
            if ((own.buf_info(device.buffer.fd()).attachments == 0) != taken_away)
                return 1;
            if (taken_away &&
                errno_of([&] { (void)Mr::dmabuf(pd, device.buffer.fd(), 0, SIZE, 0); }) == 0)
                return 2;
            own.move(device.buffer.fd(), PFN_VRAM_PLACEMENT_SYSTEM);
            return find_mismatch(device.bytes(), 5) ? 3 : 0;
        });
    }

    /// Try to unload @p module, of which @p loaded says what is there. It must
    /// go exactly if nobody uses it.
    static void try_unload(const std::string& module, std::set<std::string>& loaded) {
        bool used = false;
        for (const auto& [user, what] : USES)
            used = used || (what == module && loaded.contains(std::string(user)));
        if (used) {
            EXPECT_EQ(Errno{EWOULDBLOCK}, Errno{unload_module(module)}) << module;
            EXPECT_TRUE(module_loaded(module)) << module;
        } else {
            EXPECT_EQ(Errno{0}, Errno{unload(module)}) << module;
            EXPECT_FALSE(module_loaded(module)) << module;
            loaded.erase(module);
        }
    }

    std::vector<RxeLink> links = rxe_links();
};

TEST_F(Modules, CannotBeUnloadedUnderAnMr) {
    const VramDevice vram;
    const Endpoint gpu(GPU_DEVICE);
    const DeviceMemory device(vram, gpu.pd, {.size = SIZE});
    for (const char* module : {"ib_umem_pfn", "pfn_vram", "dma_buf_pfn"}) {
        EXPECT_EQ(Errno{EWOULDBLOCK}, Errno{unload_module(module)}) << module;
        EXPECT_TRUE(module_loaded(module)) << module;
    }
}

TEST_F(Modules, RefusedInEveryOrderWhileInUse) {
    // Attempts in all orders change nothing: what is refused first must not make
    // the next one succeed. rdma_rxe is another story, see below.
    const VramDevice vram;
    Endpoint gpu(GPU_DEVICE);
    Endpoint peer(PEER_DEVICE);
    connect(gpu.qp, peer.qp);
    const DeviceMemory device(vram, gpu.pd, {.size = SIZE});
    const HostMemory host(peer.pd, SIZE);
    std::array<std::string, 3> order{"dma_buf_pfn", "ib_umem_pfn", "pfn_vram"};
    std::uint64_t seed = 0;
    do {
        fill_pattern(host.bytes(), ++seed);
        peer.qp.post_write(seed, host.sge(0, SIZE), device.remote());
        for (const std::string& module : order)
            EXPECT_EQ(Errno{EWOULDBLOCK}, Errno{unload_module(module)}) << module;
        ASSERT_EQ(IBV_WC_SUCCESS, peer.cq.wait().status);
        EXPECT_TRUE(has_pattern(device.bytes(), seed));
    } while (std::ranges::next_permutation(order).found);
    EXPECT_EQ(6U, seed);
}

TEST_F(Modules, GoInEveryOrderExactlyWhenTheirUsersAreGone) {
    std::array<std::string, MODULES.size()> order;
    std::ranges::copy(MODULES, order.begin());
    std::ranges::sort(order);
    int orders = 0;
    // Links take seconds to come and go on the debug kernel: a fourth of them there.
    const bool all = long_run() || !debug_kernel();
    do {
        if (++orders % 4 != 0 && !all)
            continue;
        SCOPED_TRACE(order[0] + " " + order[1] + " " + order[2] + " " + order[3]);
        for (const RxeLink& link : links)
            delete_link(link);
        std::set<std::string> loaded(order.begin(), order.end());
        // Each time round at least one more can go.
        for (std::size_t pass = 0; pass < order.size() && !loaded.empty(); ++pass) {
            for (const std::string& module : order) {
                if (loaded.contains(module))
                    try_unload(module, loaded);
            }
        }
        EXPECT_TRUE(loaded.empty());
        restore();
        ASSERT_FALSE(HasFailure());
    } while (std::ranges::next_permutation(order).found);
    EXPECT_EQ(24, orders);
}

// Rule: I5
TEST_F(Modules, DriverUnloadedUnderAnMrTakesItAway) {
    // Since Linux 7.3 rxe can be unloaded while it is in use: the kernel takes
    // everything away from its users first. What they had registered must stay in
    // order.
    const VramDevice vram;
    const auto before = vram.info();
    auto user = fork_user();
    (void)user.channel().recv<int>();
    // With lockdep every socket of a queue pair holds the module, and each device has a
    // queue pair of its own, for management (rxe_reclassify_send_socket()).
    const bool taken_away = devices_are_taken_away() && !debug_kernel();
    EXPECT_EQ(Errno{taken_away ? 0 : EWOULDBLOCK}, Errno{unload_module("rdma_rxe")});
    if (taken_away) {
        // Nothing but rxe has used it.
        EXPECT_EQ(Errno{0}, Errno{unload("ib_umem_pfn")});
    }
    user.channel().send(taken_away);
    EXPECT_EQ(Exit{}, user.wait(PATIENCE));
    expect_full_again(vram, before);
}

TEST_F(Modules, ExporterStaysWhileABufferLives) {
    DmaBuf buffer;
    {
        const VramDevice vram;
        buffer = vram.alloc({.size = SIZE});
    }
    EXPECT_EQ(Errno{EWOULDBLOCK}, Errno{unload_module("pfn_vram")});
    EXPECT_EQ(Errno{EWOULDBLOCK}, Errno{unload_module("dma_buf_pfn")});
    buffer.close();
    EXPECT_EQ(Errno{0}, Errno{unload("pfn_vram")});
}

TEST_F(Modules, ExporterStaysWhileOnlyAnMrLives) {
    const Endpoint gpu(GPU_DEVICE);
    Mr mr;
    {
        const VramDevice vram;
        const auto buffer = vram.alloc({.size = SIZE});
        mr = Mr::dmabuf(gpu.pd, buffer.fd(), 0, SIZE, 0);
    }
    EXPECT_EQ(Errno{EWOULDBLOCK}, Errno{unload_module("pfn_vram")});
    mr.dereg();
    EXPECT_EQ(Errno{0}, Errno{unload("pfn_vram")});
}

TEST_F(Modules, ExporterStaysWhileOnlyAMappingLives) {
    Mapping cpu;
    {
        const VramDevice vram;
        const auto buffer = vram.alloc({.size = SIZE});
        cpu = buffer.map();
    }
    EXPECT_EQ(Errno{EWOULDBLOCK}, Errno{unload_module("pfn_vram")});
    fill_pattern(cpu.bytes(), 1);
    EXPECT_TRUE(has_pattern(cpu.bytes(), 1));
    cpu = Mapping();
    EXPECT_EQ(Errno{0}, Errno{unload("pfn_vram")});
}

// Rule: I5
TEST_F(Modules, LinkDeletedUnderAnMr) {
    // The kernel takes the device away from its users; or the deletion waits for
    // them, before Linux 7.3. Buffer and process survive both.
    const VramDevice vram;
    const auto before = vram.info();
    auto user = fork_user();
    (void)user.channel().recv<int>();
    auto deletion = delete_links_elsewhere();
    const bool taken_away = devices_are_taken_away();
    EXPECT_EQ(taken_away, deletion.ends_within(taken_away ? PATIENCE : 3s));
    user.channel().send(taken_away);
    EXPECT_EQ(Exit{}, user.wait(PATIENCE));
    EXPECT_EQ(Exit{}, deletion.wait(PATIENCE));
    expect_full_again(vram, before);
}

TEST_F(Modules, LinkDeletedDuringTraffic) {
    const VramDevice vram;
    const auto before = vram.info();
    for (int round = 0; round < 3; ++round) {
        auto user = Child::fork([](Channel& parent) {
            const VramDevice own;
            Endpoint gpu(GPU_DEVICE);
            Endpoint peer(PEER_DEVICE);
            connect(gpu.qp, peer.qp);
            const DeviceMemory device(own, gpu.pd, {.size = SIZE});
            const HostMemory host(peer.pd, SIZE);
            for (std::uint64_t i = 0; !parent.ready(); ++i) {
                // Errors are expected once the device is gone, and so is silence.
                if (errno_of([&] { peer.qp.post_write(i, host.sge(0, SIZE), device.remote()); }))
                    break;
                try {
                    const std::chrono::milliseconds patience = i < 2 ? PATIENCE : 1s;
                    if (peer.cq.wait(patience).status != IBV_WC_SUCCESS)
                        break;
                } catch (const std::exception&) {
                    break;
                }
                if (i == 1)
                    parent.send(1);
            }
            (void)parent.recv<int>();
            return 0;
        });
        (void)user.channel().recv<int>();
        auto deletion = delete_links_elsewhere();
        (void)deletion.ends_within(3s); // or waits for the user to end
        user.channel().send(1);
        EXPECT_EQ(Exit{}, user.wait(PATIENCE));
        EXPECT_EQ(Exit{}, deletion.wait(PATIENCE));
        restore();
    }
    EXPECT_EQ(before.vram_free, vram.info().vram_free);
}

TEST_F(Modules, TwentyReloadsLeaveNothingBehind) {
    // A leak costs the same in every round. What is no leak, slabs of sysfs,
    // netlink and friends that are filled for the first time, was seen to cost
    // some 9 KiB a round in the first 30 rounds and 0.5 KiB in the next. So look
    // at ten rounds at a time, at least twenty, and demand that some ten cost
    // less than half a page each.
    constexpr int BLOCK = 10;
    constexpr int MAX_BLOCKS = 5;
    constexpr std::int64_t TOLERANCE = std::int64_t{BLOCK} * 2048;
    if (debug_kernel()) { // kmemleak looks at what two of them leave
        ASSERT_NO_FATAL_FAILURE(reload());
        ASSERT_NO_FATAL_FAILURE(reload());
        return;
    }
    const auto slab = [] { return static_cast<std::int64_t>(read_meminfo().slab_unreclaimable); };
    std::int64_t grown = 0;
    for (int block = 0; block < 2 || (block < MAX_BLOCKS && grown >= TOLERANCE); ++block) {
        const auto before = slab();
        for (int round = 0; round < BLOCK; ++round)
            ASSERT_NO_FATAL_FAILURE(reload());
        grown = slab() - before;
    }
    EXPECT_LT(grown, TOLERANCE) << "slab grew by " << grown / BLOCK << " bytes a round";
}

} // namespace
} // namespace pfn
