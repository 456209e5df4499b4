// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
//
// SIGKILL of either side at random moments, or of both, while data is on its
// way and the memory moves and is revoked. UMEM_PFN_SEED replays a run.
#include "common/process.hpp"
#include "support/aftermath.hpp"
#include "support/debug_kernel.hpp"
#include "support/environment.hpp"
#include "support/long_run.hpp"

#include <array>
#include <atomic>
#include <csignal>
#include <cstdio>
#include <optional>
#include <random>
#include <system_error>
#include <thread>

namespace pfn {
namespace {

using namespace std::chrono_literals;

constexpr std::uint64_t SIZE = 64 * KIB;
constexpr Exit KILLED{.status = 0, .signal = SIGKILL};

/// What one side tells the other before they talk.
struct Side {
    QpAddress qp;
    Remote own;    ///< an MR on a buffer of its own
    Remote shared; ///< its MR on the buffer both sides and the mover know
};

/// Keep both kinds of requests on their way until something fails.
void talk(const Qp& qp, const Cq& cq, const DeviceMemory& own, const Side& there) {
    for (std::uint64_t i = 0;; ++i) {
        const Remote& remote = i % 3 ? there.own : there.shared;
        qp.post_write(2 * i, own.sge(0, SIZE), remote);
        qp.post_read(2 * i + 1, own.sge(0, SIZE), remote);
        for (int n = 0; n < 2; ++n) {
            if (cq.wait().status != IBV_WC_SUCCESS)
                return;
        }
    }
}

/// The life of a process that is one side.
int be_a_side(const char* device, int shared_fd, Channel& parent) {
    const VramDevice own_vram;
    Endpoint mine(device);
    const DeviceMemory own(own_vram, mine.pd, {.size = SIZE, .chunk = page_size()});
    const auto shared = Mr::dmabuf(mine.pd, shared_fd, 0, SIZE, 0);
    parent.send(Side{.qp = mine.qp.address(),
                     .own = own.remote(),
                     .shared = {.address = 0, .rkey = shared.rkey()}});
    const auto there = parent.recv<Side>();
    mine.qp.connect(there.qp);
    parent.send(1);
    (void)parent.recv<int>(); // the other side is connected, too
    talk(mine.qp, mine.cq, own, there);
    for (;;) // revoked: all that is left is to be killed
        ::pause();
}

/// Moves a buffer until it is destroyed, and revokes it half-way if asked to, but
/// not before talk_begins(): what is revoked cannot be registered.
class Mover {
  public:
    Mover(const VramDevice& vram, int fd, std::optional<unsigned> revoke_after)
        : thread_([this, &vram, fd, revoke_after](const std::stop_token& stop) {
              unsigned in_talk = 0;
              for (unsigned i = 0; !stop.stop_requested(); ++i) {
                  if (talking_ && revoke_after && in_talk++ == *revoke_after) {
                      vram.revoke(fd);
                      return;
                  }
                  vram.move(fd, i % 2 ? PFN_VRAM_PLACEMENT_VRAM : PFN_VRAM_PLACEMENT_SYSTEM,
                            i % 3 ? page_size() : 0);
              }
          }) {}
    void talk_begins() { talking_ = true; }

  private:
    std::atomic<bool> talking_ = false;
    std::jthread thread_; // last: it uses the others
};

/// Kills a process after a while, on a thread of its own.
std::jthread kill_after(const Child& child, std::chrono::microseconds delay) {
    return std::jthread([&child, delay] {
        std::this_thread::sleep_for(delay);
        child.kill(SIGKILL);
    });
}

class DeathKill : public testing::Test {
  protected:
    void TearDown() override {
        expect_holdings(VramDevice());
        expect_fresh_traffic(GPU_DEVICE, PEER_DEVICE);
        expect_fresh_traffic(PEER_DEVICE, GPU_DEVICE);
        expect_holdings(VramDevice());
    }

    std::chrono::microseconds up_to(std::chrono::microseconds most) {
        return std::chrono::microseconds(
            std::uniform_int_distribution<std::chrono::microseconds::rep>(0, most.count())(random));
    }
    unsigned below(unsigned end) {
        return std::uniform_int_distribution<unsigned>(0, end - 1)(random);
    }

