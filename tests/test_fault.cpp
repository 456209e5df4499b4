// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
//
// Faults that take their time, or fail: an access to memory that is on the move
// waits until it has arrived. Nobody else waits with it, and if it does not
// arrive the right side is told so.
#include "support/modules.hpp"
#include "support/traffic.hpp"

#include <array>
#include <atomic>
#include <cstdio>
#include <fstream>
#include <functional>
#include <optional>
#include <thread>

namespace pfn {
namespace {

using namespace std::chrono_literals;

constexpr std::uint64_t SIZE = 64 * KIB;
constexpr std::uint32_t VRAM = PFN_VRAM_PLACEMENT_VRAM;
constexpr std::uint32_t SYSTEM = PFN_VRAM_PLACEMENT_SYSTEM;
constexpr std::size_t LENGTH = 10000; ///< of an access, several packets

/// An access to memory of the gpu that has to fault.
enum class Access {
    REMOTE, ///< the peer reads it
    LOCAL,  ///< the gpu writes it to the peer
    RECEIVE ///< the peer sends into it
};

std::string access_name(const testing::TestParamInfo<Access>& info) {
    static constexpr std::array NAMES{"Remote", "Local", "Receive"};
    return NAMES.at(static_cast<std::size_t>(info.param));
}

class Fault : public RdmaTest {
  protected:
    DeviceMemory device{vram, gpu.pd, {.size = SIZE}};
    HostMemory host{peer.pd, SIZE};

    /// Of queue pairs whose packets are not to be given up before a fault is.
    static constexpr QpSpec PATIENT{.ack_timeout = 21};

    /// Begin a move that takes as long as copy_delay_ms says.
    static void begin_move(const VramDevice& vram, const DeviceMemory& memory) {
        const auto before = vram.buf_info(memory.buffer.fd()).generation;
        vram.move(memory.buffer.fd(), SYSTEM, page_chunk(), PFN_VRAM_MOVE_ASYNC);
        ASSERT_EQ(before + 1, vram.buf_info(memory.buffer.fd()).generation);
    }

    void post(Access access, const Lane& lane, const DeviceMemory& memory,
              std::size_t at = 0) const {
        switch (access) {
        case Access::REMOTE:
            lane.peer_qp.post_read(1, host.sge(at, LENGTH), memory.remote(at));
            break;
        case Access::LOCAL:
            lane.gpu_qp.post_write(1, memory.sge(at, LENGTH), host.remote(at));
            break;
        case Access::RECEIVE:
            lane.gpu_qp.post_recv(1, memory.sge(at, LENGTH));
            lane.peer_qp.post_send(1, host.sge(at, LENGTH));
            break;
        }
    }
    /// Where the access completes.
    static const Cq& cq(Access access, const Lane& lane) {
        return access == Access::REMOTE ? lane.peer_cq : lane.gpu_cq;
    }

    /// The access has failed, and both sides have been told as they should.
    static void expect_failed(Access access, const Lane& lane) {
        const ibv_wc_status status = cq(access, lane).wait().status;
        switch (access) {
        case Access::REMOTE:
            EXPECT_EQ(IBV_WC_REM_ACCESS_ERR, status) << ibv_wc_status_str(status);
            break;
        case Access::LOCAL:
            EXPECT_EQ(IBV_WC_LOC_PROT_ERR, status) << ibv_wc_status_str(status);
            break;
        case Access::RECEIVE:
            EXPECT_EQ(IBV_WC_LOC_PROT_ERR, status) << ibv_wc_status_str(status);
            const ibv_wc_status sender = lane.peer_cq.wait().status;
            EXPECT_EQ(IBV_WC_REM_OP_ERR, sender) << ibv_wc_status_str(sender);
            break;
        }
    }
};

// A fault that waits.

class PendingFault : public Fault, public testing::WithParamInterface<Access> {
  protected:
    /// Far longer than what others do meanwhile needs, should this thread be held up.
    ModuleParameter delay{"pfn_vram/copy_delay_ms", "3000"};

