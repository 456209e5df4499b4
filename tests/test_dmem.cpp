// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
//
// VRAM on the bill of a device memory cgroup: charged when taken, limited, and
// uncharged on every way out. Needs a kernel with CONFIG_CGROUP_DMEM.
#include "common/files.hpp"
#include "common/process.hpp"
#include "support/rdma_test.hpp"

#include <unistd.h>

#include <chrono>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <optional>
#include <string>
#include <thread>
#include <vector>

namespace pfn {
namespace {

constexpr std::uint32_t VRAM = PFN_VRAM_PLACEMENT_VRAM;
constexpr std::uint32_t SYSTEM = PFN_VRAM_PLACEMENT_SYSTEM;
constexpr std::uint64_t LIMIT = 1 * MIB;

const std::string ROOT = "/sys/fs/cgroup/";
const std::string GROUP = ROOT + "pfn_dmem/";
const std::string REGION = "pfn_vram0";

/// The words after @p key in a file of lines "key words".
std::optional<std::string> value_of(const std::string& path, const std::string& key) {
    std::ifstream in(path);
    for (std::string line; std::getline(in, line);) {
        if (line.starts_with(key + " "))
            return line.substr(key.size() + 1);
    }
    return {};
}

/// What the group is charged for now; a region that nobody uses may not be listed.
std::uint64_t charged() {
    return std::stoull(value_of(GROUP + "dmem.current", REGION).value_or("0"));
}

/// The kernel releases a file, and so a buffer, a little after it was closed.
testing::AssertionResult becomes_charged(std::uint64_t bytes) {
    const auto deadline = std::chrono::steady_clock::now() + PATIENCE;
    while (charged() != bytes) {
        if (std::chrono::steady_clock::now() > deadline)
            return testing::AssertionFailure() << charged() << " bytes are, not " << bytes;
        std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
    return testing::AssertionSuccess();
}

/// This process is in a group that may have LIMIT bytes of VRAM.
class Dmem : public RdmaTest {
  protected:
    void SetUp() override {
        std::string controllers;
        std::getline(std::ifstream(ROOT + "cgroup.controllers"), controllers);
        if ((" " + controllers + " ").find(" dmem ") == std::string::npos)
            GTEST_SKIP() << "this kernel has no dmem cgroups (CONFIG_CGROUP_DMEM)";
        RdmaTest::SetUp();
        write_file(ROOT + "cgroup.subtree_control", "+dmem");
        std::filesystem::create_directory(GROUP);
        made = true;
        limit(LIMIT);
        write_file(GROUP + "cgroup.procs", "0");
    }

    void TearDown() override {
        if (!made)
            return;
        EXPECT_TRUE(becomes_charged(0));
        write_file(ROOT + "cgroup.procs", "0");
        EXPECT_EQ(0, ::rmdir(GROUP.c_str())) << strerrorname_np(errno);
        write_file(ROOT + "cgroup.subtree_control", "-dmem");
    }

    static void limit(std::uint64_t bytes) {
        write_file(GROUP + "dmem.max", REGION + " " + std::to_string(bytes));
    }

    bool made = false;
};

TEST_F(Dmem, CapacityIsTheDevices) {
    EXPECT_EQ(std::to_string(vram.info().vram_size), value_of(ROOT + "dmem.capacity", REGION));
}

TEST_F(Dmem, BuffersAreChargedWhileTheyAreInVram) {
    {
        const auto first = vram.alloc({.size = 256 * KIB});
        EXPECT_EQ(256 * KIB, charged());
        const auto second = vram.alloc({.size = 64 * KIB, .chunk = page_chunk()});
        EXPECT_EQ(320 * KIB, charged());
        const auto system = vram.alloc({.size = 4 * MIB, .placement = SYSTEM});
        EXPECT_EQ(320 * KIB, charged());
    }
    EXPECT_TRUE(becomes_charged(0));
}

TEST_F(Dmem, LimitIsENOSPC) {
    auto all = vram.alloc({.size = LIMIT});
    EXPECT_ERRNO(ENOSPC, vram.alloc({.size = page_size()}));
    EXPECT_EQ(LIMIT, charged());
    EXPECT_GT(vram.info().vram_free, LIMIT); // it is not for want of VRAM
    EXPECT_ERRNO(0, vram.alloc({.size = LIMIT, .placement = SYSTEM}));
    all.close();
    EXPECT_TRUE(becomes_charged(0));
    EXPECT_ERRNO(0, vram.alloc({.size = LIMIT}));
    EXPECT_TRUE(becomes_charged(0));
    EXPECT_ERRNO(ENOSPC, vram.alloc({.size = LIMIT + page_size()}));
    EXPECT_EQ(0U, charged());
}

TEST_F(Dmem, MovesAreCharged) {
    const auto buffer = vram.alloc({.size = 768 * KIB});
    // Old and new place exist together for a while, and that is too much.
    EXPECT_ERRNO(ENOSPC, vram.move(buffer.fd(), VRAM));
    EXPECT_EQ(768 * KIB, charged());
    vram.move(buffer.fd(), SYSTEM);
    EXPECT_TRUE(becomes_charged(0));

    const auto other = vram.alloc({.size = 512 * KIB});
    EXPECT_ERRNO(ENOSPC, vram.move(buffer.fd(), VRAM));
    EXPECT_EQ(std::uint32_t{SYSTEM}, vram.buf_info(buffer.fd()).placement);
    EXPECT_EQ(512 * KIB, charged());
    vram.move(other.fd(), VRAM);
    EXPECT_TRUE(becomes_charged(512 * KIB));
    vram.move(other.fd(), SYSTEM);
    EXPECT_TRUE(becomes_charged(0));
    vram.move(buffer.fd(), VRAM);
    EXPECT_EQ(768 * KIB, charged());
}

TEST_F(Dmem, RevokedMemoryIsNotChargedRestoredIs) {
    const auto buffer = vram.alloc({.size = 512 * KIB});
    vram.revoke(buffer.fd());
    EXPECT_TRUE(becomes_charged(0));
    const auto other = vram.alloc({.size = 768 * KIB});
    EXPECT_ERRNO(ENOSPC, vram.restore(buffer.fd()));
    EXPECT_EQ(768 * KIB, charged());
    vram.move(other.fd(), SYSTEM);
    EXPECT_TRUE(becomes_charged(0));
    vram.restore(buffer.fd());
    EXPECT_EQ(512 * KIB, charged());
}

TEST_F(Dmem, MrsKeepTheCharge) {
    std::optional<DmaBuf> buffer = vram.alloc({.size = 256 * KIB});
    auto mr = Mr::dmabuf(gpu.pd, buffer->fd(), 0, 256 * KIB, 0);
    buffer.reset();
    EXPECT_EQ(256 * KIB, charged());
    mr.dereg();
    EXPECT_TRUE(becomes_charged(0));
}

TEST_F(Dmem, AllocationThatFailsHalfwayIsNotCharged) {
    // Nothing is left but two pieces of half the size that is wanted.
    limit(vram.info().vram_size);
    const std::uint64_t piece = 2 * MIB;
    std::vector<DmaBuf> pieces;
    for (int i = 0; i < 4; ++i)
        pieces.push_back(vram.alloc({.size = piece, .chunk = piece}));
    const auto rest = vram.alloc({.size = vram.info().vram_free});
    const auto all = charged();
    pieces[0].close();
    pieces[2].close();
    EXPECT_TRUE(becomes_charged(all - 2 * piece));
    EXPECT_ERRNO(ENOSPC, vram.alloc({.size = 2 * piece, .chunk = 2 * piece}));
    EXPECT_EQ(all - 2 * piece, charged());
}

TEST_F(Dmem, ProcessThatIsKilledIsNotCharged) {
    auto child = Child::fork([](Channel& parent) {
        const VramDevice own;
        const auto buffer = own.alloc({.size = 512 * KIB});
        parent.send(1);
        ::pause();
        return 0;
    });
    EXPECT_EQ(1, child.channel().recv<int>());
    EXPECT_EQ(512 * KIB, charged());
    child.kill(SIGKILL);
    child.wait(PATIENCE);
    EXPECT_TRUE(becomes_charged(0));
}

TEST_F(Dmem, DeviceThatGoesTakesItsRegionAlong) {
    const std::string device = vram.info().bus_name;
    if (device.empty())
        GTEST_SKIP() << "the VRAM is no PCI device here";
    const auto buffer = vram.alloc({.size = 512 * KIB});
    EXPECT_EQ(512 * KIB, charged());
    write_file("/sys/bus/pci/drivers/pfn_vram/unbind", device);
    EXPECT_FALSE(value_of(ROOT + "dmem.capacity", REGION).has_value());
    EXPECT_FALSE(value_of(GROUP + "dmem.current", REGION).has_value());
    write_file("/sys/bus/pci/drivers/pfn_vram/bind", device);
    ASSERT_TRUE(value_of(ROOT + "dmem.capacity", REGION).has_value());
    const VramDevice back;
    limit(LIMIT);
    EXPECT_ERRNO(0, back.alloc({.size = LIMIT}));
    EXPECT_ERRNO(ENOSPC, back.alloc({.size = LIMIT + page_size()}));
}

} // namespace
} // namespace pfn
