// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
//
// Several processes, one device context: ibv_import_device(), ibv_import_pd() and
// ibv_import_mr() with pfn MRs. One process registers, another uses the MR by its
// handle, and what is registered lives until the context is closed for the last
// time, whoever has made it.
#include "common/process.hpp"
#include "support/rdma_test.hpp"

#include <sys/syscall.h>
#include <unistd.h>

#include <csignal>

namespace pfn {
namespace {

constexpr std::uint64_t SIZE = 64 * KIB;
constexpr Exit FINE{};
constexpr Exit KILLED{.status = 0, .signal = SIGKILL};

/// What one process tells another to share an MR with it.
struct Handles {
    int cmd_fd;
    std::uint32_t pd;
    std::uint32_t mr;
};

/// An imported context and domain, and a queue pair of one's own in them.
struct ImportedEndpoint {
    ImportedEndpoint(int cmd_fd, std::uint32_t pd_handle)
        : context(Context::import(cmd_fd)), pd(Pd::import(context, pd_handle)),
          cq(context.get(), 2 * Qp::DEPTH), qp(context, pd, cq) {}

    Context context;
    Pd pd;
    Cq cq;
    Qp qp;
};

class Import : public RdmaTest, public testing::WithParamInterface<BufferCase> {
  protected:
    /// A buffer of the exporter that the test is about.
    [[nodiscard]] DmaBuf buffer() const {
        if (GetParam().foreign())
            return foreign_buffer(GetParam().exporter, SIZE);
        return vram.alloc({.size = SIZE,
                           .chunk = GetParam().fragmented ? page_chunk() : 0,
                           .placement = GetParam().placement});
    }
    /// pfn_vram counts who is attached to a buffer; of others nobody can tell.
    void expect_attachments(unsigned count, const DmaBuf& dmabuf) const {
        if (!GetParam().foreign()) {
            EXPECT_EQ(count, vram.buf_info(dmabuf.fd()).attachments);
        }
    }
    static Handles handles(const Pd& pd, const Mr& mr) {
        return {.cmd_fd = pd.context()->cmd_fd, .pd = pd.handle(), .mr = mr.handle()};
    }

