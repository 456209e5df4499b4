// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
//
// The verbs that register memory of either kind, which rdma-core has since 60
// (ibv_reg_mr_ex()) and 65 (ibv_alloc_buf() and ibv_reg_buf_mr()). Built and run with
// the newest rdma-core, see build.
#include "support/rdma_test.hpp"

#include <infiniband/verbs.h>

#include <fstream>
#include <memory>
#include <string>

namespace pfn {
namespace {

constexpr std::uint64_t SIZE = 64 * KIB;

using AnyMr = std::unique_ptr<ibv_mr, decltype([](ibv_mr* mr) { ibv_dereg_mr(mr); })>;
using Buf = std::unique_ptr<ibv_buf, decltype([](ibv_buf* buf) { ibv_free_buf(buf); })>;

class Newest : public RdmaTest {
  protected:
    AnyMr reg(ibv_mr_init_attr attr) {
        attr.access = FULL_ACCESS;
        AnyMr mr(ibv_reg_mr_ex(gpu.pd.get(), &attr));
        if (!mr)
            throw_errno("ibv_reg_mr_ex");
        return mr;
    }

    VramDevice vram;
    DmaBuf buffer = vram.alloc({.size = SIZE, .chunk = page_size()});
    HostMemory host{peer.pd, SIZE};
};

TEST_F(Newest, LibrariesAreThoseToBeTested) {
    // The suites of the distribution's rdma-core run with these, too.
    std::ifstream maps("/proc/self/maps");
    std::string libibverbs;
    std::string librxe;
    for (std::string line; std::getline(maps, line);) {
        const auto path = line.substr(std::min(line.find('/'), line.size()));
        if (path.contains("/libibverbs.so"))
            libibverbs = path;
        if (path.contains("/librxe-rdmav"))
            librxe = path;
    }
    EXPECT_TRUE(libibverbs.contains("/newest")) << libibverbs;
    EXPECT_TRUE(librxe.contains("/newest")) << librxe;
}

TEST_F(Newest, RegMrExWithADescriptor) {
    const std::uint64_t offset = page_size();
    const auto mr =
        reg({.length = SIZE - offset,
             .comp_mask = IBV_REG_MR_MASK_FD | IBV_REG_MR_MASK_FD_OFFSET | IBV_REG_MR_MASK_IOVA,
             .iova = 0x1000000,
             .fd = buffer.fd(),
             .fd_offset = offset});
    EXPECT_EQ(1U, vram.buf_info(buffer.fd()).attachments);
    fill_pattern(host.bytes(), 1);
    peer.qp.post_write(1, host.sge(0, SIZE - offset), {.address = 0x1000000, .rkey = mr->rkey});
    ASSERT_EQ(IBV_WC_SUCCESS, peer.cq.wait().status);
    vram.move(buffer.fd(), PFN_VRAM_PLACEMENT_SYSTEM);
    peer.qp.post_write(2, host.sge(0, 8), {.address = 0x1000000, .rkey = mr->rkey});
    ASSERT_EQ(IBV_WC_SUCCESS, peer.cq.wait().status);
    const Mapping cpu = buffer.map();
    EXPECT_TRUE(has_pattern(cpu.bytes().subspan(offset), 1));
}

TEST_F(Newest, RegMrExRefusesWhatRegDmabufMrRefuses) {
    constexpr std::uint64_t FD =
        IBV_REG_MR_MASK_FD | IBV_REG_MR_MASK_FD_OFFSET | IBV_REG_MR_MASK_IOVA;
    EXPECT_ERRNO(EBADF, reg({.length = SIZE, .comp_mask = FD, .fd = -1}));
    EXPECT_ERRNO(EINVAL, reg({.length = SIZE + 1, .comp_mask = FD, .fd = buffer.fd()}));
    EXPECT_ERRNO(EINVAL, reg({.length = SIZE,
                              .comp_mask = IBV_REG_MR_MASK_FD | IBV_REG_MR_MASK_IOVA,
                              .fd = buffer.fd()}));
    EXPECT_EQ(0U, vram.buf_info(buffer.fd()).attachments);
}

TEST_F(Newest, RegMrExWithAnAddress) {
    const Mapping memory = Mapping::anonymous(SIZE);
    const auto mr =
        reg({.length = SIZE, .comp_mask = IBV_REG_MR_MASK_ADDR, .addr = memory.bytes().data()});
    fill_pattern(host.bytes(), 3);
    peer.qp.post_write(1, host.sge(0, SIZE), {.address = memory.address(), .rkey = mr->rkey});
    ASSERT_EQ(IBV_WC_SUCCESS, peer.cq.wait().status);
    EXPECT_TRUE(has_pattern(memory.bytes(), 3));
}

TEST_F(Newest, RegBufMr) {
    // librxe chooses nothing, so this is ordinary memory.
    ibv_buf* made = nullptr;
    auto* const at = static_cast<std::byte*>(ibv_alloc_buf(gpu.pd.get(), SIZE, &made));
    ASSERT_NE(nullptr, at);
    const Buf buf(made);
    const AnyMr mr(ibv_reg_buf_mr(gpu.pd.get(), buf.get(), at + 4096, 4096, FULL_ACCESS));
    ASSERT_TRUE(mr);
    fill_pattern(host.bytes(), 4);
    peer.qp.post_write(1, host.sge(0, 4096),
                       {.address = reinterpret_cast<std::uintptr_t>(at + 4096), .rkey = mr->rkey});
    ASSERT_EQ(IBV_WC_SUCCESS, peer.cq.wait().status);
    EXPECT_TRUE(has_pattern({at + 4096, 4096}, 4));
    EXPECT_EQ(-1, ibv_export_buf_dmabuf_fd(buf.get()));
    EXPECT_EQ(Errno{ENODATA}, Errno{errno});
}

} // namespace
} // namespace pfn
