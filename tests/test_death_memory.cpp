// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
//
// Memory runs out: what pfn MRs and buffers cost is on their owner's bill, and
// an owner that is killed for it leaves nothing behind.
#include "common/files.hpp"
#include "common/process.hpp"
#include "support/long_run.hpp"
#include "support/rdma_test.hpp"
#include "support/rdma_tool.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <string>
#include <thread>
#include <vector>

namespace pfn {
namespace {

using namespace std::chrono_literals;

constexpr Exit KILLED{.status = 0, .signal = SIGKILL};
constexpr std::uint64_t PIECE = 256 * KIB;

/// A group of processes that may have @p limit bytes.
class Cgroup {
  public:
    explicit Cgroup(std::uint64_t limit) {
        had_memory_ = read_file(SWITCH).find("memory") != std::string::npos;
        if (!had_memory_)
            write_file(SWITCH, "+memory");
        std::filesystem::create_directory(PATH);
        write_file(PATH + "/memory.max", std::to_string(limit));
    }
    ~Cgroup() {
        const auto deadline = std::chrono::steady_clock::now() + PATIENCE;
        while (::rmdir(PATH.c_str()) < 0) {
            if (errno != EBUSY || std::chrono::steady_clock::now() > deadline) {
                ADD_FAILURE() << "rmdir " << PATH << ": " << strerrorname_np(errno);
                return;
            }
            std::this_thread::sleep_for(10ms);
        }
        if (!had_memory_ && errno_of([] { write_file(SWITCH, "-memory"); }) != 0)
            ADD_FAILURE() << "cannot take the memory controller back";
    }
    Cgroup(const Cgroup&) = delete;
    Cgroup& operator=(const Cgroup&) = delete;

    /// The calling process becomes a member.
    static void enter() { write_file(PATH + "/cgroup.procs", "0"); }
    /// Bytes that its members are charged for now.
    static std::uint64_t charged() { return std::stoull(read_file(PATH + "/memory.current")); }
    /// How many of its members were killed for want of memory.
    static std::uint64_t kills() {
        std::ifstream in(PATH + "/memory.events");
        std::string name;
        for (std::uint64_t count = 0; in >> name >> count;) {
            if (name == "oom_kill")
                return count;
        }
        throw std::runtime_error("no oom_kill in memory.events");
    }

  private:
    inline static const std::string PATH = "/sys/fs/cgroup/pfn_death_memory";
    inline static const std::string SWITCH = "/sys/fs/cgroup/cgroup.subtree_control";
    bool had_memory_ = false;
};

/// The kernel reports a kill for want of memory with a call trace, which the lab
/// would take for a bug. So nothing goes to the console as long as this lives;
/// what the kernel says besides those reports is judged here instead.
class KillsAreNoSplats {
  public:
    KillsAreNoSplats() : kmsg_(::open("/dev/kmsg", O_RDONLY | O_NONBLOCK | O_CLOEXEC)) {
        if (!kmsg_ || ::lseek(kmsg_.get(), 0, SEEK_END) < 0)
            throw_errno("/dev/kmsg");
        before_ = read_file(LEVELS);
        write_file(LEVELS, "1");
    }
    ~KillsAreNoSplats() {
        try {
            (void)read_file("/proc/consoles"); // returns when all is printed, or not
            write_file(LEVELS, before_);
            for (const std::string& line : other_splats(lines()))
                ADD_FAILURE() << "the kernel says: " << line;
        } catch (const std::exception& e) {
            ADD_FAILURE() << e.what();
        }
    }
    KillsAreNoSplats(const KillsAreNoSplats&) = delete;
    KillsAreNoSplats& operator=(const KillsAreNoSplats&) = delete;

    /// Those of @p lines that look bad and are not part of a report of a kill,
    /// which has one call trace.
    static std::vector<std::string> other_splats(const std::vector<std::string>& lines) {
        std::vector<std::string> found;
        bool in_report = false;
        for (const std::string& line : lines) {
            const auto says = [&](const char* text) {
                return line.find(text) != std::string::npos;
            };
            if (says(" invoked oom-killer: "))
                in_report = true;
            else if (in_report && says("Call Trace:"))
                in_report = false;
            else if (says("Call Trace:") || says("WARNING:") || says("BUG") || says("Oops"))
                found.push_back(line);
        }
        return found;
    }

