// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
//
// libpfndv on soft-RoCE. CTest runs this twice: with the librxe overlay (IBV_DRIVERS
// set, as everywhere in the guest) and with the distribution's own librxe (unset),
// which has no idea of dma-bufs.
#include "common/process.hpp"
#include "support/rdma_test.hpp"

#include <infiniband/pfndv.hpp>
#include <sys/eventfd.h>
#include <sys/resource.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <set>

namespace pfn {
namespace {

constexpr std::uint64_t SIZE = 64 * KIB;
constexpr Exit FINE{};

/// Is the distribution's librxe in use, and not the overlay?
bool with_stock_provider() {
    return std::getenv("IBV_DRIVERS") == nullptr;
}

struct Dereg {
    void operator()(ibv_mr* mr) const noexcept { EXPECT_EQ(0, ibv_dereg_mr(mr)); }
};
using OwnedMr = std::unique_ptr<ibv_mr, Dereg>;

/// All of a buffer, for everything.
pfndv_dmabuf_mr_attr all_of(const DmaBuf& buffer) {
    pfndv_dmabuf_mr_attr attr{};
    attr.fd = buffer.fd();
    attr.length = buffer.size();
    attr.access = FULL_ACCESS;
    return attr;
}

OwnedMr reg(const Pd& pd, const pfndv_dmabuf_mr_attr& attr) {
    ibv_mr* mr = pfndv_reg_dmabuf_mr(pd.get(), &attr, sizeof(attr));
    EXPECT_NE(nullptr, mr) << pfndv_last_reason();
    return OwnedMr(mr);
}

pfndv_mr_attr query(ibv_mr* mr) {
    pfndv_mr_attr attr{};
    EXPECT_EQ(0, pfndv_query_mr(mr, &attr, sizeof(attr))) << pfndv_last_reason();
    return attr;
}

class PfndvTest : public RdmaTest {
  protected:
    /// Registering has to fail with this errno and this reason, and leave nothing.
    void refused(int error, const std::string& reason, const pfndv_dmabuf_mr_attr& attr) {
        const auto mrs = count_mrs(gpu.context.get());
        EXPECT_EQ(nullptr, OwnedMr(pfndv_reg_dmabuf_mr(gpu.pd.get(), &attr, sizeof(attr))));
        EXPECT_EQ(Errno{error}, Errno{errno}) << reason;
        EXPECT_EQ(reason, pfndv_last_reason());
        EXPECT_EQ(mrs, count_mrs(gpu.context.get()));
    }

