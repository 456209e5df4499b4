// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
//
// libpfndv against a kernel and a libibverbs that are made up here: what it asks for,
// what it makes of the answers, and that nothing is left when a step in the middle
// fails. Runs anywhere; also built with sanitizers.
#include <gtest/gtest.h>

#include <fcntl.h>
#include <infiniband/pfndv.hpp>
#include <rdma/ib_user_ioctl_cmds.h>
#include <rdma/ib_user_ioctl_verbs.h>
#include <rdma/ib_user_verbs.h>
#include <rdma/pfn_mr_abi.h>
#include <rdma/rdma_user_ioctl.h>
#include <sys/mman.h>

#include <algorithm>
#include <array>
#include <barrier>
#include <cerrno>
#include <cstdarg>
#include <cstdio>
#include <cstring>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <thread>
#include <type_traits>
#include <utility>
#include <vector>

namespace {

/// What the kernel was asked to do, by attribute.
using Attrs = std::map<std::uint16_t, ib_uverbs_attr>;

/// The kernel and the provider, as far as libpfndv can tell.
struct Fake {
    // how they are
    int reg_error = 0;
    std::string reason;
    int query_error = 0;
    int advise_error = 0;
    int destroy_error = 0; ///< of the carrier
    bool ours = true;      ///< the driver has pfn MRs
    int no_driver = EINVAL;
    std::size_t info_size = sizeof(pfn_mr_info); ///< of this kernel's structure
    bool paging = true;                          ///< ON_DEMAND can be had
    bool pinning = true;                         ///< ordinary MRs can be had
    ibv_fork_status fork_status = IBV_FORK_UNNEEDED;
    int open_error = 0;
    int dereg_error = 0;

    // what has happened
    std::set<std::uint32_t> mrs; ///< that exist in the kernel
    std::set<ibv_mr*> structs;   ///< that exist in the provider
    std::uint32_t next_handle = 100;
    Attrs reg;
    std::vector<ib_uverbs_sge> advised;
    std::uint64_t advice = 0;
    std::uint32_t advise_flags = 0;
    int pds = 0;
    int contexts = 0;
    std::vector<std::string> log; ///< what was given up, in order
};

Fake* fake = nullptr;

template<typename T>
T value_of(const ib_uverbs_attr& attr) {
    T value{};
    std::memcpy(&value, &attr.data, sizeof(value));
    return value;
}

template<typename T>
T& target_of(const ib_uverbs_attr& attr) {
    return *reinterpret_cast<T*>(attr.data);
}

int fake_register(const Attrs& attrs, ib_uverbs_ioctl_hdr& hdr) {
    fake->reg = attrs;
    if (fake->reg_error) {
        const auto& room = attrs.at(PFN_MR_ATTR_REG_DMABUF_REASON);
        if (!fake->reason.empty())
            std::snprintf(&target_of<char>(room), room.len, "%s", fake->reason.c_str());
        return fake->reg_error;
    }
    const std::uint32_t handle = fake->next_handle++;
    fake->mrs.insert(handle);
    for (ib_uverbs_attr& attr : std::span(hdr.attrs, hdr.num_attrs)) {
        if (attr.attr_id == UVERBS_ATTR_REG_DMABUF_MR_HANDLE)
            attr.data = handle;
    }
    target_of<std::uint32_t>(attrs.at(UVERBS_ATTR_REG_DMABUF_MR_RESP_LKEY)) = handle + 1000;
    target_of<std::uint32_t>(attrs.at(UVERBS_ATTR_REG_DMABUF_MR_RESP_RKEY)) = handle + 2000;
    return 0;
}

int fake_query(const Attrs& attrs) {
    if (fake->query_error)
        return fake->query_error;
    pfn_mr_info info{};
    info.mode = PFN_MR_MODE_PINNED;
    info.state = PFN_MR_STATE_PRESENT;
    info.backend = PFN_MR_BACKEND_PFN;
    info.mmio = 1;
    info.ranges = 2;
    info.metadata_bytes = 3;
    info.faults = 4;
    info.invalidations = 5;
    info.prefetches = 6;
    info.bytes_read = 7;
    info.bytes_written = 8;
    info.dmabuf_ino = 9;
    info.offset = 10;
    info.generation = 11;
    info.page_size = 4096;
    info.because = PFN_MR_BECAUSE_LENDS;
    const auto& out = attrs.at(PFN_MR_ATTR_QUERY_INFO);
    std::memset(&target_of<char>(out), 0, out.len);
    std::memcpy(&target_of<char>(out), &info, std::min<std::size_t>(out.len, fake->info_size));
    return 0;
}

int fake_destroy(std::uint32_t handle) {
    if (fake->destroy_error && fake->mrs.contains(handle)) {
        // once: it is the carrier's, the first that anybody destroys
        return std::exchange(fake->destroy_error, 0);
    }
    fake->log.push_back("mr");
    return fake->mrs.erase(handle) ? 0 : ENOENT;
}

int fake_advise(const Attrs& attrs) {
    if (fake->advise_error)
        return fake->advise_error;
    const auto& list = attrs.at(UVERBS_ATTR_ADVISE_MR_SGE_LIST);
    fake->advised.push_back(target_of<ib_uverbs_sge>(list));
    fake->advice = value_of<std::uint64_t>(attrs.at(UVERBS_ATTR_ADVISE_MR_ADVICE));
    fake->advise_flags = value_of<std::uint32_t>(attrs.at(UVERBS_ATTR_ADVISE_MR_FLAGS));
    return 0;
}

int fake_call(ib_uverbs_ioctl_hdr& hdr) {
    Attrs attrs;
    for (const ib_uverbs_attr& attr : std::span(hdr.attrs, hdr.num_attrs))
        attrs[attr.attr_id] = attr;
    if (hdr.length != sizeof(hdr) + hdr.num_attrs * sizeof(ib_uverbs_attr) ||
        hdr.driver_id != RDMA_DRIVER_RXE)
        return EINVAL;
    if (hdr.object_id == UVERBS_OBJECT_DEVICE) {
        if (!fake->ours)
            return fake->no_driver;
        target_of<pfn_device_info>(attrs.at(PFN_DEVICE_ATTR_QUERY_INFO)) = {
            .modes = 0xf, .backends = 2, .reg_access = 3, .rereg_access = 4, .max_length = 5};
        return 0;
    }
    switch (hdr.method_id) {
    case UVERBS_METHOD_REG_DMABUF_MR:
        return fake->ours ? fake_register(attrs, hdr) : fake->no_driver;
    case UVERBS_METHOD_MR_DESTROY:
        return fake_destroy(
            static_cast<std::uint32_t>(attrs.at(UVERBS_ATTR_DESTROY_MR_HANDLE).data));
    case UVERBS_METHOD_ADVISE_MR:
        return fake_advise(attrs);
    case PFN_MR_METHOD_QUERY:
        return fake->ours ? fake_query(attrs) : fake->no_driver;
    default:
        return EPROTONOSUPPORT;
    }
}

ibv_device device{};
ibv_context context{};

} // namespace

