// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
//
// A fault that finds no memory: the access that faults fails at the right side with
// the right error, and the MR is none the worse for it. Needs the fault injection of
// the debug kernel.
#include "support/aftermath.hpp"
#include "support/fail_function.hpp"
#include "support/traffic.hpp"

#include <array>
#include <functional>

namespace pfn {
namespace {

constexpr std::uint64_t SIZE = 64 * KIB;
constexpr std::size_t LENGTH = 10000; ///< of an access, several packets
constexpr std::uint64_t DEVICE_SEED = 1;
constexpr std::uint64_t HOST_SEED = 2;

/// An access to device memory of the gpu; the peer has memory of its own.
struct Access {
    const char* name;
    std::size_t length;
    bool into_device;    ///< or out of it
    bool by_gpu;         ///< who completes the request; else the peer
    ibv_wc_status error; ///< there
    std::function<void(const Lane&, const DeviceMemory&, const HostMemory&)> post;
};

void PrintTo(const Access& access, std::ostream* out) {
    *out << access.name;
}

std::string access_name(const testing::TestParamInfo<Access>& info) {
    return info.param.name;
}

// Which error is whose, rule I4 says.
const std::array ACCESSES{
    Access{.name = "Write",
           .length = LENGTH,
           .into_device = true,
           .by_gpu = false,
           .error = IBV_WC_REM_ACCESS_ERR,
           .post =
               [](const Lane& lane, const DeviceMemory& device, const HostMemory& host) {
                   lane.peer_qp.post_write(1, host.sge(0, LENGTH), device.remote());
               }},
    Access{.name = "Read",
           .length = LENGTH,
           .into_device = false,
           .by_gpu = false,
           .error = IBV_WC_REM_ACCESS_ERR,
           .post =
               [](const Lane& lane, const DeviceMemory& device, const HostMemory& host) {
                   lane.peer_qp.post_read(1, host.sge(0, LENGTH), device.remote());
               }},
    Access{.name = "Atomic",
           .length = sizeof(std::uint64_t),
           .into_device = false,
           .by_gpu = false,
           .error = IBV_WC_REM_ACCESS_ERR,
           .post =
               [](const Lane& lane, const DeviceMemory& device, const HostMemory& host) {
                   lane.peer_qp.post_fetch_add(1, host.sge(0, 8), device.remote(), 0);
               }},
    Access{.name = "WriteOutOfIt",
           .length = LENGTH,
           .into_device = false,
           .by_gpu = true,
           .error = IBV_WC_LOC_PROT_ERR,
           .post =
               [](const Lane& lane, const DeviceMemory& device, const HostMemory& host) {
                   lane.gpu_qp.post_write(1, device.sge(0, LENGTH), host.remote());
               }},
    Access{.name = "ReadIntoIt",
           .length = LENGTH,
           .into_device = true,
           .by_gpu = true,
           .error = IBV_WC_LOC_PROT_ERR,
           .post =
               [](const Lane& lane, const DeviceMemory& device, const HostMemory& host) {
                   lane.gpu_qp.post_read(1, device.sge(0, LENGTH), host.remote());
               }},
    Access{.name = "Send",
           .length = LENGTH,
           .into_device = false,
           .by_gpu = true,
           .error = IBV_WC_LOC_PROT_ERR,
           .post =
               [](const Lane& lane, const DeviceMemory& device, const HostMemory& host) {
                   lane.peer_qp.post_recv(1, host.sge(0, LENGTH));
                   lane.gpu_qp.post_send(1, device.sge(0, LENGTH));
               }},
    Access{.name = "Receive",
           .length = LENGTH,
           .into_device = true,
           .by_gpu = false,
           .error = IBV_WC_REM_OP_ERR,
           .post =
               [](const Lane& lane, const DeviceMemory& device, const HostMemory& host) {
                   lane.gpu_qp.post_recv(1, device.sge(0, LENGTH));
                   lane.peer_qp.post_send(1, host.sge(0, LENGTH));
               }},
};

class FaultWithoutMemory : public RdmaTest, public testing::WithParamInterface<Access> {
  protected:
    void SetUp() override {
        if (!FailFunction::available())
            GTEST_SKIP() << "this kernel cannot let a function fail; the debug kernel can";
        RdmaTest::SetUp();
    }
    void TearDown() override {
        if (!IsSkipped())
            expect_holdings(vram, before);
    }

    const Holdings before = Holdings::now(vram);
};

INSTANTIATE_TEST_SUITE_P(Access, FaultWithoutMemory, testing::ValuesIn(ACCESSES), access_name);

// Rule: I4, T5
TEST_P(FaultWithoutMemory, IsACompletionErrorAndTheNextOneWorks) {
    const Access& access = GetParam();
    const DeviceMemory device(vram, gpu.pd, {.size = SIZE});
    const HostMemory host(peer.pd, SIZE);
    const auto status = [&](const Lane& lane, bool by_gpu) {
        return (by_gpu ? lane.gpu_cq : lane.peer_cq).wait().status;
    };
    fill_pattern(device.bytes(), DEVICE_SEED);
    fill_pattern(host.bytes(), HOST_SEED);
    vram.move(device.buffer.fd(), PFN_VRAM_PLACEMENT_SYSTEM, page_chunk());
    {
        const Lane lane(gpu, peer);
        const FailFunction no_memory("dma_buf_pfn_map", ENOMEM);
        access.post(lane, device, host);
        const ibv_wc_status requester = status(lane, access.by_gpu);
        EXPECT_EQ(access.error, requester) << ibv_wc_status_str(requester);
        if (access.error == IBV_WC_REM_OP_ERR) {
            const ibv_wc_status receiver = status(lane, true);
            EXPECT_EQ(IBV_WC_LOC_PROT_ERR, receiver) << ibv_wc_status_str(receiver);
        }
    }
    EXPECT_TRUE(has_pattern(device.bytes(), DEVICE_SEED));
    EXPECT_TRUE(has_pattern(host.bytes(), HOST_SEED));
    const auto failed = query_mr(device.mr);
    EXPECT_EQ(PFN_MR_STATE_ABSENT, failed.state);
    EXPECT_EQ(0U, failed.faults);
    EXPECT_EQ(1U, failed.invalidations);
    EXPECT_EQ(0U, failed.bytes_read + failed.bytes_written);

    const Lane lane(gpu, peer);
    access.post(lane, device, host);
    const ibv_wc_status again = status(lane, access.by_gpu);
    EXPECT_EQ(IBV_WC_SUCCESS, again) << ibv_wc_status_str(again);
    if (access.into_device)
        EXPECT_TRUE(has_pattern(device.bytes().first(access.length), HOST_SEED));
    else
        EXPECT_TRUE(has_pattern(host.bytes().first(access.length), DEVICE_SEED));
    const auto worked = query_mr(device.mr);
    EXPECT_EQ(PFN_MR_STATE_PRESENT, worked.state);
    EXPECT_EQ(1U, worked.faults);
    EXPECT_EQ(1U, worked.invalidations);
}

} // namespace
} // namespace pfn
