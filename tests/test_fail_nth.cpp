// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
//
// Every allocation on the way of every operation fails once. Needs the fault
// injection of the debug kernel (./lab test --kernel debug fail_nth), whose
// kmemleak says at the end whether anything was lost.
#include "support/fail_nth.hpp"
#include "support/modules.hpp"
#include "support/rdma_test.hpp"

#include <poll.h>
#include <sys/eventfd.h>

#include <memory>

namespace pfn {
namespace {

class FailNthBuffer : public FailNthSweep, public testing::WithParamInterface<BufferCase> {
  protected:
    [[nodiscard]] std::uint64_t chunk() const { return GetParam().fragmented ? page_size() : 0; }
    [[nodiscard]] BufferSpec spec() const {
        return {.size = SIZE, .chunk = chunk(), .placement = GetParam().placement};
    }
    static std::uint32_t other(std::uint32_t placement) {
        return placement == PFN_VRAM_PLACEMENT_VRAM ? PFN_VRAM_PLACEMENT_SYSTEM
                                                    : PFN_VRAM_PLACEMENT_VRAM;
    }
};

INSTANTIATE_TEST_SUITE_P(Buffers, FailNthBuffer, testing::ValuesIn(BUFFER_CASES), case_name);

TEST_P(FailNthBuffer, Alloc) {
    DmaBuf buffer;
    report("alloc",
           sweep([&] { buffer = {}; }, [&] { buffer = vram.alloc(spec()); },
                 [&](int error) {
                     if (error)
                         expect_no_buffers();
                     else
                         EXPECT_EQ(1U, vram.info().buffers);
                 }),
           3);
}

TEST_P(FailNthBuffer, Register) {
    const Fd event(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
    std::unique_ptr<DmaBuf> buffer;
    std::unique_ptr<ModeMr> mr;
    report("register",
           sweep(
               [&] {
                   mr.reset();
                   // Anew, as the list of ranges is shared by those who register.
                   buffer.reset();
                   buffer = std::make_unique<DmaBuf>(vram.alloc(spec()));
               },
               [&] {
                   mr = std::make_unique<ModeMr>(gpu.pd, PFN_MR_MODE_DYNAMIC, buffer->fd(), 0, SIZE,
                                                 0, FULL_ACCESS, event.get());
               },
               [&](int error) {
                   EXPECT_EQ(error ? 0U : 1U, vram.buf_info(buffer->fd()).attachments);
                   if (!error) {
                       EXPECT_EQ(PFN_MR_STATE_PRESENT, mr->query().state);
                   }
                   pollfd revoked{.fd = event.get(), .events = POLLIN, .revents = 0};
                   EXPECT_EQ(0, ::poll(&revoked, 1, 0)) << "told of a revoke that was none";
               }),
           4);
}

TEST_P(FailNthBuffer, PlainRegister) {
    std::unique_ptr<DmaBuf> buffer;
    Mr mr;
    report("ibv_reg_dmabuf_mr",
           sweep(
               [&] {
                   mr = {};
                   buffer.reset();
                   buffer = std::make_unique<DmaBuf>(vram.alloc(spec()));
               },
               [&] { mr = Mr::dmabuf(gpu.pd, buffer->fd(), 0, SIZE, 0); },
               [&](int error) {
                   EXPECT_EQ(error ? 0U : 1U, vram.buf_info(buffer->fd()).attachments);
               }),
           4);
}

TEST_P(FailNthBuffer, RegisterByAddress) {
    std::unique_ptr<DmaBuf> buffer;
    Mapping cpu;
    Mr mr;
    report("ibv_reg_mr",
           sweep(
               [&] {
                   mr = {};
                   buffer.reset();
                   buffer = std::make_unique<DmaBuf>(vram.alloc(spec()));
                   cpu = buffer->map();
               },
               [&] { mr = Mr::host(gpu.pd, cpu.bytes()); },
               [&](int error) {
                   EXPECT_EQ(error ? 0U : 1U, vram.buf_info(buffer->fd()).attachments);
               }),
           4);
}

/// Bridges to our own exporter: others complain loudly when their allocations fail.
class FailNthBridge : public FailNthBuffer {
  protected:
    ModuleParameter bridge{"dma_buf_pfn/test_bridge_lenders", "1"};
};

INSTANTIATE_TEST_SUITE_P(Buffers, FailNthBridge, testing::ValuesIn(BUFFER_CASES), case_name);

TEST_P(FailNthBridge, Register) {
    std::unique_ptr<DmaBuf> buffer;
    Mr mr;
    report("register",
           sweep(
               [&] {
                   mr = {};
                   buffer.reset();
                   buffer = std::make_unique<DmaBuf>(vram.alloc(spec()));
               },
               [&] { mr = Mr::dmabuf(gpu.pd, buffer->fd(), 0, SIZE, 0); },
               [&](int error) {
                   EXPECT_EQ(error ? 0U : 1U, vram.buf_info(buffer->fd()).attachments);
                   const bool pinned = vram.buf_info(buffer->fd()).flags & PFN_VRAM_BUF_PINNED;
                   EXPECT_EQ(error == 0, pinned) << "by a kernel mapping";
                   if (!error) {
                       EXPECT_EQ(PFN_MR_BACKEND_VMAP, query_mr(mr).backend);
                   }
               }),
           4);
}

TEST_P(FailNthBuffer, FaultIn) {
    const DeviceMemory device(vram, gpu.pd, spec());
    const HostMemory local(peer.pd, SIZE);
    fill_pattern(device.bytes(), 7);
    report("fault", sweep([&] { vram.move(device.buffer.fd(), GetParam().placement, chunk()); },
                          [&] {
                              advise(gpu.pd, IBV_ADVISE_MR_ADVICE_PREFETCH,
                                     IBV_ADVISE_MR_FLAG_FLUSH, device.sge(0, SIZE));
                          },
                          [&](int error) {
                              EXPECT_EQ(error ? PFN_MR_STATE_ABSENT : PFN_MR_STATE_PRESENT,
                                        static_cast<pfn_mr_state>(query_mr(device.mr).state));
                              // It is none the worse for it.
                              read(local.sge(0, SIZE), device.remote());
                              EXPECT_TRUE(has_pattern(local.bytes(), 7));
                          }));
}

TEST_P(FailNthBuffer, Move) {
    const DeviceMemory device(vram, gpu.pd, spec());
    fill_pattern(device.bytes(), 8);
    const auto check = [&](int) {
        device.buffer.wait_idle(PATIENCE);
        EXPECT_TRUE(has_pattern(device.bytes(), 8));
        EXPECT_NE(PFN_MR_STATE_REVOKED, static_cast<pfn_mr_state>(query_mr(device.mr).state));
    };
    std::uint32_t placement = GetParam().placement;
    const auto next = [&] { placement = other(vram.buf_info(device.buffer.fd()).placement); };
    report("move",
           sweep(next, [&] { vram.move(device.buffer.fd(), placement, chunk()); }, check), 4);
    report("async move",
           sweep(
               next,
               [&] { vram.move(device.buffer.fd(), placement, chunk(), PFN_VRAM_MOVE_ASYNC); },
               check),
           4);
    const ModuleParameter poison("pfn_vram/poison_old", "1");
    report("move with quarantine",
           sweep(next, [&] { vram.move(device.buffer.fd(), placement, chunk()); }, check), 6);
}

TEST_P(FailNthBuffer, Restore) {
    const DmaBuf buffer = vram.alloc(spec());
    const Mapping cpu = buffer.map();
    report("restore",
           sweep(
               [&] {
                   if (!(vram.buf_info(buffer.fd()).flags & PFN_VRAM_BUF_REVOKED))
                       vram.revoke(buffer.fd());
               },
               [&] { vram.restore(buffer.fd(), GetParam().placement, chunk()); },
               [&](int error) {
                   EXPECT_EQ(error != 0,
                             (vram.buf_info(buffer.fd()).flags & PFN_VRAM_BUF_REVOKED) != 0);
                   if (!error) {
                       EXPECT_TRUE(all_zero(cpu.bytes()));
                   }
               }),
           2);
}

TEST_P(FailNthBuffer, RevokeAndDeregister) {
    std::unique_ptr<DeviceMemory> device;
    const auto make = [&] {
        device.reset();
        device = std::make_unique<DeviceMemory>(vram, gpu.pd, spec());
    };
    const auto free_all = [&](int error) {
        EXPECT_EQ(Errno{0}, Errno{error}) << "this must never fail";
        device.reset();
        expect_no_buffers();
    };
    report("revoke", sweep(make, [&] { vram.revoke(device->buffer.fd()); }, free_all), 0);
    report("dereg", sweep(make, [&] { device->mr.dereg(); }, free_all), 0);
    report("close", sweep(make, [&] { device.reset(); }, free_all), 0);
}

TEST_P(FailNthBuffer, QueryAndRereg) {
    const DeviceMemory device(vram, gpu.pd, spec());
    report("query", sweep([] {}, [&] { (void)query_mr(device.mr); }, [](int) {}), 0);
    report("buffer info",
           sweep([] {}, [&] { (void)vram.buf_info(device.buffer.fd()); }, [](int) {}), 0);
    const HostMemory local(peer.pd, SIZE);
    report("rereg",
           sweep([] {}, [&] { device.mr.rereg(IBV_REREG_MR_CHANGE_ACCESS, nullptr, FULL_ACCESS); },
                 [&](int) { read(local.sge(0, SIZE), device.remote()); }),
           0);
}

TEST_P(FailNthBuffer, MapAndTouch) {
    const DmaBuf buffer = vram.alloc(spec());
    Mapping cpu;
    report("mmap", sweep([&] { cpu = {}; }, [&] { cpu = buffer.map(); }, [](int) {}));

    // A page fault that fails for want of memory is tried again by the kernel, so
    // touch by way of a system call, which says EFAULT.
    const Fd zero(::open("/dev/zero", O_RDONLY | O_CLOEXEC));
    report("page fault", sweep([&] { cpu = buffer.map(); },
                               [&] {
                                   if (::read(zero.get(), cpu.bytes().data(), page_size()) < 0)
                                       throw_errno("read");
                               },
                               [&](int) { cpu.bytes()[0] = std::byte{1}; }, {EFAULT}));
}

} // namespace
} // namespace pfn