// The linker prefers these to those of the C library and libibverbs, for the calls of
// libpfndv, too.
extern "C" {

int ioctl(int fd, unsigned long request, ...) noexcept {
    va_list args;
    va_start(args, request);
    auto* hdr = va_arg(args, ib_uverbs_ioctl_hdr*);
    va_end(args);
    errno = fd == context.cmd_fd && request == RDMA_VERBS_IOCTL ? fake_call(*hdr) : ENOTTY;
    return errno ? -1 : 0;
}

#undef ibv_reg_mr
ibv_mr* ibv_reg_mr(ibv_pd* pd, void* addr, size_t length, int access) {
    if (access & IBV_ACCESS_ON_DEMAND ? !fake->paging : !fake->pinning) {
        errno = access & IBV_ACCESS_ON_DEMAND ? EOPNOTSUPP : ENOMEM;
        return nullptr;
    }
    auto* mr = new ibv_mr{};
    mr->context = pd->context;
    mr->pd = pd;
    mr->addr = addr;
    mr->length = length;
    mr->handle = fake->next_handle++;
    fake->mrs.insert(mr->handle);
    fake->structs.insert(mr);
    return mr;
}

int ibv_dereg_mr(ibv_mr* mr) {
    if (fake->dereg_error)
        return fake->dereg_error;
    EXPECT_EQ(1U, fake->structs.erase(mr));
    const int error = fake_destroy(mr->handle);
    delete mr;
    return error;
}

ibv_fork_status ibv_is_fork_initialized(void) {
    return fake->fork_status;
}

ibv_context* ibv_open_device(ibv_device*) {
    errno = fake->open_error;
    if (fake->open_error)
        return nullptr;
    ++fake->contexts;
    return &context;
}

int ibv_close_device(ibv_context*) {
    --fake->contexts;
    fake->log.push_back("context");
    return 0;
}

ibv_pd* ibv_alloc_pd(ibv_context* where) {
    ++fake->pds;
    auto* pd = new ibv_pd{};
    pd->context = where;
    return pd;
}

int ibv_dealloc_pd(ibv_pd* pd) {
    --fake->pds;
    fake->log.push_back("pd");
    delete pd;
    return 0;
}

} // extern "C"

namespace {

class Pfndv : public testing::Test {
  protected:
    Pfndv() {
        fake = &state;
        context.device = &device;
        context.cmd_fd = 1234;
        std::strcpy(device.name, "fake0");
        pd.context = &context;
        pd.handle = 7;
    }
    ~Pfndv() override {
        EXPECT_TRUE(state.mrs.empty()) << "MRs are left in the kernel";
        EXPECT_TRUE(state.structs.empty()) << "MRs are left in the provider";
        EXPECT_EQ(0, state.pds);
        EXPECT_EQ(0, state.contexts);
    }

    static pfndv_dmabuf_mr_attr attr() {
        pfndv_dmabuf_mr_attr a{};
        a.fd = 0; // open in every test
        a.length = 8192;
        a.access = IBV_ACCESS_LOCAL_WRITE;
        return a;
    }
    /// Registering has to fail with this errno and this reason.
    void refused(int error, const std::string& reason, const pfndv_dmabuf_mr_attr& a = attr()) {
        errno = 0;
        EXPECT_EQ(nullptr, pfndv_reg_dmabuf_mr(&pd, &a, sizeof(a)));
        EXPECT_EQ(error, errno);
        EXPECT_EQ(reason, pfndv_last_reason());
    }

