// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
//
// Teardown in every order and every way to die: descriptors closed early,
// processes forked and killed, MRs changed and gone in mid-transfer.
#include "common/process.hpp"
#include "support/modules.hpp"
#include "support/rdma_test.hpp"

#include <atomic>
#include <csignal>
#include <thread>

namespace pfn {
namespace {

using namespace std::chrono_literals;

constexpr std::uint64_t SIZE = 256 * KIB;
constexpr Exit KILLED{.status = 0, .signal = SIGKILL};
constexpr Exit FINE{.status = 0, .signal = 0};

class Lifetime : public RdmaTest {
  protected:
    HostMemory host{peer.pd, SIZE};

    /// Poll until the device is as full as it was in `before`.
    void expect_back_to(const pfn_vram_dev_info& before) const {
        const auto deadline = std::chrono::steady_clock::now() + PATIENCE;
        for (;;) {
            const auto now = vram.info();
            if (now.buffers == before.buffers && now.vram_free == before.vram_free)
                return;
            ASSERT_TRUE(std::chrono::steady_clock::now() < deadline)
                << now.buffers - before.buffers << " buffers and "
                << before.vram_free - now.vram_free << " bytes did not come back";
            std::this_thread::sleep_for(1ms);
        }
    }
};

// Descriptors.

TEST_F(Lifetime, MrKeepsTheBufferWhenItsDescriptorIsClosed) {
    const auto before = vram.info();
    auto buffer = vram.alloc({.size = SIZE});
    auto mr = Mr::dmabuf(gpu.pd, buffer.fd(), 0, SIZE, 0);
    buffer.close();
    EXPECT_EQ(before.buffers + 1, vram.info().buffers);
    fill_pattern(host.bytes(), 1);
    write(host.sge(0, SIZE), {.address = 0, .rkey = mr.rkey()});
    const HostMemory back(peer.pd, SIZE);
    read(back.sge(0, SIZE), {.address = 0, .rkey = mr.rkey()});
    EXPECT_TRUE(has_pattern(back.bytes(), 1));
    mr.dereg();
    expect_back_to(before);
}

TEST_F(Lifetime, DeviceNodeMayBeClosedFirst) {
    DeviceMemory device(vram, gpu.pd, {.size = SIZE});
    vram.close();
    fill_pattern(host.bytes(), 2);
    write(host.sge(0, SIZE), device.remote());
    EXPECT_TRUE(has_pattern(device.bytes(), 2));
    device.mr.dereg();
}

// Rule: I5
TEST_F(Lifetime, EveryOrderOfClosingIsSafe) {
    const auto before = vram.info();
    for (int order = 0; order < 6; ++order) {
        auto buffer = vram.alloc({.size = SIZE});
        auto cpu = buffer.map();
        auto mr = Mr::dmabuf(gpu.pd, buffer.fd(), 0, SIZE, 0);
        const auto drop = [&](int what) {
            if (what == 0)
                buffer.close();
            else if (what == 1)
                cpu = Mapping();
            else
                mr.dereg();
        };
        static constexpr int ORDERS[6][3] = {{0, 1, 2}, {0, 2, 1}, {1, 0, 2},
                                             {1, 2, 0}, {2, 0, 1}, {2, 1, 0}};
        for (const int what : ORDERS[order])
            drop(what);
    }
    expect_back_to(before);
}

// Dereg; what rereg does is in test_verbs_rereg.cpp.

// Rule: I5
TEST_F(Lifetime, DeregDuringTraffic) {
    const DeviceMemory keep(vram, gpu.pd, {.size = SIZE});
    int met = 0;
    for (int round = 0; round < 20; ++round) {
        auto mr = Mr::dmabuf(gpu.pd, keep.buffer.fd(), 0, SIZE, 0);
        const Remote remote{.address = 0, .rkey = mr.rkey()};
        for (std::uint64_t i = 0; i < 8; ++i) {
            if (i % 2)
                peer.qp.post_read(i, host.sge(0, SIZE), remote);
            else
                peer.qp.post_write(i, host.sge(0, SIZE), remote);
        }
        ASSERT_EQ(IBV_WC_SUCCESS, complete(peer)); // the rest is on its way
        ASSERT_ERRNO(0, mr.dereg());
        ibv_wc_status failed = IBV_WC_SUCCESS;
        for (int i = 1; i < 8; ++i) {
            const auto status = complete(peer);
            if (failed == IBV_WC_SUCCESS)
                failed = status;
        }
        if (failed == IBV_WC_SUCCESS) { // this thread was held up, and all done before
            peer.qp.post_write(8, host.sge(0, SIZE), remote);
            failed = complete(peer);
        } else {
            ++met;
        }
        EXPECT_EQ(IBV_WC_REM_ACCESS_ERR, failed);
        reconnect();
    }
    EXPECT_GT(met, 0) << "no dereg has met traffic";
    EXPECT_EQ(1U, vram.buf_info(keep.buffer.fd()).attachments);
}

TEST_F(Lifetime, DeregDuringASlowAccess) {
    // The access is in the middle of the memory when its MR goes.
    const ModuleParameter delay("ib_umem_pfn/test_access_delay_us", "5000");
    const auto before = vram.info();
    for (int round = 0; round < 10; ++round) {
        auto buffer = vram.alloc({.size = SIZE});
        auto mr = Mr::dmabuf(gpu.pd, buffer.fd(), 0, SIZE, 0);
        peer.qp.post_write(1, host.sge(0, SIZE), {.address = 0, .rkey = mr.rkey()});
        buffer.close();
        ASSERT_ERRNO(0, mr.dereg());
        const ibv_wc_status status = complete(peer); // in time, before its first byte or after
        EXPECT_TRUE(status == IBV_WC_SUCCESS || status == IBV_WC_REM_ACCESS_ERR ||
                    status == IBV_WC_REM_OP_ERR)
            << ibv_wc_status_str(status);
        reconnect();
        expect_back_to(before);
    }
}

// Rule: I5
TEST_F(Lifetime, DeregWhileItMoves) {
    const auto buffer = vram.alloc({.size = SIZE});
    std::jthread mover([&](const std::stop_token& stop) {
        for (unsigned i = 0; !stop.stop_requested(); ++i)
            vram.move(buffer.fd(), i % 2 ? PFN_VRAM_PLACEMENT_VRAM : PFN_VRAM_PLACEMENT_SYSTEM);
    });
    for (int i = 0; i < 200; ++i) {
        auto mr = Mr::dmabuf(gpu.pd, buffer.fd(), 0, SIZE, 0);
        ASSERT_ERRNO(0, mr.dereg());
    }
    mover.request_stop();
    mover.join();
    EXPECT_EQ(0U, vram.buf_info(buffer.fd()).attachments);
}

// Fork.

TEST_F(Lifetime, ChildThatExitsTakesNothingWithIt) {
    const DeviceMemory device(vram, gpu.pd, {.size = SIZE});
    for (int i = 0; i < 10; ++i) {
        auto child = Child::fork([](Channel&) { return 0; });
        ASSERT_EQ(FINE, child.wait(PATIENCE));
        fill_pattern(host.bytes(), i);
        write(host.sge(0, SIZE), device.remote());
        ASSERT_TRUE(has_pattern(device.bytes(), i));
    }
    EXPECT_EQ(1U, vram.buf_info(device.buffer.fd()).attachments);
}

TEST_F(Lifetime, ChildThatRunsAProgramTakesNothingWithIt) {
    const DeviceMemory device(vram, gpu.pd, {.size = SIZE});
    EXPECT_EQ(FINE, run_program({"true"}, PATIENCE));
    fill_pattern(host.bytes(), 3);
    write(host.sge(0, SIZE), device.remote());
    EXPECT_TRUE(has_pattern(device.bytes(), 3));
}

TEST_F(Lifetime, ForkDuringTrafficAndMoves) {
    const DeviceMemory device(vram, gpu.pd, {.size = SIZE});
    const HostMemory back(peer.pd, SIZE);
    for (int i = 0; i < 10; ++i) {
        fill_pattern(host.bytes(), i);
        peer.qp.post_write(1, host.sge(0, SIZE), device.remote());
        auto child = Child::fork([&](Channel&) {
            const VramDevice own;
            own.move(device.buffer.fd(), PFN_VRAM_PLACEMENT_SYSTEM);
            own.move(device.buffer.fd(), PFN_VRAM_PLACEMENT_VRAM);
            return 0;
        });
        ASSERT_EQ(IBV_WC_SUCCESS, complete(peer));
        ASSERT_EQ(FINE, child.wait(PATIENCE));
        read(back.sge(0, SIZE), device.remote());
        ASSERT_TRUE(has_pattern(back.bytes(), i));
    }
}

TEST_F(Lifetime, ParentsBufferLivesOnInTheChild) {
    // The parent gives up its descriptor; the child's copy is as good.
    const auto before = vram.info();
    auto buffer = vram.alloc({.size = SIZE});
    auto child = Child::fork([&](Channel& parent) {
        (void)parent.recv<int>();
        const auto cpu = buffer.map();
        return find_mismatch(cpu.bytes(), 4) ? 1 : 0;
    });
    {
        const auto cpu = buffer.map();
        fill_pattern(cpu.bytes(), 4);
    }
    buffer.close();
    child.channel().send(1);
    EXPECT_EQ(FINE, child.wait(PATIENCE));
    expect_back_to(before);
}

// Processes that end with everything open, or are killed.

TEST_F(Lifetime, ProcessExitsWithEverythingOpen) {
    const auto before = vram.info();
    auto child = Child::fork([](Channel&) {
        // never destroyed: _exit() closes them, in no order of ours
        const auto* vram_device = new VramDevice();
        auto* a = new Endpoint(GPU_DEVICE);
        auto* b = new Endpoint(PEER_DEVICE);
        connect(a->qp, b->qp);
        for (int i = 0; i < 8; ++i) {
            const auto* memory = new DeviceMemory(*vram_device, a->pd, {.size = SIZE});
            const auto* from = new HostMemory(b->pd, SIZE);
            b->qp.post_write(1, from->sge(0, SIZE), memory->remote());
        }
        return b->cq.wait().status == IBV_WC_SUCCESS ? 0 : 1;
    });
    EXPECT_EQ(FINE, child.wait(PATIENCE));
    expect_back_to(before);
}

/// What a target tells the process that accesses it.
struct Target {
    QpAddress qp;
    Remote memory;
};

TEST_F(Lifetime, TargetKilledInMidTransfer) {
    const ModuleParameter delay("ib_umem_pfn/test_access_delay_us", "200");
    const auto before = vram.info();
    for (int round = 0; round < 10; ++round) {
        auto target = Child::fork([](Channel& parent) {
            const VramDevice own;
            Endpoint mine(GPU_DEVICE);
            const DeviceMemory memory(own, mine.pd, {.size = SIZE});
            mine.qp.connect(parent.recv<QpAddress>());
            parent.send(Target{.qp = mine.qp.address(), .memory = memory.remote()});
            for (unsigned i = 0;; ++i) // and it moves, too
                own.move(memory.buffer.fd(),
                         i % 2 ? PFN_VRAM_PLACEMENT_VRAM : PFN_VRAM_PLACEMENT_SYSTEM);
            return 1;
        });
        Endpoint mine(PEER_DEVICE);
        const HostMemory from(mine.pd, SIZE);
        target.channel().send(mine.qp.address());
        const auto there = target.channel().recv<Target>();
        mine.qp.connect(there.qp);
        for (std::uint64_t i = 0; i < 16; ++i) {
            if (i % 2)
                mine.qp.post_read(i, from.sge(0, SIZE), there.memory);
            else
                mine.qp.post_write(i, from.sge(0, SIZE), there.memory);
        }
        for (int i = 0; i <= round % 4; ++i)
            ASSERT_EQ(IBV_WC_SUCCESS, mine.cq.wait().status);
        target.kill(SIGKILL);
        ASSERT_EQ(KILLED, target.wait(PATIENCE)) << "a killed process does not end";
        expect_back_to(before);
        if (round == 0) { // takes seconds: the other side is silent
            ibv_wc_status status = IBV_WC_SUCCESS;
            while (status == IBV_WC_SUCCESS)
                status = mine.cq.wait().status;
            EXPECT_TRUE(status == IBV_WC_RETRY_EXC_ERR || status == IBV_WC_REM_ACCESS_ERR)
                << ibv_wc_status_str(status);
        }
    }
}

TEST_F(Lifetime, InitiatorKilledInMidTransfer) {
    const DeviceMemory device(vram, gpu.pd, {.size = SIZE});
    for (int round = 0; round < 10; ++round) {
        Endpoint mine(GPU_DEVICE);
        const auto mr = Mr::dmabuf(mine.pd, device.buffer.fd(), 0, SIZE, 0);
        auto initiator = Child::fork([](Channel& parent) {
            Endpoint own(PEER_DEVICE);
            const HostMemory from(own.pd, SIZE);
            parent.send(own.qp.address());
            const auto there = parent.recv<Target>();
            own.qp.connect(there.qp);
            for (std::uint64_t i = 0;; ++i) {
                own.qp.post_write(i, from.sge(0, SIZE), there.memory);
                own.qp.post_read(i, from.sge(0, SIZE), there.memory);
                if (own.cq.wait().status != IBV_WC_SUCCESS ||
                    own.cq.wait().status != IBV_WC_SUCCESS)
                    return 1;
                if (i == 2)
                    parent.send(1);
            }
        });
        mine.qp.connect(initiator.channel().recv<QpAddress>());
        initiator.channel().send(
            Target{.qp = mine.qp.address(), .memory = {.address = 0, .rkey = mr.rkey()}});
        (void)initiator.channel().recv<int>();
        vram.move(device.buffer.fd(),
                  round % 2 ? PFN_VRAM_PLACEMENT_VRAM : PFN_VRAM_PLACEMENT_SYSTEM);
        initiator.kill(SIGKILL);
        ASSERT_EQ(KILLED, initiator.wait(PATIENCE)) << "a killed process does not end";
        // The memory is as good as ever for somebody else.
        fill_pattern(host.bytes(), round);
        write(host.sge(0, SIZE), device.remote());
        ASSERT_TRUE(has_pattern(device.bytes(), round)) << "round " << round;
    }
    EXPECT_EQ(1U, vram.buf_info(device.buffer.fd()).attachments);
}

TEST_F(Lifetime, LocalSideKilledInMidTransfer) {
    const ModuleParameter delay("ib_umem_pfn/test_access_delay_us", "200");
    const auto before = vram.info();
    for (int round = 0; round < 10; ++round) {
        auto child = Child::fork([&](Channel& parent) {
            const VramDevice own;
            Endpoint a(GPU_DEVICE);
            Endpoint b(PEER_DEVICE);
            connect(a.qp, b.qp);
            const DeviceMemory from(own, a.pd, {.size = SIZE, .chunk = page_chunk()});
            const DeviceMemory to(own, b.pd, {.size = SIZE});
            for (std::uint64_t i = 0;; ++i) {
                a.qp.post_write(i, from.sge(0, SIZE), to.remote());
                a.qp.post_read(i, from.sge(0, SIZE), to.remote());
                if (i == 0)
                    parent.send(1);
                if (a.cq.wait().status != IBV_WC_SUCCESS || a.cq.wait().status != IBV_WC_SUCCESS)
                    return 1;
            }
        });
        (void)child.channel().recv<int>();
        child.kill(SIGKILL);
        ASSERT_EQ(KILLED, child.wait(PATIENCE)) << "a killed process does not end";
        expect_back_to(before);
    }
}

TEST_F(Lifetime, MoverKilled) {
    const DeviceMemory device(vram, gpu.pd, {.size = SIZE});
    for (int round = 0; round < 10; ++round) {
        auto mover = Child::fork([&](Channel& parent) {
            const VramDevice own;
            for (unsigned i = 0;; ++i) {
                own.move(device.buffer.fd(),
                         i % 2 ? PFN_VRAM_PLACEMENT_VRAM : PFN_VRAM_PLACEMENT_SYSTEM, 0,
                         i % 3 ? 0 : PFN_VRAM_MOVE_ASYNC);
                if (i == 3)
                    parent.send(1);
            }
            return 1;
        });
        (void)mover.channel().recv<int>();
        fill_pattern(host.bytes(), round);
        peer.qp.post_write(1, host.sge(0, SIZE), device.remote());
        mover.kill(SIGKILL);
        ASSERT_EQ(KILLED, mover.wait(PATIENCE));
        ASSERT_EQ(IBV_WC_SUCCESS, complete(peer));
        ASSERT_TRUE(has_pattern(device.bytes(), round)) << "round " << round;
    }
}

} // namespace
} // namespace pfn