    /// Post accesses on so many lanes to memory that is moving, and call
    /// `meanwhile` over and over until the last has completed. Returns how often.
    template<typename Meanwhile>
    unsigned during_faults(std::size_t count, const Meanwhile& meanwhile) {
        fill_pattern(device.bytes(), 1);
        fill_pattern(host.bytes(), 2);
        std::vector<std::unique_ptr<Lane>> lanes;
        while (lanes.size() < count)
            lanes.push_back(std::make_unique<Lane>(gpu, peer, PATIENT));
        begin_move(vram, device);
        for (std::size_t i = 0; i < count; ++i)
            post(GetParam(), *lanes[i], device, i * 3000);

        const auto deadline = std::chrono::steady_clock::now() + PATIENCE;
        unsigned calls = 0;
        for (std::size_t done = 0; done < count;) {
            meanwhile();
            ++calls;
            if (const auto wc = cq(GetParam(), *lanes[done]).poll()) {
                EXPECT_EQ(IBV_WC_SUCCESS, wc->status) << ibv_wc_status_str(wc->status);
                ++done;
            } else if (std::chrono::steady_clock::now() > deadline) {
                throw Timeout("the fault takes for ever");
            }
        }
        for (std::size_t i = 0; i < count; ++i) {
            if (GetParam() == Access::RECEIVE)
                EXPECT_TRUE(has_pattern(device.bytes().subspan(i * 3000, LENGTH), 2, i * 3000));
            else
                EXPECT_TRUE(has_pattern(host.bytes().subspan(i * 3000, LENGTH), 1, i * 3000));
        }
        return calls;
    }
};

INSTANTIATE_TEST_SUITE_P(Access, PendingFault,
                         testing::Values(Access::REMOTE, Access::LOCAL, Access::RECEIVE),
                         access_name);

TEST_P(PendingFault, OtherQueuePairsGoOn) {
    const DeviceMemory other(vram, gpu.pd, {.size = Traffic::AREA});
    const std::array views{View(other.mr, 0)};
    const auto traffic = make_traffic(Kind::REMOTE, gpu, peer, views, 0);
    unsigned requests = 0;
    const unsigned rounds = during_faults(1, [&] { requests += traffic->round(); });
    std::printf("%u requests of another queue pair during a fault\n", requests);
    // With a stall it is one that takes as long as the fault, and one to see it end.
    EXPECT_GE(rounds, 3U);
}

TEST_P(PendingFault, EvenIfMostOfThemWait) {
    const DeviceMemory other(vram, gpu.pd, {.size = Traffic::AREA});
    const std::array views{View(other.mr, 0)};
    const auto traffic = make_traffic(Kind::LOCAL, gpu, peer, views, 0);
    unsigned requests = 0;
    const unsigned rounds = during_faults(16, [&] { requests += traffic->round(); });
    std::printf("%u requests of another queue pair during 16 faults\n", requests);
    EXPECT_GE(rounds, 16U + 2U);
}

TEST_P(PendingFault, ControlPathGoesOn) {
    const ModuleParameter longer("pfn_vram/copy_delay_ms", "4000");
    const auto other = vram.alloc({.size = SIZE});
    unsigned in_move = 0;
    const unsigned calls = during_faults(1, [&] {
        // others' buffers, and whatever needs not wait of the one that moves
        auto mr = Mr::dmabuf(gpu.pd, other.fd(), 0, SIZE, 0);
        (void)query_mr(device.mr);
        (void)vram.buf_info(device.buffer.fd());
        device.mr.rereg(IBV_REREG_MR_CHANGE_ACCESS, nullptr, FULL_ACCESS);
        mr.dereg();
        in_move += (vram.buf_info(device.buffer.fd()).flags & PFN_VRAM_BUF_MOVING) != 0;
    });
    std::printf("registered and so on %u times, %u during a fault\n", calls, in_move);
    EXPECT_GE(in_move, 5U); // none if they wait for its end
}

// A fault whose MR, queue pair or memory goes while it waits.

class InterruptedFault : public Fault, public testing::WithParamInterface<Access> {
  protected:
    /// Either outcome, and both sides agree which.
    static void expect_received_or_not(ibv_wc_status receiver, ibv_wc_status sender) {
        if (receiver == IBV_WC_SUCCESS) {
            EXPECT_EQ(IBV_WC_SUCCESS, sender) << ibv_wc_status_str(sender);
            return;
        }
        EXPECT_TRUE(receiver == IBV_WC_LOC_PROT_ERR || receiver == IBV_WC_LOC_QP_OP_ERR)
            << ibv_wc_status_str(receiver);
        EXPECT_EQ(IBV_WC_REM_OP_ERR, sender) << ibv_wc_status_str(sender);
    }
};

INSTANTIATE_TEST_SUITE_P(Access, InterruptedFault,
                         testing::Values(Access::REMOTE, Access::LOCAL, Access::RECEIVE),
                         access_name);

TEST_P(InterruptedFault, RevokeIsARaceWithTwoOutcomes) {
    const ModuleParameter delay("pfn_vram/copy_delay_ms", "100");
    for (int round = 0; round < 6; ++round) {
        const DeviceMemory victim(vram, gpu.pd, {.size = SIZE});
        fill_pattern(victim.bytes(), 3);
        fill_pattern(host.bytes(), 4);
        const std::array lanes{std::make_unique<Lane>(gpu, peer),
                               std::make_unique<Lane>(gpu, peer)};
        begin_move(vram, victim);
        for (const auto& lane : lanes)
            post(GetParam(), *lane, victim);
        vram.revoke(victim.buffer.fd()); // waits for the copy, as the faults do
        for (const auto& lane : lanes) {
            const ibv_wc wc = cq(GetParam(), *lane).wait();
            if (wc.status == IBV_WC_SUCCESS && GetParam() != Access::RECEIVE) {
                EXPECT_TRUE(has_pattern(host.bytes().first(LENGTH), 3)) << "round " << round;
            } else if (wc.status != IBV_WC_SUCCESS && GetParam() == Access::REMOTE) {
                EXPECT_EQ(IBV_WC_REM_ACCESS_ERR, wc.status) << ibv_wc_status_str(wc.status);
            } else if (wc.status != IBV_WC_SUCCESS && GetParam() == Access::LOCAL) {
                EXPECT_EQ(IBV_WC_LOC_PROT_ERR, wc.status) << ibv_wc_status_str(wc.status);
            } else if (GetParam() == Access::RECEIVE) {
                expect_received_or_not(wc.status, lane->peer_cq.wait().status);
            }
        }
        EXPECT_EQ(PFN_MR_STATE_REVOKED, query_mr(victim.mr).state);
        const Lane after(gpu, peer);
        post(GetParam(), after, victim);
        expect_failed(GetParam(), after);
    }
}

TEST_P(InterruptedFault, DeregDoesNotHang) {
    const ModuleParameter delay("pfn_vram/copy_delay_ms", "300");
    for (int round = 0; round < 3; ++round) {
        fill_pattern(device.bytes(), 5);
        auto mr = std::make_unique<DeviceMemory>(vram, gpu.pd, BufferSpec{.size = SIZE});
        const Lane lane(gpu, peer);
        begin_move(vram, *mr);
        post(GetParam(), lane, *mr);
        std::this_thread::sleep_for(round * 50ms); // at all sorts of moments
        EXPECT_ERRNO(0, mr->mr.dereg());
        mr.reset(); // and the last descriptor
        const auto status = cq(GetParam(), lane).wait().status;
        EXPECT_NE(IBV_WC_RETRY_EXC_ERR, status);
    }
}

TEST_P(InterruptedFault, DestroyedQueuePairDoesNotHang) {
    const ModuleParameter delay("pfn_vram/copy_delay_ms", "300");
    for (int round = 0; round < 3; ++round) {
        fill_pattern(device.bytes(), 6);
        {
            const Lane lane(gpu, peer);
            begin_move(vram, device);
            post(GetParam(), lane, device);
            std::this_thread::sleep_for(round * 50ms); // at all sorts of moments
        }
        read(host.sge(0, LENGTH), device.remote(LENGTH)); // the MR is none the worse
        EXPECT_TRUE(has_pattern(host.bytes().first(LENGTH), 6, LENGTH));
    }
}

/// Takes the VRAM's PCI device away from its driver, and gives it back at the end.
class Unbound {
  public:
    explicit Unbound(std::string bus_name) : bus_name_(std::move(bus_name)) { tell("unbind"); }
    ~Unbound() { tell("bind"); }
    Unbound(const Unbound&) = delete;
    Unbound& operator=(const Unbound&) = delete;