    Fake state;
    ibv_pd pd{};
};

// The ABI: what programs were compiled with stays as it is.

TEST(Abi, StructuresAreLaidOutAsReleased) {
    EXPECT_EQ(32U, sizeof(pfndv_device_attr));
    EXPECT_EQ(24U, offsetof(pfndv_device_attr, max_length));
    EXPECT_EQ(48U, sizeof(pfndv_dmabuf_mr_attr));
    EXPECT_EQ(32U, offsetof(pfndv_dmabuf_mr_attr, fd));
    EXPECT_EQ(44U, offsetof(pfndv_dmabuf_mr_attr, eventfd));
    EXPECT_EQ(120U, sizeof(pfndv_mr_attr)); // 1.0: 112, up to offset
    EXPECT_EQ(24U, offsetof(pfndv_mr_attr, ranges));
    EXPECT_EQ(104U, offsetof(pfndv_mr_attr, offset));
    EXPECT_EQ(112U, offsetof(pfndv_mr_attr, because));
}

TEST(Abi, NumbersAreAsReleased) {
    EXPECT_EQ(3, PFNDV_MODE_DYNAMIC);
    EXPECT_EQ(2, PFNDV_STATE_REVOKED);
    EXPECT_EQ(1, PFNDV_BACKEND_PFN);
    EXPECT_EQ(2, PFNDV_BACKEND_VMAP);
    EXPECT_EQ(3, PFNDV_BACKEND_P2P);
    EXPECT_EQ(1, PFNDV_BECAUSE_LENDS);
    EXPECT_EQ(2, PFNDV_BECAUSE_NO_RANGES);
    EXPECT_EQ(3, PFNDV_BECAUSE_NO_VMAP);
    EXPECT_EQ(4, PFNDV_BECAUSE_TEST);
    EXPECT_EQ(1, PFNDV_MR_BECAUSE);
    EXPECT_EQ(1, PFNDV_DMABUF_MR_EVENTFD);
    EXPECT_EQ(7, PFNDV_PREFETCH_WRITE | PFNDV_PREFETCH_NO_WAIT | PFNDV_PREFETCH_ASYNC);
}

TEST(Names, AreThoseOfRdmaResource) {
    const std::array modes{"default", "pinned", "revocable", "dynamic", "unknown"};
    for (std::uint32_t i = 0; i < modes.size(); ++i)
        EXPECT_STREQ(modes.at(i), pfndv_mode_str(i));
    const std::array states{"absent", "present", "revoked", "unknown"};
    for (std::uint32_t i = 0; i < states.size(); ++i)
        EXPECT_STREQ(states.at(i), pfndv_state_str(i));
    const std::array backends{"unknown", "pfn", "vmap", "p2p", "unknown"};
    for (std::uint32_t i = 0; i < backends.size(); ++i)
        EXPECT_STREQ(backends.at(i), pfndv_backend_str(i));
    EXPECT_STREQ("unknown", pfndv_backend_str(~0U));
    const std::array reasons{
        "unknown",
        "exporter lends ranges",
        "exporter lends no ranges, maps for the kernel",
        "exporter lends no ranges, has no kernel mapping, tells bus addresses",
        "exporter lends ranges, but test_bridge_lenders is set",
        "unknown",
    };
    for (std::uint32_t i = 0; i < reasons.size(); ++i)
        EXPECT_STREQ(reasons.at(i), pfndv_because_str(i));
    EXPECT_STREQ("unknown", pfndv_because_str(~0U));
}

// Registering.

TEST_F(Pfndv, RegistersWhatItIsAskedFor) {
    auto a = attr();
    a.comp_mask = PFNDV_DMABUF_MR_EVENTFD;
    a.offset = 4096;
    a.iova = 0x10000;
    a.fd = 17;
    a.access = IBV_ACCESS_REMOTE_READ;
    a.mode = PFNDV_MODE_REVOCABLE;
    a.eventfd = 18;
    ibv_mr* mr = pfndv_reg_dmabuf_mr(&pd, &a, sizeof(a));
    ASSERT_NE(nullptr, mr);
    const Attrs& sent = state.reg;
    EXPECT_EQ(7U, sent.at(UVERBS_ATTR_REG_DMABUF_MR_PD_HANDLE).data);
    EXPECT_EQ(4096U, value_of<std::uint64_t>(sent.at(UVERBS_ATTR_REG_DMABUF_MR_OFFSET)));
    EXPECT_EQ(8192U, value_of<std::uint64_t>(sent.at(UVERBS_ATTR_REG_DMABUF_MR_LENGTH)));
    EXPECT_EQ(0x10000U, value_of<std::uint64_t>(sent.at(UVERBS_ATTR_REG_DMABUF_MR_IOVA)));
    EXPECT_EQ(17U, value_of<std::uint32_t>(sent.at(UVERBS_ATTR_REG_DMABUF_MR_FD)));
    EXPECT_EQ(4U, sent.at(UVERBS_ATTR_REG_DMABUF_MR_FD).len);
    EXPECT_EQ(IBV_ACCESS_REMOTE_READ,
              value_of<int>(sent.at(UVERBS_ATTR_REG_DMABUF_MR_ACCESS_FLAGS)));
    EXPECT_EQ(2U, value_of<std::uint64_t>(sent.at(PFN_MR_ATTR_REG_DMABUF_MODE)));
    EXPECT_EQ(18, sent.at(PFN_MR_ATTR_REG_DMABUF_EVENTFD).data_s64);
    EXPECT_EQ(0U, sent.at(PFN_MR_ATTR_REG_DMABUF_EVENTFD).len);
    // An older kernel may not know the reason; the mode it has to know.
    EXPECT_EQ(0U, sent.at(PFN_MR_ATTR_REG_DMABUF_REASON).flags);
    EXPECT_NE(0U, sent.at(PFN_MR_ATTR_REG_DMABUF_MODE).flags);

    EXPECT_EQ(std::set{mr->handle}, state.mrs);
    EXPECT_EQ(mr->handle + 1000, mr->lkey);
    EXPECT_EQ(mr->handle + 2000, mr->rkey);
    EXPECT_EQ(reinterpret_cast<void*>(4096), mr->addr);
    EXPECT_EQ(8192U, mr->length);
    EXPECT_EQ(&pd, mr->pd);
    EXPECT_EQ(&context, mr->context);
    EXPECT_EQ(0, ibv_dereg_mr(mr));
}

TEST_F(Pfndv, SendsNoEventfdUnlessAsked) {
    auto a = attr();
    a.eventfd = 18;
    ibv_mr* mr = pfndv_reg_dmabuf_mr(&pd, &a, sizeof(a));
    ASSERT_NE(nullptr, mr);
    EXPECT_FALSE(state.reg.contains(PFN_MR_ATTR_REG_DMABUF_EVENTFD));
    EXPECT_EQ(0, ibv_dereg_mr(mr));
}

TEST_F(Pfndv, OrdinaryMrWillDoWithoutPaging) {
    state.paging = false;
    const auto a = attr();
    ibv_mr* mr = pfndv_reg_dmabuf_mr(&pd, &a, sizeof(a));
    ASSERT_NE(nullptr, mr);
    EXPECT_EQ(0, ibv_dereg_mr(mr));
}

TEST_F(Pfndv, OrdinaryMrWillNotDoWhileForksAreAccountedFor) {
    state.paging = false;
    state.fork_status = IBV_FORK_ENABLED;
    refused(EOPNOTSUPP, "libibverbs cannot make a memory region to carry this one: "
                        "Operation not supported");
}

TEST_F(Pfndv, WithoutCarrierNothingIsLeft) {
    state.paging = state.pinning = false;
    refused(ENOMEM, "libibverbs cannot make a memory region to carry this one: "
                    "Cannot allocate memory");
}

TEST_F(Pfndv, WithACarrierThatCannotBeEmptiedNothingIsLeft) {
    state.destroy_error = EBUSY;
    refused(EBUSY, "the memory region that should carry this one cannot be emptied: "
                   "Device or resource busy");
}

// Why not.

TEST_F(Pfndv, TheKernelsReasonComesFirst) {
    state.reg_error = EINVAL;
    state.reason = "the length is 0";
    auto a = attr();
    a.iova = 1;
    refused(EINVAL, "the length is 0", a);
}

TEST_F(Pfndv, LongestReasonOfTheKernel) {
    state.reg_error = EINVAL;
    state.reason = std::string(2 * PFN_MR_REASON_MAX, 'x');
    refused(EINVAL, std::string(PFN_MR_REASON_MAX - 1, 'x'));
}

TEST_F(Pfndv, WhatUverbsDoesNotExplain) {
    state.reg_error = EINVAL;
    auto a = attr();
    a.iova = 1;
    refused(EINVAL, "offset and iova must be at the same place within their page", a);
    a = attr();
    a.access = IBV_ACCESS_MW_BIND;
    refused(EINVAL,
            "a dma-buf is registered with LOCAL_WRITE, REMOTE_READ, REMOTE_WRITE, REMOTE_ATOMIC "
            "and RELAXED_ORDERING only; ibv_rereg_mr() adds others",
            a);
    a.access = IBV_ACCESS_REMOTE_WRITE;
    refused(EINVAL, "REMOTE_WRITE and REMOTE_ATOMIC need LOCAL_WRITE", a);
    a.access = IBV_ACCESS_REMOTE_ATOMIC;
    refused(EINVAL, "REMOTE_WRITE and REMOTE_ATOMIC need LOCAL_WRITE", a);
    refused(EINVAL, "Invalid argument"); // nothing that we know of
}

TEST_F(Pfndv, WhatDriversDoNotExplain) {
    state.reg_error = EBADF;
    auto a = attr();
    a.fd = -1;
    refused(EBADF, "fd -1 is not open", a);
    a = attr();
    a.comp_mask = PFNDV_DMABUF_MR_EVENTFD;
    a.eventfd = 4321;
    refused(EBADF, "eventfd 4321 is not open", a);
    state.reg_error = ENOENT;
    refused(ENOENT, "the device context has no such protection domain");
    state.reg_error = EINTR;
    refused(EINTR, "a signal interrupted the wait for the exporter");
    state.reg_error = EIO;
    refused(EIO, "the device has gone");
    state.reg_error = ENOMEM;
    refused(ENOMEM, "Cannot allocate memory");
}

constexpr const char* NO_PFN_MRS = "the kernel driver of fake0 has no pfn MRs: it takes soft-RoCE "
                                   "with this project's rdma_rxe, not the stock module";

TEST_F(Pfndv, OtherDriversAreEOPNOTSUPPInAllFunctions) {
    state.ours = false;
    for (const int error : {EINVAL, EPROTONOSUPPORT}) { // another driver; the stock one
        state.no_driver = error;
        refused(EOPNOTSUPP, NO_PFN_MRS);
        pfndv_device_attr device_attr;
        EXPECT_EQ(EOPNOTSUPP, pfndv_query_device(&context, &device_attr, sizeof(device_attr)));
        EXPECT_STREQ(NO_PFN_MRS, pfndv_last_reason());
        ibv_mr mr{};
        mr.context = &context;
        pfndv_mr_attr mr_attr;
        EXPECT_EQ(EOPNOTSUPP, pfndv_query_mr(&mr, &mr_attr, sizeof(mr_attr)));
        EXPECT_STREQ(NO_PFN_MRS, pfndv_last_reason());
        EXPECT_FALSE(pfndv_is_supported(&device));
        EXPECT_EQ(EOPNOTSUPP, errno);
        EXPECT_STREQ(NO_PFN_MRS, pfndv_last_reason());
    }
}

TEST_F(Pfndv, DeviceThatCannotBeOpened) {
    state.open_error = EACCES;
    EXPECT_FALSE(pfndv_is_supported(&device));
    EXPECT_EQ(EACCES, errno);
    EXPECT_STREQ("fake0 cannot be opened: Permission denied", pfndv_last_reason());
}

TEST_F(Pfndv, DeviceThatHasGone) {
    state.ours = false;
    state.no_driver = EIO;
    EXPECT_FALSE(pfndv_is_supported(&device));
    EXPECT_STREQ("fake0 cannot be asked: Input/output error", pfndv_last_reason());
    pfndv_device_attr a;
    EXPECT_EQ(EIO, pfndv_query_device(&context, &a, sizeof(a)));
    EXPECT_STREQ("the device cannot be asked: Input/output error", pfndv_last_reason());
    refused(EIO, "the device has gone");
}

TEST_F(Pfndv, SuccessKeepsTheReasonOfTheLastFailure) {
    state.reg_error = ENOENT;
    refused(ENOENT, "the device context has no such protection domain");
    EXPECT_TRUE(pfndv_is_supported(&device));
    EXPECT_STREQ("the device context has no such protection domain", pfndv_last_reason());
}

TEST_F(Pfndv, EachThreadHasItsOwnReason) {
    constexpr int THREADS = 8;
    constexpr int ROUNDS = 200;
    std::barrier start(THREADS);
    std::array<std::string, THREADS> wrong;
    {
        std::vector<std::jthread> threads;
        for (int t = 0; t < THREADS; ++t) {
            threads.emplace_back([&, t] {
                if (*pfndv_last_reason() != '\0')
                    wrong.at(static_cast<std::size_t>(t)) = "not empty at first";
                start.arrive_and_wait();
                const auto size = static_cast<std::uint32_t>(t);
                const auto expected = "attr_size is " + std::to_string(t) +
                                      ", struct pfndv_dmabuf_mr_attr has 48 bytes";
                for (int i = 0; i < ROUNDS; ++i) {
                    const auto a = attr();
                    (void)pfndv_reg_dmabuf_mr(&pd, &a, size);
                    if (expected != pfndv_last_reason())
                        wrong.at(static_cast<std::size_t>(t)) = pfndv_last_reason();
                }
            });
        }
    }
    for (const auto& text : wrong)
        EXPECT_EQ("", text);
}

// Growing structures.

/// A structure of the next version.
template<typename T>
struct Longer {
    T first;
    std::uint64_t more;
};

TEST_F(Pfndv, ShorterThanEverIsEINVAL) {
    const auto a = attr();
    EXPECT_EQ(nullptr, pfndv_reg_dmabuf_mr(&pd, &a, sizeof(a) - 1));
    EXPECT_EQ(EINVAL, errno);
    EXPECT_STREQ("attr_size is 47, struct pfndv_dmabuf_mr_attr has 48 bytes", pfndv_last_reason());
    pfndv_device_attr device_attr;
    EXPECT_EQ(EINVAL, pfndv_query_device(&context, &device_attr, sizeof(device_attr) - 1));
    EXPECT_STREQ("attr_size is 31, struct pfndv_device_attr has 32 bytes", pfndv_last_reason());
    ibv_mr mr{};
    pfndv_mr_attr mr_attr;
    EXPECT_EQ(EINVAL, pfndv_query_mr(&mr, &mr_attr, 0));
    EXPECT_STREQ("attr_size is 0, struct pfndv_mr_attr has 112 bytes", pfndv_last_reason());
}

TEST_F(Pfndv, LongerIsFineIfItAsksForNothingNew) {
    Longer<pfndv_dmabuf_mr_attr> a{.first = attr(), .more = 0};
    ibv_mr* mr = pfndv_reg_dmabuf_mr(&pd, &a.first, sizeof(a));
    ASSERT_NE(nullptr, mr);
    EXPECT_EQ(0, ibv_dereg_mr(mr));
    constexpr const char* TOO_NEW =
        "this libpfndv is older than the program and does not know all that it asks for";
    a.more = std::uint64_t{1} << 63;
    EXPECT_EQ(nullptr, pfndv_reg_dmabuf_mr(&pd, &a.first, sizeof(a)));
    EXPECT_EQ(EINVAL, errno);
    EXPECT_STREQ(TOO_NEW, pfndv_last_reason());
    auto masked = attr();
    masked.comp_mask = std::uint64_t{1} << 40;
    refused(EINVAL, TOO_NEW, masked);
}

TEST_F(Pfndv, LongerAnswersAreZeroAtTheirEnd) {
    Longer<pfndv_device_attr> device_attr{.first = {}, .more = ~0ULL};
    device_attr.first.comp_mask = ~0ULL;
    EXPECT_EQ(0, pfndv_query_device(&context, &device_attr.first, sizeof(device_attr)));
    EXPECT_EQ(0U, device_attr.more);
    EXPECT_EQ(0U, device_attr.first.comp_mask);
    EXPECT_EQ(0xfU, device_attr.first.modes);
    EXPECT_EQ(2U, device_attr.first.backends);
    EXPECT_EQ(3U, device_attr.first.reg_access);
    EXPECT_EQ(4U, device_attr.first.rereg_access);
    EXPECT_EQ(5U, device_attr.first.max_length);
}

// Querying.

TEST_F(Pfndv, QueryReturnsAllThatTheKernelKnows) {
    ibv_mr mr{};
    mr.context = &context;
    Longer<pfndv_mr_attr> a{.first = {}, .more = ~0ULL};
    ASSERT_EQ(0, pfndv_query_mr(&mr, &a.first, sizeof(a)));
    EXPECT_EQ(PFNDV_MODE_PINNED, static_cast<pfndv_mode>(a.first.mode));
    EXPECT_EQ(PFNDV_STATE_PRESENT, static_cast<pfndv_state>(a.first.state));
    EXPECT_EQ(PFNDV_BACKEND_PFN, static_cast<pfndv_backend>(a.first.backend));
    EXPECT_EQ(1U, a.first.mmio);
    EXPECT_EQ(2U, a.first.ranges);
    EXPECT_EQ(3U, a.first.metadata_bytes);
    EXPECT_EQ(4U, a.first.faults);
    EXPECT_EQ(5U, a.first.invalidations);
    EXPECT_EQ(6U, a.first.prefetches);
    EXPECT_EQ(7U, a.first.bytes_read);
    EXPECT_EQ(8U, a.first.bytes_written);
    EXPECT_EQ(9U, a.first.dmabuf_ino);
    EXPECT_EQ(10U, a.first.offset);
    EXPECT_EQ(11U, a.first.generation);
    EXPECT_EQ(4096U, a.first.page_size);
    EXPECT_EQ(std::uint64_t{PFNDV_MR_BECAUSE}, a.first.comp_mask);
    EXPECT_EQ(PFNDV_BECAUSE_LENDS, static_cast<pfndv_because>(a.first.because));
    EXPECT_EQ(0U, a.first.reserved);
    EXPECT_EQ(0U, a.more);
}

TEST_F(Pfndv, QueryGivesAnOlderProgramWhatItHasRoomFor) {
    ibv_mr mr{};
    mr.context = &context;
    pfndv_mr_attr a;
    std::memset(&a, 0xee, sizeof(a));
    ASSERT_EQ(0, pfndv_query_mr(&mr, &a, offsetof(pfndv_mr_attr, because)));
    EXPECT_EQ(10U, a.offset);
    EXPECT_EQ(0U, a.comp_mask) << "it has no fields beyond the first version";
    EXPECT_EQ(0xeeeeeeeeU, a.because) << "not its memory";
}

TEST_F(Pfndv, WhatAnOlderKernelDoesNotKnowIsZero) {
    state.info_size = offsetof(pfn_mr_info, generation);
    ibv_mr mr{};
    mr.context = &context;
    pfndv_mr_attr a;
    ASSERT_EQ(0, pfndv_query_mr(&mr, &a, sizeof(a)));
    EXPECT_EQ(10U, a.offset);
    EXPECT_EQ(0U, a.generation);
    EXPECT_EQ(0U, a.page_size);
    EXPECT_EQ(0U, a.comp_mask);
    EXPECT_EQ(0U, a.because);
}

TEST_F(Pfndv, QueriesThatFail) {
    ibv_mr mr{};
    mr.context = &context;
    pfndv_mr_attr a;
    for (const auto& [error, reason] :
         {std::pair{EINVAL, "this handle is of something else than a memory region"},
          std::pair{EOPNOTSUPP, "the memory region is not on a dma-buf"},
          std::pair{ENOENT, "the device context has no such memory region"},
          std::pair{EIO, "Input/output error"}}) {
        state.query_error = error;
        EXPECT_EQ(error, pfndv_query_mr(&mr, &a, sizeof(a)));
        EXPECT_EQ(error, errno);
        EXPECT_STREQ(reason, pfndv_last_reason());
    }
}

// Prefetching.

class Prefetch : public Pfndv {
  protected:
    Prefetch() {
        mr.context = &context;
        mr.pd = &pd;
        mr.lkey = 99;
    }
    ibv_mr mr{};
};

TEST_F(Prefetch, FlagsBecomeAdvice) {
    struct Case {
        std::uint32_t flags;
        std::uint64_t advice;
        std::uint32_t sent;
    };
    for (const auto& [flags, advice, sent] :
         {Case{0, IBV_ADVISE_MR_ADVICE_PREFETCH, IBV_ADVISE_MR_FLAG_FLUSH},
          Case{PFNDV_PREFETCH_ASYNC, IBV_ADVISE_MR_ADVICE_PREFETCH, 0},
          Case{PFNDV_PREFETCH_WRITE, IBV_ADVISE_MR_ADVICE_PREFETCH_WRITE, IBV_ADVISE_MR_FLAG_FLUSH},
          Case{PFNDV_PREFETCH_NO_WAIT, IBV_ADVISE_MR_ADVICE_PREFETCH_NO_FAULT,
               IBV_ADVISE_MR_FLAG_FLUSH}}) {
        EXPECT_EQ(0, pfndv_prefetch(&mr, 10, 20, flags));
        EXPECT_EQ(advice, state.advice);
        EXPECT_EQ(sent, state.advise_flags);
        EXPECT_EQ(10U, state.advised.back().addr);
        EXPECT_EQ(20U, state.advised.back().length);
        EXPECT_EQ(99U, state.advised.back().lkey);
    }
}

TEST_F(Prefetch, LongRangesGoInPieces) {
    constexpr std::uint64_t GIB = 1 << 30;
    EXPECT_EQ(0, pfndv_prefetch(&mr, 5, 5 * GIB + 1, 0));
    ASSERT_EQ(3U, state.advised.size());
    std::uint64_t next = 5;
    for (const auto& piece : state.advised) {
        EXPECT_EQ(next, piece.addr);
        next += piece.length;
    }
    EXPECT_EQ(5 + 5 * GIB + 1, next);
}

TEST_F(Prefetch, NothingIsCheckedAllTheSame) {
    EXPECT_EQ(0, pfndv_prefetch(&mr, 5, 0, 0));
    EXPECT_EQ(1U, state.advised.size());
}

TEST_F(Prefetch, UnknownFlagsAreEINVAL) {
    EXPECT_EQ(EINVAL, pfndv_prefetch(&mr, 0, 1, 0x18));
    EXPECT_STREQ("flags 0x18 are unknown", pfndv_last_reason());
    EXPECT_EQ(EINVAL, pfndv_prefetch(&mr, 0, 1, PFNDV_PREFETCH_WRITE | PFNDV_PREFETCH_NO_WAIT));
    EXPECT_STREQ("verbs have no advice that is both WRITE and NO_WAIT", pfndv_last_reason());
    EXPECT_TRUE(state.advised.empty());
}

TEST_F(Prefetch, Failures) {
    for (const auto& [error, reason] :
         {std::pair{ENOENT, "the key is not that of a memory region in this protection domain"},
          std::pair{EFAULT, "the range is not inside of the memory region"},
          std::pair{EPERM, "nobody may write to the memory region"},
          std::pair{ENODEV, "the exporter has revoked the memory"},
          std::pair{ETIMEDOUT, "the exporter did not finish moving the memory in time"},
          std::pair{EOPNOTSUPP,
                    "the memory region has nothing to prefetch: it is not on a dma-buf"},
          std::pair{ENOMEM, "Cannot allocate memory"}}) {
        state.advise_error = error;
        EXPECT_EQ(error, pfndv_prefetch(&mr, 0, 1, 0));
        EXPECT_EQ(error, errno);
        EXPECT_STREQ(reason, pfndv_last_reason());
    }
}

// The C++ handles.

template<typename T>
constexpr bool MOVE_ONLY =
    std::is_nothrow_move_constructible_v<T> && std::is_nothrow_move_assignable_v<T> &&
    !std::is_copy_constructible_v<T> && !std::is_copy_assignable_v<T>;
static_assert(MOVE_ONLY<pfndv::Device> && MOVE_ONLY<pfndv::Pd> && MOVE_ONLY<pfndv::DmaBuf> &&
              MOVE_ONLY<pfndv::Mapping> && MOVE_ONLY<pfndv::Mr>);

/// Something with a size and a descriptor, as a dma-buf has.
pfndv::DmaBuf memory(off_t size = 8192) {
    const int fd = ::memfd_create("memory", MFD_CLOEXEC);
    EXPECT_EQ(0, ::ftruncate(fd, size));
    return pfndv::DmaBuf::adopt(fd);
}

bool is_open(int fd) {
    return ::fcntl(fd, F_GETFD) >= 0;
}

class Handles : public Pfndv {
  protected:
    static pfndv::Device open() { return pfndv::Device::adopt(ibv_open_device(&device)); }
};

TEST_F(Handles, KeepWhatTheyWereMadeFrom) {
    std::optional<pfndv::Mr> mr;
    {
        auto own_device = open();
        auto own_pd = pfndv::Pd::alloc(own_device).value();
        mr = pfndv::Mr::reg(own_pd, memory()).value();
        state.log.clear(); // of the carrier
    }
    EXPECT_EQ(1, state.pds);
    EXPECT_EQ(1, state.contexts);
    mr.reset();
    EXPECT_EQ((std::vector<std::string>{"mr", "pd", "context"}), state.log);
}

TEST_F(Handles, AssignmentGivesUpWhatWasThere) {
    auto one = pfndv::Mr::reg(pfndv::Pd::alloc(open()).value(), memory()).value();
    auto two = pfndv::Mr::reg(pfndv::Pd::alloc(open()).value(), memory()).value();
    state.log.clear();
    ibv_mr* raw = two.get();
    one = std::move(two);
    EXPECT_EQ((std::vector<std::string>{"mr", "pd", "context"}), state.log);
    EXPECT_EQ(raw, one.get());
    EXPECT_EQ(nullptr, two.get()); // NOLINT(bugprone-use-after-move): that is the point
    pfndv::Mr& same = one;
    one = std::move(same);
    EXPECT_EQ(raw, one.get());
}

TEST_F(Handles, BorrowedObjectsAreLeftAlone) {
    {
        const auto borrowed = pfndv::Pd::borrow(&pd);
        const auto context_too = pfndv::Device::borrow(&context);
        const auto mr = pfndv::Mr::reg(borrowed, memory()).value();
        EXPECT_EQ(&pd, mr.get()->pd);
    }
    EXPECT_EQ(0, state.pds);
    EXPECT_EQ(0, state.contexts);
    EXPECT_TRUE(std::ranges::find(state.log, "pd") == state.log.end());
}

TEST_F(Handles, AdoptedMrsAreDeregistered) {
    auto own_pd = pfndv::Pd::adopt(ibv_alloc_pd(&context));
    const auto a = attr();
    {
        const auto mr =
            pfndv::Mr::adopt(pfndv_reg_dmabuf_mr(own_pd.get(), &a, sizeof(a)), 64, own_pd);
        EXPECT_EQ(64U + 10, mr.address(10));
    }
    EXPECT_TRUE(state.mrs.empty());
}

TEST_F(Handles, DeregisteringMayFailAndBeTriedAgain) {
    auto mr = pfndv::Mr::reg(pfndv::Pd::borrow(&pd), memory()).value();
    state.dereg_error = EINVAL;
    const auto failed = mr.dereg();
    ASSERT_FALSE(failed);
    EXPECT_EQ(EINVAL, failed.error().code);
    EXPECT_EQ("deregistering: Invalid argument", failed.error().reason);
    ASSERT_NE(nullptr, mr.get());
    state.dereg_error = 0;
    EXPECT_TRUE(mr.dereg());
    EXPECT_EQ(nullptr, mr.get());
}

TEST_F(Handles, ErrorsCarryTheReason) {
    state.reg_error = EOPNOTSUPP;
    state.reason = "the exporter may move the buffer";
    const auto mr = pfndv::Mr::reg(pfndv::Pd::borrow(&pd), memory());
    ASSERT_FALSE(mr);
    EXPECT_EQ(EOPNOTSUPP, mr.error().code);
    EXPECT_EQ("the exporter may move the buffer", mr.error().reason);
}

TEST_F(Handles, LengthZeroIsUpToTheEnd) {
    const auto mr = pfndv::Mr::reg(pfndv::Pd::borrow(&pd), memory(8192), {.offset = 4096}).value();
    EXPECT_EQ(4096U, mr.length());
    const auto sge = mr.sge(8, 16);
    EXPECT_EQ(8U, sge.addr);
    EXPECT_EQ(16U, sge.length);
    EXPECT_EQ(mr.lkey(), sge.lkey);
}

TEST_F(Handles, QueryAndPrefetch) {
    const auto mr =
        pfndv::Mr::reg(pfndv::Pd::borrow(&pd), memory(), {.iova = 0x1000, .eventfd = 3}).value();
    EXPECT_TRUE(state.reg.contains(PFN_MR_ATTR_REG_DMABUF_EVENTFD));
    EXPECT_EQ(2U, mr.query().value().ranges);
    EXPECT_TRUE(mr.prefetch());
    EXPECT_EQ(0x1000U, state.advised.back().addr);
    EXPECT_EQ(8192U, state.advised.back().length);
    state.query_error = ENOENT;
    EXPECT_EQ(ENOENT, mr.query().error().code);
    state.advise_error = ENODEV;
    EXPECT_EQ("the exporter has revoked the memory", mr.prefetch().error().reason);
    const auto borrowed = pfndv::Device::borrow(&context);
    EXPECT_EQ(5U, borrowed.query().value().max_length);
    state.ours = false;
    EXPECT_EQ(NO_PFN_MRS, borrowed.query().error().reason);
}

TEST_F(Handles, DescriptorsAreClosedOnce) {
    int first = -1;
    int second = -1;
    {
        auto one = memory();
        auto two = pfndv::DmaBuf::dup(one.fd()).value();
        first = one.fd();
        second = two.fd();
        one = std::move(two);
        EXPECT_FALSE(is_open(first));
        EXPECT_EQ(second, one.fd());
        EXPECT_EQ(-1, two.fd()); // NOLINT(bugprone-use-after-move): that is the point
    }
    EXPECT_FALSE(is_open(second));
    EXPECT_EQ(EBADF, pfndv::DmaBuf::dup(-1).error().code);
    EXPECT_EQ(EBADF, pfndv::DmaBuf::adopt(-1).size().error().code);
    EXPECT_EQ(EBADF, pfndv::DmaBuf::adopt(-1).map().error().code);
}

TEST_F(Handles, MappingsOutliveTheDescriptor) {
    auto mapping = memory().map().value();
    ASSERT_EQ(8192U, mapping.bytes().size());
    mapping.bytes()[8191] = std::byte{1};
    const auto moved = std::move(mapping);
    EXPECT_EQ(std::byte{1}, moved.bytes()[8191]);
    EXPECT_TRUE(mapping.bytes().empty()); // NOLINT(bugprone-use-after-move): that is the point
}

TEST_F(Handles, AThousandRoundsLeaveNothing) {
    for (int i = 0; i < 1000; ++i) {
        state.reg_error = i % 3 == 1 ? EINVAL : 0;
        state.destroy_error = i % 3 == 2 ? EBUSY : 0;
        const auto mr = pfndv::Mr::reg(pfndv::Pd::alloc(open()).value(), memory());
        EXPECT_EQ(i % 3 == 0, mr.has_value());
    }
}

} // namespace
