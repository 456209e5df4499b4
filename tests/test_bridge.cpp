// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
//
// MRs on dma-bufs whose exporters know nothing of physical ranges: what is agreed
// on, what happens when the exporter changes its mind, and every order of going
// away. The data path's own tests run on the same exporters (test_datapath.cpp);
// a PCI BAR of vfio-pci has a file of its own (test_bridge_vfio.cpp).
#include "support/debug_kernel.hpp"
#include "support/modules.hpp"
#include "support/rdma_test.hpp"

#include <fcntl.h>
#include <linux/dma-buf.h>
#include <linux/falloc.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>

#include <array>
#include <atomic>
#include <optional>
#include <thread>
#include <utility>

namespace pfn {
namespace {

constexpr std::uint64_t SIZE = 64 * KIB;

/// An exporter, and its buffer, that the test is about.
class Bridge : public RdmaTest, public testing::WithParamInterface<BufferCase> {
  protected:
    [[nodiscard]] static DmaBuf buffer(std::uint64_t size = SIZE) {
        return foreign_buffer(GetParam().exporter, size);
    }
    HostMemory host{peer.pd, SIZE};
};

INSTANTIATE_TEST_SUITE_P(Foreign, Bridge, testing::ValuesIn(FOREIGN_CASES), case_name);

// Rule: B5
TEST_P(Bridge, InfoSaysWhichBackendAndWhy) {
    const DeviceMemory device(gpu.pd, buffer());
    const auto info = query_mr(device.mr);
    EXPECT_EQ(PFN_MR_BACKEND_VMAP, info.backend);
    EXPECT_EQ(PFN_MR_BECAUSE_NO_RANGES, info.because);
    EXPECT_EQ(PFN_MR_STATE_PRESENT, info.state);
    EXPECT_EQ(0U, info.ranges);
    EXPECT_EQ(0U, info.mmio);
    EXPECT_GT(info.metadata_bytes, 0U);
}

// Rule: B1
TEST_P(Bridge, EveryModeIsAgreedOnAndTheDefaultIsPinned) {
    const DmaBuf dmabuf = buffer();
    using Agreed = std::pair<std::uint32_t, std::uint32_t>;
    for (const auto& [asked, agreed] : {Agreed{PFN_MR_MODE_DEFAULT, PFN_MR_MODE_PINNED},
                                        Agreed{PFN_MR_MODE_PINNED, PFN_MR_MODE_PINNED},
                                        Agreed{PFN_MR_MODE_REVOCABLE, PFN_MR_MODE_REVOCABLE},
                                        Agreed{PFN_MR_MODE_DYNAMIC, PFN_MR_MODE_DYNAMIC}}) {
        const ModeMr mr(gpu.pd, asked, dmabuf.fd(), 0, SIZE, 0);
        EXPECT_EQ(agreed, mr.query().mode);
        fill_pattern(host.bytes(), asked);
        write(host.sge(0, SIZE), {.address = 0, .rkey = mr.rkey()});
        EXPECT_TRUE(has_pattern(dmabuf.map().bytes(), asked));
    }
    EXPECT_ERRNO(EINVAL, ModeMr(gpu.pd, 4, dmabuf.fd(), 0, SIZE, 0));
}

TEST_P(Bridge, PartsAndTheirBounds) {
    const DmaBuf dmabuf = buffer();
    const std::uint64_t page = page_size();
    const Mapping cpu = dmabuf.map();
    fill_pattern(cpu.bytes(), 1);
    const auto part = Mr::dmabuf(gpu.pd, dmabuf.fd(), page + 17, 2 * page, page + 17);
    read(host.sge(0, 2 * page), {.address = page + 17, .rkey = part.rkey()});
    EXPECT_TRUE(has_pattern(host.bytes().first(2 * page), 1, page + 17));
    EXPECT_ERRNO(EINVAL, Mr::dmabuf(gpu.pd, dmabuf.fd(), 0, 0, 0));
    EXPECT_ERRNO(EINVAL, Mr::dmabuf(gpu.pd, dmabuf.fd(), 0, SIZE + 1, 0));
    EXPECT_ERRNO(EINVAL, Mr::dmabuf(gpu.pd, dmabuf.fd(), SIZE, 1, 0));
    peer.qp.post_read(1, host.sge(0, 1), {.address = page + 16, .rkey = part.rkey()});
    EXPECT_EQ(IBV_WC_REM_ACCESS_ERR, complete(peer));
}

TEST_P(Bridge, AtomicsAreAtomicWithTheCpu) {
    constexpr std::uint64_t ROUNDS = 500;
    const DeviceMemory device(gpu.pd, buffer());
    auto& word = *reinterpret_cast<std::uint64_t*>(device.bytes().data() + 8);
    std::atomic_ref<std::uint64_t> counter(word);
    counter = 0;
    std::atomic<bool> stop = false;
    std::uint64_t added = 0;
    std::thread cpu([&] {
        while (!stop) {
            counter.fetch_add(1);
            added++;
        }
    });
    for (std::uint64_t i = 0; i < ROUNDS; ++i) {
        peer.qp.post_fetch_add(i, host.sge(0, 8), device.remote(8), 1);
        EXPECT_EQ(IBV_WC_SUCCESS, complete(peer));
    }
    stop = true;
    cpu.join();
    EXPECT_EQ(ROUNDS + added, counter.load());
}

// Rule: B6
TEST_P(Bridge, MrOutlivesTheDescriptor) {
    DmaBuf dmabuf = buffer();
    const Mapping cpu = dmabuf.map();
    auto first = Mr::dmabuf(gpu.pd, dmabuf.fd(), 0, SIZE, 0);
    auto second = Mr::dmabuf(gpu.pd, dmabuf.fd(), 0, SIZE, 0);
    dmabuf.close();
    fill_pattern(host.bytes(), 3);
    write(host.sge(0, SIZE), {.address = 0, .rkey = first.rkey()});
    first.dereg();
    EXPECT_TRUE(has_pattern(cpu.bytes(), 3));
    fill_pattern(host.bytes(), 4);
    write(host.sge(0, SIZE), {.address = 0, .rkey = second.rkey()});
    EXPECT_TRUE(has_pattern(cpu.bytes(), 4));
    second.dereg();
}

// Rule: B6
TEST_P(Bridge, MrKeepsTheOnlyReference) {
    DmaBuf dmabuf = buffer();
    auto mr = Mr::dmabuf(gpu.pd, dmabuf.fd(), 0, SIZE, 0);
    dmabuf.close();
    const HostMemory back(peer.pd, SIZE);
    fill_pattern(host.bytes(), 5);
    write(host.sge(0, SIZE), {.address = 0, .rkey = mr.rkey()});
    read(back.sge(0, SIZE), {.address = 0, .rkey = mr.rkey()});
    EXPECT_TRUE(has_pattern(back.bytes(), 5));
    mr.dereg();
}

// Rule: B8
TEST_P(Bridge, ProgramsBracketWhatTheyDoByRdma) {
    const DeviceMemory device(gpu.pd, buffer());
    for (const std::uint64_t start : {DMA_BUF_SYNC_READ, DMA_BUF_SYNC_RW}) {
        // udmabuf maps in the direction of the first caller and syncs in that of each,
        // about which the kernel's DMA debugging WARNs.
        if (debug_kernel() && start == DMA_BUF_SYNC_READ)
            continue;
        dma_buf_sync sync{.flags = DMA_BUF_SYNC_START | start};
        ASSERT_EQ(0, ::ioctl(device.buffer.fd(), DMA_BUF_IOCTL_SYNC, &sync));
        fill_pattern(host.bytes(), start);
        write(host.sge(0, SIZE), device.remote());
        sync.flags = DMA_BUF_SYNC_END | start;
        ASSERT_EQ(0, ::ioctl(device.buffer.fd(), DMA_BUF_IOCTL_SYNC, &sync));
        EXPECT_TRUE(has_pattern(device.bytes(), start));
    }
}

TEST_P(Bridge, PrefetchAndReregWork) {
    const DeviceMemory device(gpu.pd, buffer());
    EXPECT_ERRNO(0, advise(gpu.pd, IBV_ADVISE_MR_ADVICE_PREFETCH_WRITE, IBV_ADVISE_MR_FLAG_FLUSH,
                           device.sge(0, SIZE)));
    device.mr.rereg(IBV_REREG_MR_CHANGE_ACCESS, nullptr, IBV_ACCESS_REMOTE_READ);
    read(host.sge(0, SIZE), device.remote());
    peer.qp.post_write(1, host.sge(0, 8), device.remote());
    EXPECT_EQ(IBV_WC_REM_ACCESS_ERR, complete(peer));
}

// What is special about one of them.

class BridgeOf : public RdmaTest {
  protected:
    HostMemory host{peer.pd, SIZE};
};

// Rule: I6
TEST_F(BridgeOf, ReadOnlyDmaBuf) {
    const DmaBuf dmabuf = system_heap(SIZE, O_RDONLY | O_CLOEXEC);
    EXPECT_ERRNO(EACCES, Mr::dmabuf(gpu.pd, dmabuf.fd(), 0, SIZE, 0, IBV_ACCESS_LOCAL_WRITE));
    const auto mr = Mr::dmabuf(gpu.pd, dmabuf.fd(), 0, SIZE, 0, IBV_ACCESS_REMOTE_READ);
    read(host.sge(0, SIZE), {.address = 0, .rkey = mr.rkey()});
    EXPECT_TRUE(all_zero(host.bytes()));
}

TEST_F(BridgeOf, MemfdThatIsShrunkPunchedOrSealed) {
    const Fd memfd = sealed_memfd(SIZE);
    const Mapping file(memfd.get(), SIZE);
    fill_pattern(file.bytes(), 1);
    const DmaBuf dmabuf = udmabuf(memfd, SIZE);
    const auto mr = Mr::dmabuf(gpu.pd, dmabuf.fd(), 0, SIZE, 0);
    const Remote remote{.address = 0, .rkey = mr.rkey()};
    read(host.sge(0, SIZE), remote);
    EXPECT_TRUE(has_pattern(host.bytes(), 1));

    EXPECT_EQ(-1, ::ftruncate(memfd.get(), 0));
    EXPECT_EQ(Errno{EPERM}, Errno{errno});
    // The pages are pinned: no new seal against writing, ...
    EXPECT_EQ(-1, ::fcntl(memfd.get(), F_ADD_SEALS, F_SEAL_WRITE));
    EXPECT_EQ(Errno{EBUSY}, Errno{errno});
    // ... and a hole takes them out of the file, but not out of the MR.
    ASSERT_EQ(0, ::fallocate(memfd.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0,
                             static_cast<off_t>(SIZE)));
    EXPECT_TRUE(all_zero(file.bytes()));
    read(host.sge(0, SIZE), remote);
    EXPECT_TRUE(has_pattern(host.bytes(), 1));
    fill_pattern(host.bytes(), 2);
    write(host.sge(0, SIZE), remote);
    EXPECT_TRUE(all_zero(file.bytes()));
}

// Rule: B6
TEST_F(BridgeOf, ModuleStaysWhileItsMemoryIsUsed) {
    std::optional<DmaBuf> dmabuf = foreign_buffer(Exporter::VGEM, SIZE);
    auto mr = Mr::dmabuf(gpu.pd, dmabuf->fd(), 0, SIZE, 0);
    dmabuf.reset();
    EXPECT_NE(0, unload_module("vgem"));
    fill_pattern(host.bytes(), 1);
    write(host.sge(0, SIZE), {.address = 0, .rkey = mr.rkey()});
    mr.dereg();
    // The kernel drops the last reference to a file a little later.
    const auto deadline = std::chrono::steady_clock::now() + PATIENCE;
    int err = unload_module("vgem");
    while (err != 0 && std::chrono::steady_clock::now() < deadline) {
        std::this_thread::sleep_for(std::chrono::milliseconds(20));
        err = unload_module("vgem");
    }
    EXPECT_EQ(Errno{0}, Errno{err});
}

// An exporter that may move and revoke, and can pin: ours, with the bridge told to
// treat it as a stranger. Its kernel mapping is of a BAR if there is one.

class BridgeToMover : public RdmaTest {
  protected:
    static constexpr std::uint32_t VRAM = PFN_VRAM_PLACEMENT_VRAM;
    static constexpr std::uint32_t SYSTEM = PFN_VRAM_PLACEMENT_SYSTEM;