  private:
    void tell(const char* what) const {
        std::ofstream(std::string("/sys/bus/pci/drivers/pfn_vram/") + what)
            << bus_name_ << std::flush;
    }
    std::string bus_name_;
};

TEST_P(InterruptedFault, UnplugDuringAMoveIsACompletionError) {
    const auto before = vram.info();
    if (before.backend != PFN_VRAM_BACKEND_BAR)
        GTEST_SKIP() << "there is no device to unplug";
    const ModuleParameter delay("pfn_vram/copy_delay_ms", "3000");
    const Lane lane(gpu, peer, PATIENT);
    const DeviceMemory second(vram, gpu.pd, {.size = SIZE});
    fill_pattern(host.bytes(), 7);
    int move_errno = 0;
    std::jthread mover([&] { // the second buffer's copy is on its way, too
        move_errno = errno_of([&] { vram.move(second.buffer.fd(), SYSTEM); });
    });
    begin_move(vram, device);
    post(GetParam(), lane, device);
    const auto deadline = std::chrono::steady_clock::now() + PATIENCE;
    while (vram.buf_info(second.buffer.fd()).generation == 0)
        ASSERT_LT(std::chrono::steady_clock::now(), deadline);
    {
        const Unbound gone(before.bus_name);
        expect_failed(GetParam(), lane);
        EXPECT_TRUE(has_pattern(host.bytes(), 7)) << "half of a move was delivered";
        mover.join();
        // Unplugging waits for copies, but not for ever.
        EXPECT_TRUE(move_errno == 0 || move_errno == ENODEV) << strerrorname_np(move_errno);
        EXPECT_EQ(PFN_MR_STATE_REVOKED, query_mr(device.mr).state);
    }
    vram = VramDevice();
    const DeviceMemory fresh(vram, gpu.pd, {.size = SIZE});
    write(host.sge(0, SIZE), fresh.remote());
    EXPECT_TRUE(has_pattern(fresh.bytes(), 7));
}

// Nobody waits for an exporter that does not finish.

TEST_F(Fault, StuckMoveTimesOutForEverybodyAndHarmsNothing) {
    fill_pattern(device.bytes(), 8);
    fill_pattern(host.bytes(), 9);
    reconnect(PATIENT);
    const Lane local(gpu, peer);
    const Lane receiving(gpu, peer, PATIENT);
    auto delay = std::make_optional<ModuleParameter>("pfn_vram/copy_delay_ms", "15000");
    begin_move(vram, device);
    delay.reset(); // it is on its way

    struct {
        int move, revoke, reg, advise;
        std::string reason;
    } error{};
    const int fd = device.buffer.fd();
    {
        const std::jthread move([&] { error.move = errno_of([&] { vram.move(fd, VRAM); }); });
        const std::jthread revoke([&] { error.revoke = errno_of([&] { vram.revoke(fd); }); });
        const std::jthread reg([&] {
            try {
                const ModeMr mr(gpu.pd, PFN_MR_MODE_DEFAULT, fd, 0, SIZE, 0);
            } catch (const RegistrationError& e) {
                error.reg = e.code().value();
                error.reason = e.reason();
            }
        });
        const std::jthread prefetch([&] {
            error.advise = errno_of([&] {
                advise(gpu.pd, IBV_ADVISE_MR_ADVICE_PREFETCH, IBV_ADVISE_MR_FLAG_FLUSH,
                       device.sge(0, SIZE));
            });
        });
        peer.qp.post_read(1, host.sge(0, LENGTH), device.remote());
        post(Access::LOCAL, local, device);
        post(Access::RECEIVE, receiving, device);
        EXPECT_EQ(IBV_WC_REM_ACCESS_ERR, complete(peer));
        expect_failed(Access::LOCAL, local);
        expect_failed(Access::RECEIVE, receiving);
    }
    EXPECT_EQ(Errno{ETIMEDOUT}, Errno{error.move});
    EXPECT_EQ(Errno{ETIMEDOUT}, Errno{error.revoke});
    EXPECT_EQ(Errno{ETIMEDOUT}, Errno{error.reg});
    EXPECT_EQ(Errno{ETIMEDOUT}, Errno{error.advise});
    EXPECT_NE(std::string::npos, error.reason.find("did not finish moving")) << error.reason;
    EXPECT_TRUE(has_pattern(host.bytes(), 9)) << "half of a move was delivered";

    device.buffer.wait_idle(PATIENCE);
    reconnect();
    read(host.sge(0, SIZE), device.remote());
    EXPECT_TRUE(has_pattern(host.bytes(), 8));
    vram.move(fd, VRAM);
    EXPECT_TRUE(has_pattern(device.bytes(), 8));
    EXPECT_EQ(1U, vram.buf_info(fd).attachments);
}

} // namespace
} // namespace pfn