    HostMemory host{peer.pd, SIZE};
};

// Devices.

class PfndvDevice : public PfndvTest {};

TEST_F(PfndvDevice, ProviderIsTheOneThatThisRunIsAbout) {
    const auto buffer = vram.alloc({.size = SIZE});
    EXPECT_ERRNO(with_stock_provider() ? EOPNOTSUPP : 0,
                 Mr::dmabuf(gpu.pd, buffer.fd(), 0, SIZE, 0));
}

TEST_F(PfndvDevice, IsSupported) {
    int count = 0;
    ibv_device** list = ibv_get_device_list(&count);
    ASSERT_NE(nullptr, list);
    EXPECT_GE(count, 2);
    for (int i = 0; i < count; ++i)
        EXPECT_TRUE(pfndv_is_supported(list[i])) << pfndv_last_reason();
    ibv_free_device_list(list);
}

TEST_F(PfndvDevice, SaysWhatItCan) {
    pfndv_device_attr attr{};
    ASSERT_EQ(0, pfndv_query_device(gpu.context.get(), &attr, sizeof(attr)));
    EXPECT_EQ(0xfU, attr.modes);
    EXPECT_EQ(1U << PFNDV_BACKEND_PFN | 1U << PFNDV_BACKEND_VMAP | 1U << PFNDV_BACKEND_P2P,
              attr.backends);
    EXPECT_EQ(0U, attr.reg_access & ~attr.rereg_access) << "rereg takes all that reg does";
    EXPECT_GE(attr.max_length, std::uint64_t{1} << 40);
    // What it says it takes it takes; and nothing else.
    const auto buffer = vram.alloc({.size = SIZE});
    for (std::uint32_t bit = 1; bit != 0; bit <<= 1) {
        auto arg = all_of(buffer);
        arg.access = bit | IBV_ACCESS_LOCAL_WRITE;
        const OwnedMr mr(pfndv_reg_dmabuf_mr(gpu.pd.get(), &arg, sizeof(arg)));
        EXPECT_EQ((attr.reg_access & bit) != 0, mr != nullptr) << "access " << bit;
    }
}

// Memory regions.

class PfndvMr : public PfndvTest, public testing::WithParamInterface<BufferCase> {
  protected:
    DmaBuf buffer = vram.alloc({.size = SIZE,
                                .chunk = GetParam().fragmented ? page_chunk() : 0,
                                .placement = GetParam().placement});
};

INSTANTIATE_TEST_SUITE_P(Buffers, PfndvMr, testing::ValuesIn(BUFFER_CASES), case_name);

TEST_P(PfndvMr, IsAnOrdinaryMr) {
    const Mapping cpu = buffer.map();
    {
        const auto mr = reg(gpu.pd, all_of(buffer));
        ASSERT_NE(nullptr, mr);
        EXPECT_EQ(gpu.pd.get(), mr->pd);
        EXPECT_EQ(gpu.context.get(), mr->context);
        EXPECT_EQ(SIZE, mr->length);
        EXPECT_EQ(nullptr, mr->addr);
        EXPECT_EQ(1U, vram.buf_info(buffer.fd()).attachments);
        EXPECT_EQ(1U, count_mrs(gpu.context.get())) << "the carrier is still there";

        // The target of a peer ...
        fill_pattern(host.bytes(), 1);
        write(host.sge(0, SIZE), {.address = 0, .rkey = mr->rkey});
        EXPECT_TRUE(has_pattern(cpu.bytes(), 1));
        // ... and the own memory of a request, after a move, too.
        vram.move(buffer.fd(), PFN_VRAM_PLACEMENT_SYSTEM);
        fill_pattern(host.bytes(), 2);
        gpu.qp.post_read(2, ibv_sge{.addr = 0, .length = SIZE, .lkey = mr->lkey}, host.remote());
        ASSERT_EQ(IBV_WC_SUCCESS, complete(gpu));
        EXPECT_TRUE(has_pattern(cpu.bytes(), 2));
    }
    EXPECT_EQ(0U, vram.buf_info(buffer.fd()).attachments);
    EXPECT_EQ(0U, count_mrs(gpu.context.get()));
}

TEST_P(PfndvMr, OfAPartHasItsOffsetAndAddresses) {
    const Mapping cpu = buffer.map();
    auto attr = all_of(buffer);
    attr.offset = page_size() + 8;
    attr.length = 2 * page_size();
    attr.iova = 0x7f0000000008;
    const auto mr = reg(gpu.pd, attr);
    EXPECT_EQ(attr.offset, reinterpret_cast<std::uint64_t>(mr->addr)); // as ibv_reg_dmabuf_mr()
    EXPECT_EQ(attr.length, mr->length);
    EXPECT_EQ(attr.offset, query(mr.get()).offset);
    fill_pattern(host.bytes(), 3);
    write(host.sge(0, 100), {.address = attr.iova + 16, .rkey = mr->rkey});
    EXPECT_TRUE(has_pattern(cpu.bytes().subspan(attr.offset + 16, 100), 3));
}

TEST_P(PfndvMr, SaysHowItIs) {
    reconnect({.ack_timeout = 20}); // a READ that is sent again counts again
    const auto mr = reg(gpu.pd, all_of(buffer));
    const auto buf = vram.buf_info(buffer.fd());
    auto attr = query(mr.get());
    EXPECT_EQ(PFNDV_MODE_DYNAMIC, static_cast<pfndv_mode>(attr.mode));
    EXPECT_EQ(PFNDV_STATE_PRESENT, static_cast<pfndv_state>(attr.state));
    EXPECT_EQ(PFNDV_BACKEND_PFN, static_cast<pfndv_backend>(attr.backend));
    EXPECT_EQ(std::uint64_t{PFNDV_MR_BECAUSE}, attr.comp_mask);
    EXPECT_EQ(PFNDV_BECAUSE_LENDS, static_cast<pfndv_because>(attr.because));
    EXPECT_EQ(buf.ranges, attr.ranges);
    EXPECT_EQ(1U, attr.generation);
    EXPECT_GE(attr.page_size, page_size());
    EXPECT_EQ(0U, SIZE % attr.page_size);
    if (GetParam().fragmented) {
        EXPECT_EQ(page_size(), attr.page_size);
    }
    EXPECT_GT(attr.metadata_bytes, 0U);
    EXPECT_EQ(0U, attr.faults + attr.invalidations + attr.prefetches);

    vram.move(buffer.fd(), PFN_VRAM_PLACEMENT_SYSTEM, page_chunk());
    attr = query(mr.get());
    EXPECT_EQ(PFNDV_STATE_ABSENT, static_cast<pfndv_state>(attr.state));
    EXPECT_EQ(1U, attr.invalidations);
    EXPECT_EQ(1U, attr.generation);
    EXPECT_EQ(0U, attr.ranges);
    EXPECT_EQ(0U, attr.page_size);

    write(host.sge(0, 100), {.address = 0, .rkey = mr->rkey});
    read(host.sge(0, 10), {.address = 0, .rkey = mr->rkey});
    attr = query(mr.get());
    EXPECT_EQ(PFNDV_STATE_PRESENT, static_cast<pfndv_state>(attr.state));
    EXPECT_EQ(1U, attr.faults);
    EXPECT_EQ(2U, attr.generation);
    EXPECT_EQ(0U, attr.mmio);
    EXPECT_EQ(SIZE / page_size(), attr.ranges);
    EXPECT_EQ(page_size(), attr.page_size);
    EXPECT_EQ(100U, attr.bytes_written);
    EXPECT_EQ(10U, attr.bytes_read);

    vram.revoke(buffer.fd());
    EXPECT_EQ(PFNDV_STATE_REVOKED, static_cast<pfndv_state>(query(mr.get()).state));
}

TEST_P(PfndvMr, PrefetchSparesTheFault) {
    const auto mr = reg(gpu.pd, all_of(buffer));
    std::uint64_t prefetches = 0;
    for (const std::uint32_t flags :
         {0U, std::uint32_t{PFNDV_PREFETCH_WRITE}, std::uint32_t{PFNDV_PREFETCH_NO_WAIT}}) {
        vram.move(buffer.fd(),
                  prefetches % 2 ? PFN_VRAM_PLACEMENT_VRAM : PFN_VRAM_PLACEMENT_SYSTEM);
        ASSERT_EQ(PFNDV_STATE_ABSENT, static_cast<pfndv_state>(query(mr.get()).state));
        EXPECT_EQ(0, pfndv_prefetch(mr.get(), 0, SIZE, flags)) << pfndv_last_reason();
        EXPECT_EQ(++prefetches, query(mr.get()).prefetches);
    }
    vram.move(buffer.fd(), PFN_VRAM_PLACEMENT_SYSTEM);
    EXPECT_EQ(0, pfndv_prefetch(mr.get(), SIZE - 1, 1, PFNDV_PREFETCH_ASYNC));
    const auto deadline = std::chrono::steady_clock::now() + PATIENCE;
    while (query(mr.get()).prefetches == prefetches)
        ASSERT_LT(std::chrono::steady_clock::now(), deadline);
    write(host.sge(0, SIZE), {.address = 0, .rkey = mr->rkey});
    EXPECT_EQ(0U, query(mr.get()).faults);
}

class PfndvForeign : public PfndvTest {};

TEST_F(PfndvForeign, MrOnADmaBufThatIsNotLent) {
    const DmaBuf buffer = udmabuf(sealed_memfd(SIZE), SIZE);
    const auto mr = reg(gpu.pd, all_of(buffer));
    const auto attr = query(mr.get());
    EXPECT_EQ(PFNDV_BACKEND_VMAP, static_cast<pfndv_backend>(attr.backend));
    EXPECT_EQ(PFNDV_BECAUSE_NO_RANGES, static_cast<pfndv_because>(attr.because));
    EXPECT_STREQ("exporter lends no ranges, maps for the kernel", pfndv_because_str(attr.because));
    EXPECT_EQ(0U, attr.ranges);
    EXPECT_EQ(0U, attr.page_size);
    EXPECT_EQ(1U, attr.generation);
    pfndv_device_attr device{};
    ASSERT_EQ(0, pfndv_query_device(gpu.context.get(), &device, sizeof(device)));
    EXPECT_NE(0U, device.backends & 1U << attr.backend);
    fill_pattern(host.bytes(), 4);
    write(host.sge(0, SIZE), {.address = 0, .rkey = mr->rkey});
    EXPECT_TRUE(has_pattern(buffer.map().bytes(), 4));
}

// What libibverbs makes of it.

class PfndvBeside : public PfndvTest {
  protected:
    DmaBuf buffer = vram.alloc({.size = SIZE});
};

TEST_F(PfndvBeside, Rereg) {
    const auto mr = reg(gpu.pd, all_of(buffer));
    const std::uint32_t rkey = mr->rkey;
    errno = 0;
    const int result = ibv_rereg_mr(mr.get(), IBV_REREG_MR_CHANGE_ACCESS, nullptr, nullptr, 0,
                                    IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_READ);
    if (with_stock_provider()) { // as for every MR
        EXPECT_EQ(IBV_REREG_MR_ERR_CMD, result);
        const HostMemory own(gpu.pd, page_size());
        EXPECT_EQ(IBV_REREG_MR_ERR_CMD,
                  ibv_rereg_mr(own.mr.get(), IBV_REREG_MR_CHANGE_ACCESS, nullptr, nullptr, 0, 0));
        write(host.sge(0, 8), {.address = 0, .rkey = rkey}); // it is as before
        return;
    }
    ASSERT_EQ(0, result);
    read(host.sge(0, 8), {.address = 0, .rkey = mr->rkey});
    peer.qp.post_write(1, host.sge(0, 8), {.address = 0, .rkey = mr->rkey});
    EXPECT_EQ(IBV_WC_REM_ACCESS_ERR, complete(peer));
}

TEST_F(PfndvBeside, Advise) {
    const auto mr = reg(gpu.pd, all_of(buffer));
    vram.move(buffer.fd(), PFN_VRAM_PLACEMENT_SYSTEM);
    EXPECT_ERRNO(with_stock_provider() ? EOPNOTSUPP : 0,
                 advise(gpu.pd, IBV_ADVISE_MR_ADVICE_PREFETCH, IBV_ADVISE_MR_FLAG_FLUSH,
                        ibv_sge{.addr = 0, .length = SIZE, .lkey = mr->lkey}));
    EXPECT_EQ(with_stock_provider() ? 0U : 1U, query(mr.get()).prefetches);
}

TEST_F(PfndvBeside, Import) {
    if (with_stock_provider())
        GTEST_SKIP() << "the distribution's librxe cannot import";
    const auto mr = reg(gpu.pd, all_of(buffer));
    const Context shared = Context::import(gpu.context.get()->cmd_fd);
    const Pd pd = Pd::import(shared, gpu.pd.handle());
    const Mr imported = Mr::import(pd, mr->handle);
    EXPECT_EQ(mr->rkey, imported.rkey());
    EXPECT_EQ(query(mr.get()).dmabuf_ino, query(imported.get()).dmabuf_ino);
    EXPECT_EQ(0, pfndv_prefetch(imported.get(), 0, SIZE, 0)) << pfndv_last_reason();
}

TEST_F(PfndvBeside, MrsOfOthersCanBeAsked) {
    if (with_stock_provider())
        GTEST_SKIP() << "the distribution's librxe makes none";
    const Mr mr = Mr::dmabuf(gpu.pd, buffer.fd(), 0, SIZE, 0);
    EXPECT_EQ(PFNDV_STATE_PRESENT, static_cast<pfndv_state>(query(mr.get()).state));
    vram.move(buffer.fd(), PFN_VRAM_PLACEMENT_SYSTEM);
    EXPECT_EQ(0, pfndv_prefetch(mr.get(), 0, SIZE, 0));
    EXPECT_EQ(1U, query(mr.get()).prefetches);
}

TEST_F(PfndvBeside, DeregFailsWhereItHasToAndMayBeRepeated) {
    auto attr = all_of(buffer);
    ibv_mr* mr = pfndv_reg_dmabuf_mr(gpu.pd.get(), &attr, sizeof(attr));
    ASSERT_NE(nullptr, mr);
    // As if its handle had been destroyed by somebody who shares the context.
    const std::uint32_t handle = std::exchange(mr->handle, 0x7fffffff);
    EXPECT_EQ(ENOENT, ibv_dereg_mr(mr));
    mr->handle = handle;
    EXPECT_EQ(0, ibv_dereg_mr(mr));
    EXPECT_EQ(0U, vram.buf_info(buffer.fd()).attachments);
}

TEST_F(PfndvBeside, ForkSharesIt) {
    EXPECT_EQ(0, ibv_fork_init());
    const auto mr = reg(gpu.pd, all_of(buffer));
    auto child = Child::fork([&](Channel&) {
        if (query(mr.get()).state != PFNDV_STATE_PRESENT)
            return 1;
        vram.move(buffer.fd(), PFN_VRAM_PLACEMENT_SYSTEM);
        if (pfndv_prefetch(mr.get(), 0, SIZE, 0))
            return 2;
        // One of its own, from a child.
        auto attr = all_of(buffer);
        ibv_mr* own = pfndv_reg_dmabuf_mr(gpu.pd.get(), &attr, sizeof(attr));
        return own && ibv_dereg_mr(own) == 0 ? 0 : 3;
    });
    EXPECT_EQ(FINE, child.wait(PATIENCE));
    EXPECT_EQ(1U, query(mr.get()).prefetches);
    EXPECT_EQ(1U, vram.buf_info(buffer.fd()).attachments);
    write(host.sge(0, SIZE), {.address = 0, .rkey = mr->rkey});
}

TEST_F(PfndvBeside, NeedsNoLockedMemory) {
    auto child = Child::fork([&](Channel&) {
        const rlimit none{};
        if (::setrlimit(RLIMIT_MEMLOCK, &none) || ::setresuid(65534, 65534, 65534))
            return 1;
        const Mapping own = Mapping::anonymous(page_size());
        if (errno_of([&] { (void)Mr::host(gpu.pd, own.bytes()); }) != EPERM)
            return 2; // then this test shows nothing
        auto attr = all_of(buffer);
        ibv_mr* mr = pfndv_reg_dmabuf_mr(gpu.pd.get(), &attr, sizeof(attr));
        return mr && ibv_dereg_mr(mr) == 0 ? 0 : 3;
    });
    EXPECT_EQ(FINE, child.wait(PATIENCE));
}

// Modes and revokes.

class PfndvModes : public PfndvTest {};

TEST_F(PfndvModes, AreAgreedOn) {
    const auto still = vram.alloc({.size = SIZE, .caps = 0});
    const auto all = vram.alloc({.size = SIZE});
    for (const std::uint32_t mode : {PFNDV_MODE_PINNED, PFNDV_MODE_REVOCABLE, PFNDV_MODE_DYNAMIC}) {
        auto attr = all_of(all);
        attr.mode = mode;
        EXPECT_EQ(mode, query(reg(gpu.pd, attr).get()).mode);
    }
    EXPECT_EQ(PFNDV_MODE_DYNAMIC,
              static_cast<pfndv_mode>(query(reg(gpu.pd, all_of(all)).get()).mode));
    EXPECT_EQ(PFNDV_MODE_PINNED,
              static_cast<pfndv_mode>(query(reg(gpu.pd, all_of(still)).get()).mode));
}

TEST_F(PfndvModes, EventfdTellsOfARevoke) {
    const auto buffer = vram.alloc({.size = SIZE});
    const Fd event(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
    auto attr = all_of(buffer);
    attr.comp_mask = PFNDV_DMABUF_MR_EVENTFD;
    attr.eventfd = event.get();
    const auto mr = reg(gpu.pd, attr);
    eventfd_t count = 0;
    EXPECT_EQ(-1, ::eventfd_read(event.get(), &count)); // by the carrier, least of all
    vram.revoke(buffer.fd());
    EXPECT_EQ(0, ::eventfd_read(event.get(), &count));
    EXPECT_EQ(1U, count);
}

// Everything that can go wrong, and its reason.

class PfndvErrors : public PfndvTest {
  protected:
    DmaBuf buffer = vram.alloc({.size = SIZE});
    pfndv_dmabuf_mr_attr good = all_of(buffer);
};

TEST_F(PfndvErrors, Exporters) {
    const auto mover = vram.alloc({.size = SIZE, .caps = PFN_VRAM_CAP_MOVE});
    const auto read_only = vram.alloc({.size = SIZE, .fd_flags = O_RDONLY | O_CLOEXEC});
    const auto revoked = vram.alloc({.size = SIZE});
    vram.revoke(revoked.fd());
    auto attr = all_of(mover);
    attr.mode = PFNDV_MODE_PINNED;
    refused(EOPNOTSUPP,
            "the exporter may move or revoke the buffer and cannot pin it: no PINNED mode", attr);
    attr.mode = PFNDV_MODE_REVOCABLE;
    refused(EOPNOTSUPP, "the exporter may move the buffer and cannot pin it: no REVOCABLE mode",
            attr);
    refused(EACCES, "the dma-buf was exported read-only, the access flags write",
            all_of(read_only));
    refused(ENODEV, "the exporter has revoked the buffer", all_of(revoked));
}

TEST_F(PfndvErrors, Ranges) {
    auto attr = good;
    attr.length = 0;
    refused(EINVAL, "the length is 0", attr);
    attr.length = SIZE + 1;
    refused(EINVAL, "the range ends beyond the end of the dma-buf", attr);
    attr = good;
    attr.offset = attr.iova = ~std::uint64_t{page_size() - 1};
    attr.length = page_size() / 2;
    refused(EINVAL, "the range ends beyond the end of the dma-buf", attr);
    attr = good;
    attr.iova = ~std::uint64_t{page_size() - 1};
    refused(EINVAL, "iova and length wrap around", attr);
    attr.iova = 1;
    refused(EINVAL, "offset and iova must be at the same place within their page", attr);
}

TEST_F(PfndvErrors, Arguments) {
    auto attr = good;
    attr.mode = 4;
    refused(EINVAL, "there is no such mode", attr);
    attr = good;
    attr.access = IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_MW_BIND;
    refused(EINVAL,
            "a dma-buf is registered with LOCAL_WRITE, REMOTE_READ, REMOTE_WRITE, REMOTE_ATOMIC "
            "and RELAXED_ORDERING only; ibv_rereg_mr() adds others",
            attr);
    attr.access = IBV_ACCESS_REMOTE_WRITE;
    refused(EINVAL, "REMOTE_WRITE and REMOTE_ATOMIC need LOCAL_WRITE", attr);
    attr = good;
    attr.comp_mask = 2;
    refused(EINVAL,
            "this libpfndv is older than the program and does not know all that it asks for", attr);
}

TEST_F(PfndvErrors, Descriptors) {
    const Fd null(::open("/dev/null", O_RDWR | O_CLOEXEC));
    auto attr = good;
    attr.fd = null.get();
    refused(EINVAL, "the file descriptor is not a dma-buf", attr);
    attr.fd = -1;
    refused(EBADF, "fd -1 is not open", attr);
    attr = good;
    attr.comp_mask = PFNDV_DMABUF_MR_EVENTFD;
    attr.eventfd = null.get();
    refused(EINVAL, "the eventfd is not an open eventfd", attr);
    attr.eventfd = -1;
    refused(EBADF, "eventfd -1 is not open", attr);
    EXPECT_EQ(0U, vram.buf_info(buffer.fd()).attachments);
}

TEST_F(PfndvErrors, DomainThatIsNone) {
    ibv_pd none = *gpu.pd.get();
    none.handle = 0x7fffffff;
    EXPECT_EQ(nullptr, pfndv_reg_dmabuf_mr(&none, &good, sizeof(good)));
    EXPECT_EQ(Errno{ENOENT}, Errno{errno});
    EXPECT_STREQ("the device context has no such protection domain", pfndv_last_reason());
}

TEST_F(PfndvErrors, Queries) {
    pfndv_mr_attr attr{};
    EXPECT_EQ(Errno{EOPNOTSUPP}, Errno{pfndv_query_mr(host.mr.get(), &attr, sizeof(attr))});
    EXPECT_STREQ("the memory region is not on a dma-buf", pfndv_last_reason());
    ibv_mr none{};
    none.context = gpu.context.get();
    none.handle = 0x7fffffff;
    EXPECT_EQ(Errno{ENOENT}, Errno{pfndv_query_mr(&none, &attr, sizeof(attr))});
    EXPECT_STREQ("the device context has no such memory region", pfndv_last_reason());
    none.handle = gpu.pd.handle();
    EXPECT_EQ(Errno{EINVAL}, Errno{pfndv_query_mr(&none, &attr, sizeof(attr))});
    EXPECT_STREQ("this handle is of something else than a memory region", pfndv_last_reason());
}

TEST_F(PfndvErrors, Prefetches) {
    auto attr = good;
    attr.access = IBV_ACCESS_REMOTE_READ;
    const auto mr = reg(gpu.pd, attr);
    const auto fails = [](int error, const char* reason, int result) {
        EXPECT_EQ(Errno{error}, Errno{result}) << reason;
        EXPECT_STREQ(reason, pfndv_last_reason());
    };
    fails(EFAULT, "the range is not inside of the memory region",
          pfndv_prefetch(mr.get(), 0, SIZE + 1, 0));
    fails(EFAULT, "the range is not inside of the memory region",
          pfndv_prefetch(mr.get(), ~std::uint64_t{0}, 1, 0));
    fails(EFAULT, "the range is not inside of the memory region",
          pfndv_prefetch(mr.get(), 0, std::uint64_t{1} << 40, 0));
    fails(EPERM, "nobody may write to the memory region",
          pfndv_prefetch(mr.get(), 0, 8, PFNDV_PREFETCH_WRITE));
    fails(EOPNOTSUPP, "the memory region has nothing to prefetch: it is not on a dma-buf",
          pfndv_prefetch(host.mr.get(), host.memory.address(), 8, 0));
    ibv_mr elsewhere = *mr;
    const Pd other(gpu.context.get());
    elsewhere.pd = other.get();
    fails(ENOENT, "the key is not that of a memory region in this protection domain",
          pfndv_prefetch(&elsewhere, 0, 8, 0));
    vram.revoke(buffer.fd());
    fails(ENODEV, "the exporter has revoked the memory", pfndv_prefetch(mr.get(), 0, 8, 0));
}

/// Keeps everybody but root from opening RDMA devices, for a while.
class ClosedToOthers {
  public:
    ClosedToOthers() {
        for (const auto& node : std::filesystem::directory_iterator("/dev/infiniband")) {
            if (node.path().filename().string().starts_with("uverbs"))
                before_.emplace_back(node.path(), node.status().permissions());
        }
        for (const auto& [path, permissions] : before_)
            std::filesystem::permissions(path, std::filesystem::perms::owner_all);
    }
    ~ClosedToOthers() {
        for (const auto& [path, permissions] : before_)
            std::filesystem::permissions(path, permissions);
    }
    ClosedToOthers(const ClosedToOthers&) = delete;
    ClosedToOthers& operator=(const ClosedToOthers&) = delete;

  private:
    std::vector<std::pair<std::filesystem::path, std::filesystem::perms>> before_;
};

TEST_F(PfndvErrors, DeviceThatMayNotBeOpened) {
    const ClosedToOthers closed;
    auto child = Child::fork([&](Channel&) {
        int count = 0;
        const std::unique_ptr<ibv_device*[],
                              decltype([](ibv_device** devices) { ibv_free_device_list(devices); })>
            list(ibv_get_device_list(&count));
        if (!list || count == 0 || ::setresuid(65534, 65534, 65534))
            return 1;
        if (pfndv_is_supported(list[0]) || errno != EACCES)
            return 2;
        const std::string reason = pfndv_last_reason();
        return reason == ibv_get_device_name(list[0]) +
                             std::string(" cannot be opened: Permission denied")
                   ? 0
                   : 3;
    });
    EXPECT_EQ(FINE, child.wait(PATIENCE));
}

// C++.

class PfndvHandles : public PfndvTest {};

TEST_F(PfndvHandles, WorkBesideLibibverbs) {
    const auto device = pfndv::Device::open(GPU_DEVICE);
    ASSERT_TRUE(device) << device.error().reason;
    EXPECT_EQ(0xfU, device->query().value().modes);
    const auto nobody = pfndv::Device::open("rxe_nobody");
    ASSERT_FALSE(nobody);
    EXPECT_EQ(ENODEV, nobody.error().code);
    EXPECT_EQ("opening rxe_nobody: No such device", nobody.error().reason);

    const auto buffer = vram.alloc({.size = SIZE});
    const auto dmabuf = pfndv::DmaBuf::dup(buffer.fd()).value();
    EXPECT_EQ(SIZE, dmabuf.size().value());
    const auto cpu = dmabuf.map().value();
    auto mr = pfndv::Mr::reg(pfndv::Pd::borrow(gpu.pd.get()), dmabuf).value();
    EXPECT_EQ(SIZE, mr.length());
    fill_pattern(host.bytes(), 5);
    write(host.sge(0, SIZE), {.address = mr.address(), .rkey = mr.rkey()});
    EXPECT_TRUE(has_pattern(cpu.bytes(), 5));
    EXPECT_EQ(SIZE, mr.query().value().bytes_written);
    EXPECT_TRUE(mr.prefetch());
    EXPECT_TRUE(mr.dereg());
    EXPECT_EQ(0U, vram.buf_info(buffer.fd()).attachments);
}

TEST_F(PfndvHandles, CanGoInAnyOrder) {
    const auto buffer = vram.alloc({.size = SIZE});
    std::optional<pfndv::Mr> mr;
    {
        auto device = pfndv::Device::open(GPU_DEVICE).value();
        auto pd = pfndv::Pd::alloc(device).value();
        mr = pfndv::Mr::reg(pd, pfndv::DmaBuf::dup(buffer.fd()).value()).value();
    }
    EXPECT_EQ(PFNDV_STATE_PRESENT, static_cast<pfndv_state>(mr->query().value().state));
    mr.reset();
    EXPECT_EQ(0U, vram.buf_info(buffer.fd()).attachments);
}

TEST_F(PfndvHandles, RefusalsAreValues) {
    const auto mover = vram.alloc({.size = SIZE, .caps = PFN_VRAM_CAP_MOVE});
    const auto mr =
        pfndv::Mr::reg(pfndv::Pd::borrow(gpu.pd.get()), pfndv::DmaBuf::dup(mover.fd()).value(),
                       {.mode = PFNDV_MODE_PINNED});
    ASSERT_FALSE(mr);
    EXPECT_EQ(EOPNOTSUPP, mr.error().code);
    EXPECT_TRUE(mr.error().reason.contains("no PINNED mode"));
}

} // namespace
} // namespace pfn
