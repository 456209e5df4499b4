// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
//
// Signals for somebody who waits for a move to end. A system call that has not
// done anything yet is interrupted, or restarted. A CPU that touches a mapping is
// interrupted in user mode; in kernel mode (a system call that copies from or to
// the mapping) only by what kills. Accesses by RDMA wait in a worker of the kernel,
// which no signal reaches.
#include "common/process.hpp"
#include "support/modules.hpp"
#include "support/rdma_test.hpp"

#include <pthread.h>
#include <sys/resource.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <csignal>
#include <thread>

namespace pfn {
namespace {

using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;

constexpr std::uint64_t SIZE = 64 * KIB;
constexpr std::size_t LENGTH = 4096; ///< fits into a pipe

/// A signal handler has nothing but globals to tell by.
// NOLINTNEXTLINE(cppcoreguidelines-avoid-non-const-global-variables)
std::atomic<unsigned> signals_seen = 0;

/// Sends SIGUSR1, with a handler that counts, to the calling thread all the time.
class Pester {
  public:
    /// @p flags: SA_RESTART or 0.
    explicit Pester(int flags = 0)
        : handler_(flags), thread_([victim = ::pthread_self()](const std::stop_token& stop) {
              while (!stop.stop_requested()) {
                  ::pthread_kill(victim, SIGUSR1);
                  std::this_thread::sleep_for(20ms);
              }
          }) {
        signals_seen = 0;
    }

  private:
    struct Handler {
        explicit Handler(int flags) {
            struct sigaction action{};
            action.sa_handler = [](int) { ++signals_seen; };
            action.sa_flags = flags;
            ::sigaction(SIGUSR1, &action, nullptr);
        }
    };
    Handler handler_; // before the first signal
    std::jthread thread_;
};

/// What the calling thread has used of a CPU.
std::chrono::microseconds cpu_time() {
    rusage usage{};
    if (::getrusage(RUSAGE_THREAD, &usage) < 0)
        throw_errno("getrusage");
    const auto sum = [](const timeval& t) {
        return std::chrono::seconds(t.tv_sec) + std::chrono::microseconds(t.tv_usec);
    };
    return sum(usage.ru_utime) + sum(usage.ru_stime);
}

class Signal : public RdmaTest {
  protected:
    [[nodiscard]] bool moving() const {
        return vram.buf_info(buffer.fd()).flags & PFN_VRAM_BUF_MOVING;
    }
    void begin_move() {
        vram.move(buffer.fd(), PFN_VRAM_PLACEMENT_SYSTEM, 0, PFN_VRAM_MOVE_ASYNC);
        ASSERT_TRUE(moving());
    }

