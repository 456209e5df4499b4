// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
//
// What soft-RoCE cannot do, with memory of any kind, and how that shows: the
// evidence for the list in docs/verbs.md. A test here that fails may be good news.
#include "support/rdma_test.hpp"

#include <fcntl.h>

namespace pfn {
namespace {

class SoftRoce : public RdmaTest {
  protected:
    static constexpr std::uint64_t SIZE = 64 * KIB;

    /// errno of a call that returns an object, 0 if it does. The object is leaked
    /// until the context is closed.
    template<typename Call>
    static int failure(Call&& call) {
        errno = 0;
        return call() ? 0 : errno;
    }

    int qp_failure(ibv_qp_type type) const {
        ibv_qp_init_attr_ex attr{};
        attr.send_cq = gpu.cq.get();
        attr.recv_cq = gpu.cq.get();
        attr.cap = {.max_send_wr = 4,
                    .max_recv_wr = 4,
                    .max_send_sge = 1,
                    .max_recv_sge = 1,
                    .max_inline_data = 0};
        attr.qp_type = type;
        attr.comp_mask = IBV_QP_INIT_ATTR_PD;
        attr.pd = gpu.pd.get();
        return failure([&] { return ibv_create_qp_ex(gpu.context.get(), &attr); });
    }

    DeviceMemory device{vram, gpu.pd, {.size = SIZE}};
    HostMemory host{peer.pd, SIZE};
};

TEST_F(SoftRoce, HasNoOtherQueuePairs) {
    EXPECT_EQ(Errno{0}, Errno{qp_failure(IBV_QPT_RC)}); // this is how it looks if it has
    EXPECT_EQ(Errno{EOPNOTSUPP}, Errno{qp_failure(IBV_QPT_XRC_SEND)});
    EXPECT_EQ(Errno{EOPNOTSUPP}, Errno{qp_failure(IBV_QPT_RAW_PACKET)});
    EXPECT_EQ(Errno{EOPNOTSUPP}, Errno{qp_failure(IBV_QPT_DRIVER)});
}

TEST_F(SoftRoce, HasNoXrcDomains) {
    ibv_xrcd_init_attr attr{};
    attr.comp_mask = IBV_XRCD_INIT_ATTR_FD | IBV_XRCD_INIT_ATTR_OFLAGS;
    attr.fd = -1;
    attr.oflags = O_CREAT;
    EXPECT_EQ(Errno{EOPNOTSUPP},
              Errno{failure([&] { return ibv_open_xrcd(gpu.context.get(), &attr); })});
}

TEST_F(SoftRoce, HasNoMemoryOfItsOwn) {
    ibv_alloc_dm_attr attr{};
    attr.length = 4096;
    EXPECT_EQ(Errno{EOPNOTSUPP},
              Errno{failure([&] { return ibv_alloc_dm(gpu.context.get(), &attr); })});
    EXPECT_EQ(Errno{EOPNOTSUPP},
              Errno{failure([&] { return ibv_import_dm(gpu.context.get(), 1); })});
    EXPECT_EQ(Errno{EOPNOTSUPP}, Errno{failure([&] { return ibv_alloc_null_mr(gpu.pd.get()); })});
}

TEST_F(SoftRoce, HasNoOtherDomains) {
    ibv_td_init_attr thread{};
    EXPECT_EQ(Errno{EOPNOTSUPP},
              Errno{failure([&] { return ibv_alloc_td(gpu.context.get(), &thread); })});
    ibv_parent_domain_init_attr parent{};
    parent.pd = gpu.pd.get();
    EXPECT_EQ(Errno{EOPNOTSUPP},
              Errno{failure([&] { return ibv_alloc_parent_domain(gpu.context.get(), &parent); })});
}

TEST_F(SoftRoce, HasNoFlows) {
    ibv_flow_attr attr{};
    attr.type = IBV_FLOW_ATTR_NORMAL;
    attr.size = sizeof(attr);
    attr.port = 1;
    EXPECT_NE(0, failure([&] { return ibv_create_flow(gpu.qp.get(), &attr); }));
}

TEST_F(SoftRoce, HasNoPersistentMemory) {
    // For memory that is none (NVDIMMs would do).
    EXPECT_ERRNO(EINVAL,
                 Mr::host(peer.pd, host.bytes(), FULL_ACCESS | IBV_ACCESS_FLUSH_PERSISTENT));
}

TEST_F(SoftRoce, LosesLargeDatagramsAndCallsItSuccess) {
    for (Endpoint* endpoint : {&gpu, &peer}) {
        endpoint->qp = Qp(endpoint->context, endpoint->pd, endpoint->cq, {.type = IBV_QPT_UD});
        endpoint->qp.activate();
    }
    const Ah to_gpu(peer.pd, peer.qp.path_to(gpu.qp.address()));
    for (const std::uint64_t id : {1U, 2U})
        gpu.qp.post_recv(id, device.sge(4096 * 2 * id, 8192));
    peer.qp.post_datagram(3, host.sge(0, 4097), to_gpu, gpu.qp.get()->qp_num);
    EXPECT_EQ(IBV_WC_SUCCESS, complete(peer));
    peer.qp.post_datagram(4, host.sge(0, 1), to_gpu, gpu.qp.get()->qp_num);
    EXPECT_EQ(IBV_WC_SUCCESS, complete(peer));
    const ibv_wc wc = gpu.cq.wait();
    EXPECT_EQ(1U, wc.wr_id);
    EXPECT_EQ(sizeof(ibv_grh) + 1, wc.byte_len);
}

TEST_F(SoftRoce, HasNoAtomicsBeyondEightBytes) {
    ibv_device_attr_ex attr{};
    ASSERT_EQ(0, ibv_query_device_ex(gpu.context.get(), nullptr, &attr));
    EXPECT_EQ(0, attr.pci_atomic_caps.fetch_add); // no atomics on the PCI bus either
    EXPECT_EQ(IBV_ATOMIC_HCA, attr.orig_attr.atomic_cap);
}

} // namespace
} // namespace pfn