    std::mt19937_64 random; // NOLINT(cert-msc*): seeded by the tests that print their seed
};

/// One side is this process, which lives.
struct Survivor {
    explicit Survivor(const char* device) : endpoint(device) {}

    Endpoint endpoint;

    /// A new queue pair: the old one talked to the dead. Returns how many of
    /// its requests have succeeded.
    int renew() {
        endpoint.qp = Qp(endpoint.context, endpoint.pd, endpoint.cq);
        int good = 0;
        while (const auto wc = endpoint.cq.poll())
            good += wc->status == IBV_WC_SUCCESS;
        return good;
    }
};

TEST_F(DeathKill, EitherSideAtRandomMoments) {
    const int rounds = long_run() ? 5000 : debug_kernel() ? 100 : 500;
    const std::uint64_t number = random_seed();
    std::printf("UMEM_PFN_SEED=%llu, %d rounds\n", static_cast<unsigned long long>(number), rounds);
    random.seed(number);

    const VramDevice vram;
    std::array survivors{Survivor(PEER_DEVICE), Survivor(GPU_DEVICE)};
    constexpr std::array VICTIMS{GPU_DEVICE, PEER_DEVICE};
    int talked = 0;
    int completed = 0;
    for (int round = 0; round < rounds && !HasFailure(); ++round) {
        SCOPED_TRACE(testing::Message() << "UMEM_PFN_SEED=" << number << ", round " << round);
        const auto which = static_cast<std::size_t>(round % 2);
        Endpoint& mine = survivors.at(which).endpoint;
        const auto before = vram.info();
        {
            const auto shared = vram.alloc({.size = SIZE, .chunk = below(2) ? page_size() : 0});
            const DeviceMemory own(vram, mine.pd, {.size = SIZE, .chunk = page_size()});
            const auto shared_mr = Mr::dmabuf(mine.pd, shared.fd(), 0, SIZE, 0);
            const auto delay = up_to(50ms);
            const bool early = below(4) == 0; // perhaps in the middle of its preparations
            const auto revoke_after = below(3) ? std::nullopt : std::optional(below(20));

            auto victim = Child::fork(
                [&](Channel& parent) { return be_a_side(VICTIMS.at(which), shared.fd(), parent); });
            std::jthread killer;
            if (early)
                killer = kill_after(victim, delay);
            Mover mover(vram, shared.fd(), revoke_after);
            try {
                const auto there = victim.channel().recv<Side>();
                mover.talk_begins();
                mine.qp.connect(there.qp);
                victim.channel().send(Side{.qp = mine.qp.address(),
                                           .own = own.remote(),
                                           .shared = {.address = 0, .rkey = shared_mr.rkey()}});
                (void)victim.channel().recv<int>();
                victim.channel().send(1);
                for (std::uint64_t i = 0; i < 8; ++i) {
                    const Remote& remote = i % 2 ? there.own : there.shared;
                    if (i % 4 < 2)
                        mine.qp.post_write(i, own.sge(0, SIZE), remote);
                    else
                        mine.qp.post_read(i, own.sge(0, SIZE), remote);
                }
                talked++;
            } catch (const std::system_error& e) { // it was killed before it could answer
                ASSERT_TRUE(early && e.code().value() != EPROTO) << e.what();
            }
            if (!early) {
                if (round / 2 % 2) // not before something has got through
                    completed += mine.cq.wait().status == IBV_WC_SUCCESS;
                killer = kill_after(victim, delay);
            }
            killer.join();
            ASSERT_EQ(KILLED, victim.wait(PATIENCE)) << "a killed process does not end";
            // Whoever gets memory of the dead is not disturbed by what is still on its way.
            const auto next = vram.alloc({.size = SIZE, .chunk = page_size()});
            const auto cpu = next.map();
            EXPECT_TRUE(all_zero(cpu.bytes())) << "somebody has written into new memory";
            completed += survivors.at(which).renew();
            EXPECT_TRUE(all_zero(cpu.bytes())) << "somebody has written into new memory";
        }
        const auto deadline = std::chrono::steady_clock::now() + PATIENCE;
        while (vram.info().vram_free != before.vram_free || vram.info().buffers != before.buffers) {
            ASSERT_TRUE(std::chrono::steady_clock::now() < deadline)
                << "buffers of the dead did not come back";
            std::this_thread::sleep_for(1ms);
        }
    }
    EXPECT_GT(talked, rounds / 3) << "most were killed before they said anything";
    std::printf("talked in %d rounds, %d requests completed\n", talked, completed);
    EXPECT_GT(completed, talked / 8) << "there was hardly any traffic";
}

TEST_F(DeathKill, DescriptorClosedThenKilled) {
    // The MR is all that holds the buffer: closed by its owner, never mapped.
    const VramDevice vram;
    for (int round = 0; round < 4; ++round) {
        auto victim = Child::fork([](Channel& parent) {
            const VramDevice own;
            Endpoint a(GPU_DEVICE);
            Endpoint b(PEER_DEVICE);
            connect(a.qp, b.qp);
            const HostMemory from(b.pd, SIZE);
            auto buffer = own.alloc({.size = SIZE});
            const auto mr = Mr::dmabuf(a.pd, buffer.fd(), 0, SIZE, 0);
            buffer.close();
            for (std::uint64_t i = 0;; ++i) {
                b.qp.post_write(i, from.sge(0, SIZE), {.address = 0, .rkey = mr.rkey()});
                if (b.cq.wait().status != IBV_WC_SUCCESS)
                    return 1;
                if (i == 0)
                    parent.send(1);
            }
        });
        (void)victim.channel().recv<int>();
        EXPECT_EQ(1U, vram.info().buffers) << "the MR does not keep its buffer";
        std::this_thread::sleep_for(std::chrono::milliseconds(5 * round));
        victim.kill(SIGKILL);
        ASSERT_EQ(KILLED, victim.wait(PATIENCE));
        expect_holdings(vram);
    }
}

TEST_F(DeathKill, DeviceNodeClosedThenKilled) {
    // Nobody has the device node open when the last buffer goes.
    for (int round = 0; round < 4; ++round) {
        auto victim = Child::fork([](Channel& parent) {
            VramDevice own;
            Endpoint a(GPU_DEVICE);
            Endpoint b(PEER_DEVICE);
            connect(a.qp, b.qp);
            const DeviceMemory to(own, a.pd, {.size = SIZE});
            const DeviceMemory from(own, b.pd, {.size = SIZE});
            own.close();
            for (std::uint64_t i = 0;; ++i) {
                b.qp.post_write(i, from.sge(0, SIZE), to.remote());
                if (b.cq.wait().status != IBV_WC_SUCCESS)
                    return 1;
                if (i == 0)
                    parent.send(1);
            }
        });
        (void)victim.channel().recv<int>();
        std::this_thread::sleep_for(std::chrono::milliseconds(5 * round));
        victim.kill(SIGKILL);
        ASSERT_EQ(KILLED, victim.wait(PATIENCE));
        expect_holdings(VramDevice());
    }
}

TEST_F(DeathKill, BothSidesInEitherOrder) {
    const VramDevice vram;
    for (int round = 0; round < 6; ++round) {
        {
            const auto shared = vram.alloc({.size = SIZE});
            const auto start = [&](const char* device) {
                return Child::fork([&, device](Channel& parent) {
                    return be_a_side(device, shared.fd(), parent);
                });
            };
            std::array sides{start(GPU_DEVICE), start(PEER_DEVICE)};
            const auto gpu = sides[0].channel().recv<Side>();
            const auto peer = sides[1].channel().recv<Side>();
            sides[0].channel().send(peer);
            sides[1].channel().send(gpu);
            for (Child& side : sides)
                (void)side.channel().recv<int>(); // connected
            for (Child& side : sides)
                side.channel().send(1);
            const Mover mover(vram, shared.fd(), std::nullopt);
            std::this_thread::sleep_for(std::chrono::milliseconds(5 * (round / 2)));
            // Round about, one right after the other or only when the first is buried.
            Child& first = sides.at(static_cast<std::size_t>(round % 2));
            Child& second = sides.at(static_cast<std::size_t>(1 - round % 2));
            first.kill(SIGKILL);
            if (round < 4) {
                ASSERT_EQ(KILLED, first.wait(PATIENCE));
            }
            second.kill(SIGKILL);
            ASSERT_EQ(KILLED, second.wait(PATIENCE));
            if (round >= 4) {
                ASSERT_EQ(KILLED, first.wait(PATIENCE));
            }
        }
        expect_holdings(vram);
    }
}

} // namespace
} // namespace pfn