    DmaBuf buffer = vram.alloc({.size = SIZE});
    Mapping cpu = buffer.map();
};

// Whose call has done nothing yet.

TEST_F(Signal, InterruptsRegistering) {
    const ModuleParameter slow("pfn_vram/copy_delay_ms", "5000");
    begin_move();
    {
        const Pester pester;
        EXPECT_ERRNO(EINTR, ModeMr(gpu.pd, PFN_MR_MODE_DEFAULT, buffer.fd(), 0, SIZE, 0));
        EXPECT_ERRNO(EINTR, Mr::dmabuf(gpu.pd, buffer.fd(), 0, SIZE, 0));
    }
    EXPECT_TRUE(moving()) << "it has waited until the end";
    EXPECT_EQ(0U, vram.buf_info(buffer.fd()).attachments);
}

TEST_F(Signal, RestartsRegistering) {
    const ModuleParameter slow("pfn_vram/copy_delay_ms", "2000");
    begin_move();
    const Pester pester(SA_RESTART);
    EXPECT_ERRNO(0, ModeMr(gpu.pd, PFN_MR_MODE_DEFAULT, buffer.fd(), 0, SIZE, 0));
    EXPECT_GT(signals_seen, 3U);
    EXPECT_FALSE(moving());
}

TEST_F(Signal, InterruptsAPrefetch) {
    const ModuleParameter slow("pfn_vram/copy_delay_ms", "5000");
    const auto mr = Mr::dmabuf(gpu.pd, buffer.fd(), 0, SIZE, 0);
    begin_move();
    {
        const Pester pester;
        const ibv_sge all{.addr = 0, .length = SIZE, .lkey = mr.lkey()};
        EXPECT_ERRNO(EINTR,
                     advise(gpu.pd, IBV_ADVISE_MR_ADVICE_PREFETCH, IBV_ADVISE_MR_FLAG_FLUSH, all));
    }
    EXPECT_TRUE(moving()) << "it has waited until the end";
    EXPECT_EQ(PFN_MR_STATE_ABSENT, query_mr(mr).state);
    EXPECT_EQ(0U, query_mr(mr).prefetches);
}

TEST_F(Signal, InterruptsAMoveThatHasNotBegun) {
    const ModuleParameter slow("pfn_vram/copy_delay_ms", "5000");
    begin_move();
    const auto before = vram.buf_info(buffer.fd()).generation;
    {
        const Pester pester;
        EXPECT_ERRNO(EINTR, vram.move(buffer.fd(), PFN_VRAM_PLACEMENT_VRAM));
        EXPECT_ERRNO(EINTR, vram.revoke(buffer.fd()));
    }
    EXPECT_TRUE(moving()) << "it has waited until the end";
    EXPECT_EQ(before, vram.buf_info(buffer.fd()).generation);
}

// A work request belongs to no thread: whoever has posted it may be signalled.
TEST_F(Signal, DoesNotReachAnAccess) {
    const ModuleParameter slow("pfn_vram/copy_delay_ms", "1000");
    const auto mr = Mr::dmabuf(gpu.pd, buffer.fd(), 0, SIZE, 0);
    const HostMemory host(peer.pd, SIZE);
    fill_pattern(cpu.bytes(), 1);
    begin_move();
    const Pester pester;
    peer.qp.post_read(1, host.sge(0, SIZE), {.address = 0, .rkey = mr.rkey()});
    EXPECT_EQ(IBV_WC_SUCCESS, complete(peer));
    EXPECT_GT(signals_seen, 3U);
    EXPECT_TRUE(has_pattern(host.bytes(), 1));
}

// A CPU's page fault.

class CpuFault : public Signal {
  protected:
    CpuFault() {
        int ends[2];
        if (::pipe2(ends, O_CLOEXEC) < 0)
            throw_errno("pipe2");
        from = Fd(ends[0]);
        to = Fd(ends[1]);
        fill_pattern(cpu.bytes(), 1);
    }

    Fd from;
    Fd to;
};

TEST_F(CpuFault, LetsSignalsBeHandled) {
    const ModuleParameter slow("pfn_vram/copy_delay_ms", "2000");
    begin_move();
    const Pester pester;
    EXPECT_TRUE(has_pattern(cpu.bytes(), 1));
    EXPECT_GT(signals_seen, 3U); // or they had waited until it was over
}

TEST_F(CpuFault, OfASystemCallThatIsSignalledSleeps) {
    const ModuleParameter slow("pfn_vram/copy_delay_ms", "2000");
    begin_move();
    const Pester pester;
    const auto start = Clock::now();
    const auto used = cpu_time();
    EXPECT_EQ(static_cast<ssize_t>(LENGTH), ::write(to.get(), cpu.bytes().data(), LENGTH));
    const auto took = Clock::now() - start;
    // A page fault that returns at once because of the signal, to fault again at
    // once, uses all of that time.
    EXPECT_LT(cpu_time() - used, took / 3);
    EXPECT_GT(took, 500ms) << "it has not waited, so this proves nothing";
    std::array<std::byte, LENGTH> data{};
    ASSERT_EQ(static_cast<ssize_t>(LENGTH), ::read(from.get(), data.data(), LENGTH));
    EXPECT_TRUE(has_pattern(data, 1));
}

TEST_F(CpuFault, OfASystemCallEndsWhenKilled) {
    const ModuleParameter slow("pfn_vram/copy_delay_ms", "10000");
    ASSERT_EQ(1, ::write(to.get(), "x", 1));
    begin_move();
    auto child = Child::fork([&](Channel& parent) {
        parent.send(1);
        (void)!::read(from.get(), cpu.bytes().data(), 1);
        return 0;
    });
    (void)child.channel().recv<int>();
    EXPECT_FALSE(child.ends_within(300ms)) << "it does not wait";
    child.kill(SIGKILL);
    EXPECT_EQ((Exit{.status = 0, .signal = SIGKILL}), child.wait(PATIENCE));
    EXPECT_TRUE(moving()) << "it has waited until the end";
    buffer.wait_idle(PATIENCE);
    EXPECT_TRUE(has_pattern(cpu.bytes(), 1));
}

} // namespace
} // namespace pfn