    /// Not while a read-only test looks at ordinary pfn MRs: each test is alone.
    ModuleParameter bridge{"dma_buf_pfn/test_bridge_lenders", "1"};
    HostMemory host{peer.pd, SIZE};

    void expect_revoked(std::uint32_t rkey) {
        peer.qp.post_write(1, host.sge(0, 8), {.address = 0, .rkey = rkey});
        EXPECT_EQ(IBV_WC_REM_ACCESS_ERR, complete(peer));
        reconnect();
    }
};

TEST_F(BridgeToMover, DataOfEveryPlacement) {
    for (const BufferCase& c : BUFFER_CASES) {
        const DeviceMemory device(
            vram, gpu.pd,
            {.size = SIZE, .chunk = c.fragmented ? page_chunk() : 0, .placement = c.placement});
        const auto info = query_mr(device.mr);
        EXPECT_EQ(PFN_MR_BACKEND_VMAP, info.backend);
        EXPECT_EQ(PFN_MR_BECAUSE_TEST, info.because);
        const bool bar = vram.info().backend == PFN_VRAM_BACKEND_BAR;
        EXPECT_EQ(bar && c.placement == VRAM ? 1U : 0U, info.mmio) << c.name;
        const HostMemory back(peer.pd, SIZE);
        fill_pattern(host.bytes(), 9);
        write(host.sge(0, SIZE - 3), device.remote(3));
        EXPECT_TRUE(has_pattern(device.bytes().subspan(3), 9)) << c.name;
        read(back.sge(0, SIZE - 3), device.remote(3));
        EXPECT_TRUE(has_pattern(back.bytes().first(SIZE - 3), 9)) << c.name;
        peer.qp.post_fetch_add(1, host.sge(0, 8), device.remote(8), 1);
        EXPECT_EQ(IBV_WC_SUCCESS, complete(peer));
        peer.qp.post_atomic_write(1, device.remote(16), 0x1234);
        EXPECT_EQ(IBV_WC_SUCCESS, complete(peer));
        std::uint64_t word = 0;
        std::memcpy(&word, device.bytes().subspan(16).data(), sizeof(word));
        EXPECT_EQ(0x1234U, word);
    }
}

// Rule: B3
TEST_F(BridgeToMover, ModesOfAnExporterThatCanPin) {
    constexpr std::uint32_t PIN = PFN_VRAM_CAP_PIN;
    constexpr std::uint32_t MOVE = PFN_VRAM_CAP_MOVE;
    constexpr std::uint32_t REVOKE = PFN_VRAM_CAP_REVOKE;
    const DmaBuf can = vram.alloc({.size = SIZE, .caps = PIN | MOVE | REVOKE});
    using Agreed = std::pair<std::uint32_t, std::uint32_t>;
    for (const auto& [asked, agreed] : {Agreed{PFN_MR_MODE_DEFAULT, PFN_MR_MODE_DYNAMIC},
                                        Agreed{PFN_MR_MODE_PINNED, PFN_MR_MODE_PINNED},
                                        Agreed{PFN_MR_MODE_REVOCABLE, PFN_MR_MODE_REVOCABLE},
                                        Agreed{PFN_MR_MODE_DYNAMIC, PFN_MR_MODE_DYNAMIC}}) {
        const ModeMr mr(gpu.pd, asked, can.fd(), 0, SIZE, 0);
        EXPECT_EQ(agreed, mr.query().mode);
        EXPECT_NE(0U, vram.buf_info(can.fd()).flags & PFN_VRAM_BUF_PINNED);
        EXPECT_ERRNO(EBUSY, vram.move(can.fd(), SYSTEM)); // its kernel mapping can't follow
    }
    EXPECT_EQ(0U, vram.buf_info(can.fd()).flags & PFN_VRAM_BUF_PINNED);
    EXPECT_ERRNO(0, vram.move(can.fd(), SYSTEM));

    // It has the callback, but refuses to pin.
    const DmaBuf cannot = vram.alloc({.size = SIZE, .caps = MOVE | REVOKE});
    for (const std::uint32_t mode : {PFN_MR_MODE_PINNED, PFN_MR_MODE_REVOCABLE})
        EXPECT_ERRNO(EOPNOTSUPP, ModeMr(gpu.pd, mode, cannot.fd(), 0, SIZE, 0));
    EXPECT_EQ(0U, vram.buf_info(cannot.fd()).attachments);
}

// Rule: B3
TEST_F(BridgeToMover, PinnedCannotBeRevoked) {
    const DmaBuf dmabuf = vram.alloc({.size = SIZE});
    const ModeMr mr(gpu.pd, PFN_MR_MODE_PINNED, dmabuf.fd(), 0, SIZE, 0);
    EXPECT_ERRNO(EBUSY, vram.revoke(dmabuf.fd()));
    write(host.sge(0, SIZE), {.address = 0, .rkey = mr.rkey()});
}

// Rule: B4
TEST_F(BridgeToMover, RevocableIsRevokedForGood) {
    const Fd event(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
    const DmaBuf dmabuf = vram.alloc({.size = SIZE});
    const ModeMr mr(gpu.pd, PFN_MR_MODE_REVOCABLE, dmabuf.fd(), 0, SIZE, 0, FULL_ACCESS,
                    event.get());
    write(host.sge(0, SIZE), {.address = 0, .rkey = mr.rkey()});
    vram.revoke(dmabuf.fd());
    EXPECT_EQ(PFN_MR_STATE_REVOKED, mr.query().state);
    std::uint64_t signals = 0;
    EXPECT_EQ(static_cast<ssize_t>(sizeof(signals)),
              ::read(event.get(), &signals, sizeof(signals)));
    EXPECT_EQ(1U, signals);
    expect_revoked(mr.rkey());
    EXPECT_ERRNO(ENODEV, ModeMr(gpu.pd, PFN_MR_MODE_REVOCABLE, dmabuf.fd(), 0, SIZE, 0));

    vram.restore(dmabuf.fd());
    expect_revoked(mr.rkey());
    const ModeMr fresh(gpu.pd, PFN_MR_MODE_REVOCABLE, dmabuf.fd(), 0, SIZE, 0);
    write(host.sge(0, SIZE), {.address = 0, .rkey = fresh.rkey()});
}

// Rule: B4
TEST_F(BridgeToMover, DynamicLearnsOfARevokeWhenItMapsAgain) {
    const Fd event(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
    const DmaBuf dmabuf = vram.alloc({.size = SIZE});
    const ModeMr mr(gpu.pd, PFN_MR_MODE_DYNAMIC, dmabuf.fd(), 0, SIZE, 0, FULL_ACCESS, event.get());
    vram.revoke(dmabuf.fd());
    EXPECT_EQ(PFN_MR_STATE_ABSENT, mr.query().state); // it could be a move
    std::uint64_t signals = 0;
    EXPECT_EQ(-1, ::read(event.get(), &signals, sizeof(signals)));
    expect_revoked(mr.rkey());
    EXPECT_EQ(PFN_MR_STATE_REVOKED, mr.query().state);
    EXPECT_EQ(static_cast<ssize_t>(sizeof(signals)),
              ::read(event.get(), &signals, sizeof(signals)));
    EXPECT_EQ(1U, signals);
    vram.restore(dmabuf.fd());
    expect_revoked(mr.rkey());
}

// Rule: B4
TEST_F(BridgeToMover, DynamicGoesOnIfTheMemoryIsBackInTime) {
    const DmaBuf dmabuf = vram.alloc({.size = SIZE});
    const ModeMr mr(gpu.pd, PFN_MR_MODE_DYNAMIC, dmabuf.fd(), 0, SIZE, 0);
    vram.revoke(dmabuf.fd());
    vram.restore(dmabuf.fd());
    fill_pattern(host.bytes(), 6);
    write(host.sge(0, SIZE), {.address = 0, .rkey = mr.rkey()});
    EXPECT_TRUE(has_pattern(dmabuf.map().bytes(), 6));
    const auto info = mr.query();
    EXPECT_EQ(1U, info.faults);
    EXPECT_EQ(1U, info.invalidations);
}

} // namespace
} // namespace pfn