  private:
    [[nodiscard]] std::vector<std::string> lines() const {
        std::vector<std::string> all;
        std::array<char, 8192> record{};
        for (;;) {
            const ssize_t n = ::read(kmsg_.get(), record.data(), record.size());
            if (n > 0)
                all.emplace_back(record.data(), static_cast<std::size_t>(n));
            else if (errno == EPIPE)
                ADD_FAILURE() << "the kernel's log has overrun";
            else if (errno == EAGAIN)
                return all;
            else
                throw_errno("read /dev/kmsg");
        }
    }

    inline static const std::string LEVELS = "/proc/sys/kernel/printk";
    Fd kmsg_;
    std::string before_;
};

TEST(KillReports, AreToldFromSplats) {
    const std::vector<std::string> kill{"4,1,1,-;eater invoked oom-killer: gfp_mask=0x1",
                                        "4,2,1,-;Call Trace:", "4,3,1,-; <TASK>"};
    EXPECT_TRUE(KillsAreNoSplats::other_splats(kill).empty());
    auto both = kill;
    both.emplace_back("4,4,1,-;WARNING: kernel/x.c:1 at x+0x1");
    both.emplace_back("4,5,1,-;Call Trace:");
    EXPECT_EQ(2U, KillsAreNoSplats::other_splats(both).size());
    EXPECT_EQ(1U, KillsAreNoSplats::other_splats({"4,1,1,-;pfn_vram: BUG: old memory"}).size());
    both.insert(both.begin(), "4,0,1,-;Call Trace:");
    EXPECT_EQ(3U, KillsAreNoSplats::other_splats(both).size());
}

class DeathMemory : public RdmaTest {
  protected:
    /// Poll until the device is as it was; then there must be @p mrs MRs.
    void expect_back_to(std::size_t mrs) const {
        const auto deadline = std::chrono::steady_clock::now() + PATIENCE;
        for (;;) {
            const auto now = vram.info();
            if (now.buffers == before.buffers && now.vram_free == before.vram_free)
                break;
            ASSERT_TRUE(std::chrono::steady_clock::now() < deadline)
                << now.buffers - before.buffers << " buffers and "
                << before.vram_free - now.vram_free << " bytes did not come back";
            std::this_thread::sleep_for(1ms);
        }
        EXPECT_EQ(mrs, mr_count());
    }

