// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
//
// MRs on a PCI BAR that vfio-pci exports: no ranges lent, no kernel mapping, may
// be revoked at any time. The BAR is that of the VRAM, which is taken away from
// pfn_vram for each test. Needs an IOMMU: ./lab run --iommu.
#include "common/process.hpp"
#include "support/rdma_test.hpp"
#include "support/vfio.hpp"

#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <csignal>
#include <optional>
#include <thread>

namespace pfn {
namespace {

constexpr unsigned BAR = 2;
constexpr std::uint64_t SIZE = 64 * KIB;

class BridgeToVfio : public testing::Test {
  protected:
    void SetUp() override {
        std::string where;
        {
            const VramDevice vram;
            where = vram.info().bus_name;
        }
        if (where.empty())
            GTEST_SKIP() << "the VRAM is no PCI device here";
        if (const auto obstacle = VfioBinding::obstacle(where))
            GTEST_SKIP() << *obstacle;
        pci = where;
        binding.emplace(where);
        device.emplace(where);
        connect(gpu.qp, peer.qp);
    }

    void TearDown() override {
        device.reset();
        binding.reset();
        if (pci.empty())
            return;
        const auto deadline = std::chrono::steady_clock::now() + PATIENCE;
        while (errno_of([] { const VramDevice back; }) != 0) {
            ASSERT_LT(std::chrono::steady_clock::now(), deadline) << "the VRAM is not back";
            std::this_thread::sleep_for(std::chrono::milliseconds(10));
        }
    }

    void write(std::uint32_t rkey, std::size_t length = SIZE, std::uint64_t offset = 0) {
        peer.qp.post_write(1, host.sge(0, length), {.address = offset, .rkey = rkey});
        ASSERT_EQ(IBV_WC_SUCCESS, peer.cq.wait().status);
    }
    void read(std::uint32_t rkey, std::size_t length = SIZE, std::uint64_t offset = 0) {
        peer.qp.post_read(1, host.sge(0, length), {.address = offset, .rkey = rkey});
        ASSERT_EQ(IBV_WC_SUCCESS, peer.cq.wait().status);
    }
    void expect_revoked(std::uint32_t rkey) {
        peer.qp.post_write(1, host.sge(0, 8), {.address = 0, .rkey = rkey});
        EXPECT_EQ(IBV_WC_REM_ACCESS_ERR, peer.cq.wait().status);
        for (Endpoint* endpoint : {&gpu, &peer})
            endpoint->qp = Qp(endpoint->context, endpoint->pd, endpoint->cq);
        connect(gpu.qp, peer.qp);
    }