    HostMemory host{peer.pd, SIZE};
};

INSTANTIATE_TEST_SUITE_P(Buffers, Import, testing::ValuesIn(BUFFER_CASES), case_name);
INSTANTIATE_TEST_SUITE_P(Foreign, Import, testing::ValuesIn(FOREIGN_CASES), case_name);

TEST_P(Import, IsTheSameMr) {
    SKIP_IF_FOREIGN();
    const DeviceMemory device(gpu.pd, buffer());
    const Context context = Context::import(gpu.context.get()->cmd_fd);
    const Pd pd = Pd::import(context, gpu.pd.handle());
    const Mr mr = Mr::import(pd, device.mr.handle());
    EXPECT_EQ(device.mr.lkey(), mr.lkey());
    EXPECT_EQ(device.mr.rkey(), mr.rkey());
    EXPECT_EQ(SIZE, mr.get()->length);
    EXPECT_EQ(PFN_MR_STATE_PRESENT, query_mr(mr).state);
    vram.move(device.buffer.fd(), PFN_VRAM_PLACEMENT_SYSTEM);
    EXPECT_EQ(PFN_MR_STATE_ABSENT, query_mr(mr).state);
    advise(pd, IBV_ADVISE_MR_ADVICE_PREFETCH, IBV_ADVISE_MR_FLAG_FLUSH,
           ibv_sge{.addr = 0, .length = SIZE, .lkey = mr.lkey()});
    EXPECT_EQ(PFN_MR_STATE_PRESENT, query_mr(device.mr).state);
    vram.revoke(device.buffer.fd());
    EXPECT_EQ(PFN_MR_STATE_REVOKED, query_mr(mr).state);
    EXPECT_EQ(1U, vram.buf_info(device.buffer.fd()).attachments);
}

TEST_P(Import, ForgettingItLeavesItToOthers) {
    DeviceMemory device(gpu.pd, buffer());
    {
        const Context context = Context::import(gpu.context.get()->cmd_fd);
        const Pd pd = Pd::import(context, gpu.pd.handle());
        const Mr mr = Mr::import(pd, device.mr.handle());
        const Mr again = Mr::import(pd, device.mr.handle());
    }
    fill_pattern(host.bytes(), 1);
    write(host.sge(0, SIZE), device.remote());
    EXPECT_TRUE(has_pattern(device.bytes(), 1));
    EXPECT_ERRNO(0, device.mr.dereg());
}

TEST_P(Import, AnotherProcessUsesIt) {
    const DeviceMemory device(gpu.pd, buffer());
    fill_pattern(device.bytes(), 1);
    fill_pattern(host.bytes(), 2);
    const Handles given = handles(gpu.pd, device.mr);
    auto child = Child::fork([&](Channel& parent) {
        ImportedEndpoint mine(given.cmd_fd, given.pd);
        const Mr mr = Mr::import(mine.pd, given.mr);
        parent.send(mine.qp.address());
        mine.qp.connect(parent.recv<QpAddress>());
        // As the local side of a request ...
        const auto there = parent.recv<Remote>();
        mine.qp.post_write(1, ibv_sge{.addr = 100, .length = 20000, .lkey = mr.lkey()}, there);
        if (mine.cq.wait().status != IBV_WC_SUCCESS)
            return 1;
        // ... and as the peer's target.
        parent.send(Remote{.address = 30000, .rkey = mr.rkey()});
        (void)parent.recv<int>();
        return 0;
    });
    Qp qp(peer.context, peer.pd, peer.cq);
    qp.connect(child.channel().recv<QpAddress>());
    child.channel().send(qp.address());
    child.channel().send(host.remote(4000));
    const auto there = child.channel().recv<Remote>();
    EXPECT_TRUE(has_pattern(host.bytes().subspan(4000, 20000), 1, 100));
    qp.post_write(2, host.sge(0, 4000), there);
    EXPECT_EQ(IBV_WC_SUCCESS, complete(peer));
    EXPECT_TRUE(has_pattern(device.bytes().subspan(30000, 4000), 2));
    EXPECT_TRUE(has_pattern(device.bytes().first(30000), 1));
    child.channel().send(0);
    EXPECT_EQ(FINE, child.wait(PATIENCE));
}

TEST_P(Import, LivesLongerThanItsMaker) {
    auto dmabuf = buffer();
    auto child = Child::fork([&](Channel& parent) {
        const Context context(GPU_DEVICE);
        const Pd pd(context.get());
        const Mr mr = Mr::dmabuf(pd, dmabuf.fd(), 0, SIZE, 0);
        parent.send(handles(pd, mr));
        (void)parent.recv<int>(); // never comes
        return 0;
    });
    const auto given = child.channel().recv<Handles>();
    const Fd pidfd(static_cast<int>(::syscall(SYS_pidfd_open, child.pid(), 0)));
    const Fd cmd_fd(static_cast<int>(::syscall(SYS_pidfd_getfd, pidfd.get(), given.cmd_fd, 0)));
    ASSERT_TRUE(cmd_fd) << strerrorname_np(errno);
    {
        ImportedEndpoint mine(cmd_fd.get(), given.pd);
        const Mr mr = Mr::import(mine.pd, given.mr);
        child.kill(SIGKILL);
        ASSERT_EQ(KILLED, child.wait(PATIENCE));

        Qp qp(peer.context, peer.pd, peer.cq);
        connect(mine.qp, qp);
        fill_pattern(host.bytes(), 1);
        for (const std::uint32_t placement : {PFN_VRAM_PLACEMENT_SYSTEM, PFN_VRAM_PLACEMENT_VRAM}) {
            qp.post_write(1, host.sge(0, SIZE), {.address = 0, .rkey = mr.rkey()});
            EXPECT_EQ(IBV_WC_SUCCESS, complete(peer));
            EXPECT_TRUE(has_pattern(dmabuf.map().bytes(), 1));
            if (!GetParam().foreign())
                vram.move(dmabuf.fd(), placement);
        }
        expect_attachments(1, dmabuf);
    }
    expect_attachments(1, dmabuf); // by our cmd_fd
}

TEST_P(Import, WhatAnImporterRegistersStaysWhenItDies) {
    const auto dmabuf = buffer();
    const int cmd_fd = gpu.context.get()->cmd_fd;
    auto child = Child::fork([&](Channel& parent) {
        const Context context = Context::import(cmd_fd);
        const Pd pd = Pd::import(context, gpu.pd.handle());
        const Mr mr = Mr::dmabuf(pd, dmabuf.fd(), 0, SIZE, 0);
        parent.send(handles(pd, mr));
        (void)parent.recv<int>();
        return 0;
    });
    const auto given = child.channel().recv<Handles>();
    child.kill(SIGKILL);
    ASSERT_EQ(KILLED, child.wait(PATIENCE));

    // In the shared domain it is as good as any, for the queue pairs there.
    auto mr = Mr::import(gpu.pd, given.mr);
    fill_pattern(host.bytes(), 1);
    write(host.sge(0, SIZE), {.address = 0, .rkey = mr.rkey()});
    EXPECT_TRUE(has_pattern(dmabuf.map().bytes(), 1));
    mr.dereg();
    expect_attachments(0, dmabuf);
}

TEST_P(Import, DeregisteringItIsForAll) {
    DeviceMemory device(gpu.pd, buffer());
    const Context context = Context::import(gpu.context.get()->cmd_fd);
    const Pd pd = Pd::import(context, gpu.pd.handle());
    auto mr = Mr::import(pd, device.mr.handle());
    mr.dereg();
    expect_attachments(0, device.buffer);
    peer.qp.post_write(1, host.sge(0, 8), device.remote());
    EXPECT_EQ(IBV_WC_REM_ACCESS_ERR, complete(peer));
    EXPECT_ERRNO(ENOENT, device.mr.dereg());
}

TEST_P(Import, WhatItCannotDo) {
    const DeviceMemory device(gpu.pd, buffer());
    const auto mr = Mr::import(gpu.pd, device.mr.handle());
    // libibverbs has no rereg for those.
    EXPECT_ERRNO(EINVAL, mr.rereg(IBV_REREG_MR_CHANGE_ACCESS, nullptr, FULL_ACCESS));
}

class ImportRefuses : public RdmaTest {
  protected:
    DeviceMemory device{vram, gpu.pd, {.size = SIZE}};
};

TEST_F(ImportRefuses, HandlesThatAreNone) {
    EXPECT_ERRNO(ENOENT, Pd::import(gpu.context, 0x7fffffff));
    EXPECT_ERRNO(ENOENT, Mr::import(gpu.pd, 0x7fffffff));
}

TEST_F(ImportRefuses, HandlesOfSomethingElse) {
    EXPECT_ERRNO(ENOENT, Pd::import(gpu.context, device.mr.handle()));
    EXPECT_ERRNO(EINVAL, Mr::import(gpu.pd, gpu.pd.handle()));
}

TEST_F(ImportRefuses, HandlesOfAnotherContext) {
    const Context stranger(GPU_DEVICE);
    EXPECT_ERRNO(ENOENT, Pd::import(stranger, gpu.pd.handle()));
    const Pd pd(stranger.get());
    // Handles are numbers that mean nothing elsewhere; ours is no MR there.
    EXPECT_NE(0, errno_of([&] { (void)Mr::import(pd, device.mr.handle()); }));
}

TEST_F(ImportRefuses, DescriptorsOfSomethingElse) {
    EXPECT_ERRNO(EBADF, Context::import(-1));
    EXPECT_ERRNO(ENODEV, Context::import(vram.fd()));
    EXPECT_ERRNO(EINVAL, Context::import(device.buffer.fd()));
}

} // namespace
} // namespace pfn