    const pfn_vram_dev_info before = vram.info();
    const std::size_t mrs_before = mr_count();
};

TEST_F(DeathMemory, SystemBuffersEndAtTheLimitOfTheGroup) {
    constexpr std::uint64_t LIMIT = 24 * MIB;
    struct Result {
        int error;
        std::uint64_t allocated;
        std::uint64_t charged;
    };
    const KillsAreNoSplats quiet;
    const Cgroup group(LIMIT);
    auto child = Child::fork([](Channel& parent) {
        Cgroup::enter();
        const VramDevice own;
        const Context context(GPU_DEVICE);
        const Pd pd(context.get());
        Result result{};
        std::vector<DmaBuf> buffers;
        std::vector<Mr> mrs;
        while (result.error == 0 && result.allocated < 2 * LIMIT) {
            result.charged = Cgroup::charged();
            result.error = errno_of([&] {
                buffers.push_back(own.alloc(
                    {.size = PIECE, .chunk = page_size(), .placement = PFN_VRAM_PLACEMENT_SYSTEM}));
                mrs.push_back(Mr::dmabuf(pd, buffers.back().fd(), 0, PIECE, 0));
            });
            if (result.error == 0)
                result.allocated += PIECE;
        }
        // Room for what follows.
        if (mrs.size() == buffers.size())
            mrs.pop_back();
        buffers.pop_back();
        parent.send(result);
        (void)parent.recv<int>();
        return 0;
    });
    Result result{};
    if (errno_of([&] { result = child.channel().recv<Result>(); }) != 0) {
        // Some small allocation was the first to hit the limit.
        EXPECT_EQ(KILLED, child.wait(PATIENCE));
        EXPECT_EQ(1U, Cgroup::kills());
        expect_back_to(mrs_before);
        return;
    }
    EXPECT_EQ(Errno{ENOMEM}, Errno{result.error});
    EXPECT_LT(LIMIT / 2, result.allocated);
    EXPECT_GT(LIMIT, result.allocated);
    EXPECT_LE(result.allocated, result.charged);
    child.channel().send(1);
    EXPECT_EQ(Exit{}, child.wait(PATIENCE));
    expect_back_to(mrs_before);
}

TEST_F(DeathMemory, MrsEndAtTheLimitOfTheGroup) {
    // Of what an MR costs, only what this project allocates is sure to be on the
    // bill. ENOMEM or death: small allocations are such that the kernel kills.
    constexpr std::uint64_t LIMIT = 4 * MIB;
    constexpr int TOO_MANY = 100'000;
    const KillsAreNoSplats quiet;
    const Cgroup group(LIMIT);
    auto child = Child::fork([](Channel&) {
        const VramDevice own;
        const Context context(GPU_DEVICE);
        const Pd pd(context.get());
        const auto buffer = own.alloc({.size = PIECE});
        Cgroup::enter();
        std::vector<Mr> mrs;
        int error = 0;
        for (int i = 0; i < TOO_MANY && error == 0; ++i)
            error =
                errno_of([&] { mrs.push_back(Mr::dmabuf(pd, buffer.fd(), 0, page_size(), 0)); });
        return error == ENOMEM ? 1 : 2;
    });
    const Exit end = child.wait(5 * PATIENCE);
    EXPECT_TRUE(end == KILLED || end == (Exit{.status = 1, .signal = 0}))
        << "status " << end.status << ", signal " << end.signal;
    expect_back_to(mrs_before);
}

TEST_F(DeathMemory, KilledForWantOfMemoryUnderTraffic) {
    struct Address {
        QpAddress qp;
        std::uint32_t rkey[2];
    };
    const HostMemory host(peer.pd, PIECE);
    const auto mrs = mr_count();
    for (int round = 0; round < (long_run() ? 10 : 1); ++round) {
        const KillsAreNoSplats quiet;
        const Cgroup group(32 * MIB);
        auto eater = Child::fork([](Channel& parent) {
            Cgroup::enter();
            const VramDevice own;
            Endpoint mine(GPU_DEVICE);
            const DeviceMemory device(own, mine.pd, {.size = 1 * MIB, .chunk = page_size()});
            const DeviceMemory system(own, mine.pd,
                                      {.size = 1 * MIB, .placement = PFN_VRAM_PLACEMENT_SYSTEM});
            parent.send(
                Address{.qp = mine.qp.address(), .rkey = {device.mr.rkey(), system.mr.rkey()}});
            mine.qp.connect(parent.recv<QpAddress>());
            parent.send(1);
            // Every access is one that may fault. A move that finds no memory is no
            // reason to make no more.
            const std::jthread mover([&](const std::stop_token& stop) {
                for (unsigned i = 0; !stop.stop_requested(); ++i) {
                    const DeviceMemory& memory = i % 2 ? device : system;
                    const auto to = i / 2 % 2 ? PFN_VRAM_PLACEMENT_VRAM : PFN_VRAM_PLACEMENT_SYSTEM;
                    (void)errno_of([&] { own.move(memory.buffer.fd(), to, page_size()); });
                }
            });
            (void)parent.recv<int>(); // traffic
            const auto food = Mapping::anonymous(128 * MIB);
            for (std::size_t at = 0; at < food.bytes().size(); at += page_size())
                food.bytes()[at] = std::byte{1};
            return 0; // not reached
        });
        const auto address = eater.channel().recv<Address>();
        peer.qp = Qp(peer.context, peer.pd, peer.cq);
        peer.qp.connect(address.qp);
        eater.channel().send(peer.qp.address());
        (void)eater.channel().recv<int>();

        ibv_wc_status status = IBV_WC_SUCCESS;
        for (unsigned i = 0; status == IBV_WC_SUCCESS; ++i) {
            const Remote remote{.address = 0, .rkey = address.rkey[i % 2]};
            if (i % 4 < 2)
                peer.qp.post_write(i, host.sge(0, PIECE), remote);
            else
                peer.qp.post_read(i, host.sge(0, PIECE), remote);
            if (i == 4)
                eater.channel().send(1);
            status = complete(peer);
            ASSERT_TRUE(status == IBV_WC_SUCCESS || i >= 4) << ibv_wc_status_str(status);
        }
        EXPECT_TRUE(status == IBV_WC_REM_ACCESS_ERR || status == IBV_WC_RETRY_EXC_ERR ||
                    status == IBV_WC_REM_OP_ERR || status == IBV_WC_REM_INV_REQ_ERR)
            << ibv_wc_status_str(status);
        EXPECT_EQ(KILLED, eater.wait(PATIENCE));
        EXPECT_EQ(1U, Cgroup::kills());
        expect_back_to(mrs);
    }
    // And it all still works.
    reconnect();
    const DeviceMemory device(vram, gpu.pd, {.size = PIECE});
    fill_pattern(host.bytes(), 3);
    write(host.sge(0, PIECE), device.remote());
    EXPECT_TRUE(has_pattern(device.bytes(), 3));
}

} // namespace
} // namespace pfn