    std::string pci;
    std::optional<VfioBinding> binding;
    std::optional<VfioDevice> device;
    Endpoint gpu{GPU_DEVICE};
    Endpoint peer{PEER_DEVICE};
    HostMemory host{peer.pd, SIZE};
};

// Rule: B2, B5, B7
TEST_F(BridgeToVfio, InfoSaysWhichBackendAndWhyAndTheDefaultIsRevocable) {
    const DmaBuf dmabuf = device->dmabuf(BAR, {{.offset = 0, .length = SIZE}});
    const auto mr = Mr::dmabuf(gpu.pd, dmabuf.fd(), 0, SIZE, 0);
    const auto info = query_mr(mr);
    EXPECT_EQ(PFN_MR_BACKEND_P2P, info.backend);
    EXPECT_EQ(PFN_MR_BECAUSE_NO_VMAP, info.because);
    EXPECT_EQ(PFN_MR_MODE_REVOCABLE, info.mode);
    EXPECT_EQ(PFN_MR_STATE_PRESENT, info.state);
    EXPECT_EQ(1U, info.ranges);
    EXPECT_EQ(1U, info.mmio);
}

// Rule: B2
TEST_F(BridgeToVfio, ModesAreAgreedOn) {
    const DmaBuf dmabuf = device->dmabuf(BAR, {{.offset = 0, .length = SIZE}});
    for (const std::uint32_t mode : {PFN_MR_MODE_REVOCABLE, PFN_MR_MODE_DYNAMIC}) {
        const ModeMr mr(gpu.pd, mode, dmabuf.fd(), 0, SIZE, 0);
        EXPECT_EQ(mode, mr.query().mode);
        write(mr.rkey());
    }
    try {
        const ModeMr mr(gpu.pd, PFN_MR_MODE_PINNED, dmabuf.fd(), 0, SIZE, 0);
        ADD_FAILURE() << "vfio has promised not to revoke";
    } catch (const RegistrationError& e) {
        EXPECT_EQ(EOPNOTSUPP, e.code().value());
        EXPECT_EQ("the exporter may move or revoke the buffer and cannot pin it: no PINNED mode",
                  e.reason());
    }
}

// Rule: B7
TEST_F(BridgeToVfio, DataIsWhereTheDeviceHasIt) {
    // Out of order, of different lengths, with gaps; the last two are neighbours.
    const std::uint64_t page = page_size();
    const std::vector<VfioDevice::Range> ranges = {{.offset = 16 * page, .length = 3 * page},
                                                   {.offset = 4 * page, .length = page},
                                                   {.offset = 32 * page, .length = 4 * page},
                                                   {.offset = 36 * page, .length = 8 * page}};
    const DmaBuf dmabuf = device->dmabuf(BAR, ranges);
    ASSERT_EQ(SIZE, dmabuf.size());
    const auto mr = Mr::dmabuf(gpu.pd, dmabuf.fd(), 0, SIZE, 0);
    EXPECT_EQ(3U, query_mr(mr).ranges);
    fill_pattern(host.bytes(), 1);
    write(mr.rkey());
    std::uint64_t position = 0;
    for (const auto& range : ranges) {
        const Mapping cpu = device->map(BAR, range);
        EXPECT_TRUE(has_pattern(cpu.bytes(), 1, position)) << range.offset;
        position += range.length;
    }
    std::ranges::fill(host.bytes(), std::byte{0});
    read(mr.rkey());
    EXPECT_TRUE(has_pattern(host.bytes(), 1));

    // Words, and what is not aligned, across the border of two ranges.
    peer.qp.post_atomic_write(1, {.address = 3 * page, .rkey = mr.rkey()}, 41);
    ASSERT_EQ(IBV_WC_SUCCESS, peer.cq.wait().status);
    peer.qp.post_fetch_add(1, host.sge(0, 8), {.address = 3 * page, .rkey = mr.rkey()}, 1);
    ASSERT_EQ(IBV_WC_SUCCESS, peer.cq.wait().status);
    EXPECT_EQ(41U, host.word());
    read(mr.rkey(), 8, 3 * page);
    EXPECT_EQ(42U, host.word());
    fill_pattern(host.bytes(), 2);
    write(mr.rkey(), 2 * page + 3, 2 * page + 5);
    std::ranges::fill(host.bytes(), std::byte{0});
    read(mr.rkey(), 2 * page + 3, 2 * page + 5);
    EXPECT_TRUE(has_pattern(host.bytes().first(2 * page + 3), 2));
}

/// A way to take the memory away.
struct Revoke {
    const char* name;
    void (*revoke)(VfioDevice& device);
};

void PrintTo(const Revoke& revoke, std::ostream* out) {
    *out << revoke.name;
}

class RevokedByVfio : public BridgeToVfio, public testing::WithParamInterface<Revoke> {};

const Revoke REVOKES[] = {
    {"MemoryDisabled", [](VfioDevice& device) { device.enable_memory(false); }},
    {"Reset", [](VfioDevice& device) { device.reset(); }},
    {"Closed", [](VfioDevice& device) { device.close(); }},
};

INSTANTIATE_TEST_SUITE_P(Ways, RevokedByVfio, testing::ValuesIn(REVOKES),
                         [](const auto& test) { return std::string(test.param.name); });

// Rule: B4
TEST_P(RevokedByVfio, ForGood) {
    const Fd told(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
    DmaBuf dmabuf = device->dmabuf(BAR, {{.offset = 0, .length = SIZE}});
    const ModeMr revocable(gpu.pd, PFN_MR_MODE_REVOCABLE, dmabuf.fd(), 0, SIZE, 0, FULL_ACCESS,
                           told.get());
    const ModeMr dynamic(gpu.pd, PFN_MR_MODE_DYNAMIC, dmabuf.fd(), 0, SIZE, 0);
    write(revocable.rkey());
    write(dynamic.rkey());

    GetParam().revoke(*device);
    EXPECT_EQ(PFN_MR_STATE_REVOKED, revocable.query().state);
    EXPECT_EQ(0U, revocable.query().ranges);
    std::uint64_t signals = 0;
    EXPECT_EQ(static_cast<ssize_t>(sizeof(signals)), ::read(told.get(), &signals, sizeof(signals)));
    EXPECT_EQ(1U, signals);
    expect_revoked(revocable.rkey());
    EXPECT_EQ(PFN_MR_STATE_ABSENT, dynamic.query().state);
}

// Rule: B4
TEST_F(BridgeToVfio, DynamicComesBackRevocableDoesNot) {
    const DmaBuf dmabuf = device->dmabuf(BAR, {{.offset = 0, .length = SIZE}});
    const ModeMr revocable(gpu.pd, PFN_MR_MODE_REVOCABLE, dmabuf.fd(), 0, SIZE, 0);
    const ModeMr dynamic(gpu.pd, PFN_MR_MODE_DYNAMIC, dmabuf.fd(), 0, SIZE, 0);
    const ModeMr asked_too_early(gpu.pd, PFN_MR_MODE_DYNAMIC, dmabuf.fd(), 0, SIZE, 0);
    device->enable_memory(false);
    EXPECT_ERRNO(ENODEV, ModeMr(gpu.pd, PFN_MR_MODE_DYNAMIC, dmabuf.fd(), 0, SIZE, 0));
    expect_revoked(asked_too_early.rkey());
    EXPECT_EQ(PFN_MR_STATE_REVOKED, asked_too_early.query().state);

    device->enable_memory(true);
    expect_revoked(revocable.rkey());
    expect_revoked(asked_too_early.rkey());
    fill_pattern(host.bytes(), 3);
    write(dynamic.rkey());
    EXPECT_EQ(1U, dynamic.query().faults);
    EXPECT_TRUE(has_pattern(device->map(BAR, {.offset = 0, .length = SIZE}).bytes(), 3));
    const ModeMr fresh(gpu.pd, PFN_MR_MODE_DEFAULT, dmabuf.fd(), 0, SIZE, 0);
    read(fresh.rkey());
    EXPECT_TRUE(has_pattern(host.bytes(), 3));
}

// Rule: B6
TEST_F(BridgeToVfio, DescriptorClosedFirstThenTheDevice) {
    DmaBuf dmabuf = device->dmabuf(BAR, {{.offset = 0, .length = SIZE}});
    auto first = Mr::dmabuf(gpu.pd, dmabuf.fd(), 0, SIZE, 0);
    auto second = Mr::dmabuf(gpu.pd, dmabuf.fd(), 0, SIZE, 0);
    dmabuf.close();
    write(first.rkey());
    first.dereg();
    write(second.rkey());
    device.reset();
    expect_revoked(second.rkey());
    second.dereg();
}

TEST_F(BridgeToVfio, RevokeUnderTraffic) {
    for (int round = 0; round < 5; ++round) {
        const DmaBuf dmabuf = device->dmabuf(BAR, {{.offset = 0, .length = SIZE}});
        const auto mr = Mr::dmabuf(gpu.pd, dmabuf.fd(), 0, SIZE, 0);
        for (unsigned i = 0; i < 16; ++i)
            peer.qp.post_write(i, host.sge(0, SIZE), {.address = 0, .rkey = mr.rkey()});
        ASSERT_EQ(IBV_WC_SUCCESS, peer.cq.wait().status);
        device->enable_memory(false);
        unsigned failed = 0;
        for (unsigned i = 1; i < 16; ++i)
            failed += peer.cq.wait().status == IBV_WC_SUCCESS ? 0 : 1;
        EXPECT_EQ(PFN_MR_STATE_REVOKED, query_mr(mr).state);
        if (failed == 0) { // all were done before
            peer.qp.post_write(1, host.sge(0, 8), {.address = 0, .rkey = mr.rkey()});
            EXPECT_EQ(IBV_WC_REM_ACCESS_ERR, peer.cq.wait().status);
        }
        for (Endpoint* endpoint : {&gpu, &peer})
            endpoint->qp = Qp(endpoint->context, endpoint->pd, endpoint->cq);
        connect(gpu.qp, peer.qp);
        device->enable_memory(true);
    }
}

TEST_F(BridgeToVfio, ManyRoundsLeaveNothing) {
    const DmaBuf dmabuf = device->dmabuf(BAR, {{.offset = 0, .length = SIZE}});
    for (int i = 0; i < 200; ++i) {
        auto mr = Mr::dmabuf(gpu.pd, dmabuf.fd(), 0, SIZE, 0);
        if (i % 50 == 0)
            write(mr.rkey());
        mr.dereg();
    }
}

/// Pass a descriptor to another process.
void send_fd(int socket, int fd) {
    char byte = 0;
    iovec piece{.iov_base = &byte, .iov_len = 1};
    alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(int))> control{};
    msghdr message{};
    message.msg_iov = &piece;
    message.msg_iovlen = 1;
    message.msg_control = control.data();
    message.msg_controllen = control.size();
    cmsghdr* header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof(int));
    std::memcpy(CMSG_DATA(header), &fd, sizeof(fd));
    if (::sendmsg(socket, &message, 0) < 0)
        throw_errno("sendmsg");
}

Fd receive_fd(int socket) {
    char byte = 0;
    iovec piece{.iov_base = &byte, .iov_len = 1};
    alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(int))> control{};
    msghdr message{};
    message.msg_iov = &piece;
    message.msg_iovlen = 1;
    message.msg_control = control.data();
    message.msg_controllen = control.size();
    if (::recvmsg(socket, &message, MSG_CMSG_CLOEXEC) < 0)
        throw_errno("recvmsg");
    const cmsghdr* header = CMSG_FIRSTHDR(&message);
    int fd = -1;
    if (header != nullptr)
        std::memcpy(&fd, CMSG_DATA(header), sizeof(fd));
    return Fd(fd);
}

// Rule: B4, B6
TEST_F(BridgeToVfio, OwnerIsKilledWhileAnMrExists) {
    device.reset();
    auto owner = Child::fork([&](Channel& parent) {
        const VfioDevice mine(pci);
        const DmaBuf dmabuf = mine.dmabuf(BAR, {{.offset = 0, .length = SIZE}});
        send_fd(parent.fd(), dmabuf.fd());
        ::pause();
        return 0;
    });
    auto mr = [&] {
        const Fd dmabuf = receive_fd(owner.channel().fd());
        return Mr::dmabuf(gpu.pd, dmabuf.get(), 0, SIZE, 0);
    }();
    write(mr.rkey());
    owner.kill(SIGKILL);
    // Its last act is to close the device, which waits for us to let go.
    EXPECT_EQ((Exit{.status = 0, .signal = SIGKILL}), owner.wait(PATIENCE));
    EXPECT_EQ(PFN_MR_STATE_REVOKED, query_mr(mr).state);
    expect_revoked(mr.rkey());
    mr.dereg();
    device.emplace(pci);
}

} // namespace
} // namespace pfn
