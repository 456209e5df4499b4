// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
//
// What is below the MRs goes away under traffic: the rxe link, the Ethernet
// device, the network namespace. Linux 7.3 takes the RDMA device away from its
// users; before, the removal waits for them to end. Neither hangs, the other
// side hears of it, and nothing stays behind.
#include "common/process.hpp"
#include "support/aftermath.hpp"
#include "support/modules.hpp"

#include <cstdio>
#include <string>
#include <system_error>
#include <thread>

namespace pfn {
namespace {

using namespace std::chrono_literals;

constexpr std::uint64_t SIZE = 64 * KIB;
/// For what includes a removal that may have waited for something else.
constexpr std::chrono::seconds LONG_PATIENCE = 2 * PATIENCE;

void run(const std::vector<std::string>& argv) {
    if (run_program(argv, PATIENCE) != Exit{})
        throw std::runtime_error("failed: " + argv[0] + " " + argv[1] + " " + argv[2]);
}

/// Puts the lab's links back, whatever became of them.
class LinksGuard {
  public:
    LinksGuard() = default;
    LinksGuard(const LinksGuard&) = delete;
    LinksGuard& operator=(const LinksGuard&) = delete;
    ~LinksGuard() {
        try {
            restore();
        } catch (const std::exception& e) {
            ADD_FAILURE() << "the lab's links are not back: " << e.what();
        }
    }
    void restore() const {
        for (const RxeLink& link : links_) {
            if (!rdma_device_exists(link.name))
                add_link(link);
        }
    }
    [[nodiscard]] const RxeLink& link(const std::string& name) const {
        for (const RxeLink& link : links_) {
            if (link.name == name)
                return link;
        }
        throw std::runtime_error("the lab has no " + name);
    }

  private:
    std::vector<RxeLink> links_ = rxe_links();
};

/// Two namespaces and rxe devices of a test's own. Their Ethernet devices are
/// macvlans on one dummy, which switches between them: either outlives the other.
class OwnNetwork {
  public:
    OwnNetwork() {
        try {
            run({"ip", "netns", "add", DOOMED.netns});
            run({"ip", "netns", "add", OTHER.netns});
            in(OTHER, {"link", "add", "pfn_wire", "mtu", "4200", "type", "dummy"});
            in(OTHER, {"link", "set", "pfn_wire", "up"});
            for (const RxeLink& link : {DOOMED, OTHER})
                in(OTHER, {"link", "add", "link", "pfn_wire", link.netdev, "netns", link.netns,
                           "type", "macvlan", "mode", "bridge"});
            in(DOOMED, {"addr", "add", "198.51.100.1/24", "dev", DOOMED.netdev});
            in(OTHER, {"addr", "add", "198.51.100.2/24", "dev", OTHER.netdev});
            for (const RxeLink& link : {DOOMED, OTHER}) {
                in(link, {"link", "set", link.netdev, "up"});
                add_link(link);
            }
        } catch (...) {
            remove();
            throw;
        }
    }
    ~OwnNetwork() { remove(); }
    OwnNetwork(const OwnNetwork&) = delete;
    OwnNetwork& operator=(const OwnNetwork&) = delete;

    static inline const RxeLink DOOMED{.name = "pfn_r1", .netns = "pfn_d1", .netdev = "pfn_v1"};
    static inline const RxeLink OTHER{.name = "pfn_r2", .netns = "pfn_d2", .netdev = "pfn_v2"};

  private:
    static void in(const RxeLink& link, const std::vector<std::string>& arguments) {
        std::vector<std::string> argv{"ip", "-n", link.netns};
        argv.insert(argv.end(), arguments.begin(), arguments.end());
        run(argv);
    }
    /// What is still there of it. The RDMA devices first: ib_core has a compat device
    /// of each in every namespace, and a namespace does not wait for one that goes
    /// with its RDMA device at that moment (KASAN, in device_del(), seen with 7.3.4).
    static void remove() noexcept {
        for (const RxeLink& link : {DOOMED, OTHER})
            try_to([&] {
                if (rdma_device_exists(link.name))
                    delete_link(link);
            });
        for (const RxeLink& link : {DOOMED, OTHER})
            try_to([&] {
                if (::access(("/run/netns/" + link.netns).c_str(), F_OK) == 0)
                    run({"ip", "netns", "del", link.netns});
            });
    }
    /// A failure shows in the next test.
    static void try_to(const std::function<void()>& step) noexcept {
        try {
            step();
        } catch (const std::exception& e) {
            (void)std::fprintf(stderr, "own network: %s\n", e.what());
        }
    }
};

/// What one side tells the other.
struct Side {
    QpAddress qp;
    Remote memory;
};

/// How a side has come to its end.
enum class End : int {
    COMPLETION = 1, ///< a completion in error
    CALL,           ///< a verbs call failed with EIO
    SILENCE,        ///< nothing at all
    OTHER_CALL,     ///< a verbs call failed with something else
};

/// Reads and writes device memory over there from device memory here, until
/// that does not work any more, and tells how that showed.
End talk(const Endpoint& mine, const DeviceMemory& own, const Side& there, Channel& parent) {
    try {
        for (std::uint64_t i = 0;; ++i) {
            mine.qp.post_write(2 * i, own.sge(0, SIZE), there.memory);
            mine.qp.post_read(2 * i + 1, own.sge(0, SIZE), there.memory);
            for (int n = 0; n < 2; ++n) {
                if (mine.cq.wait().status != IBV_WC_SUCCESS)
                    return End::COMPLETION;
            }
            if (i == 3)
                parent.send(1);
            if (parent.ready())
                return End::SILENCE; // asked to end, and all is well
        }
    } catch (const Timeout&) {
        return End::SILENCE;
    } catch (const std::system_error& e) {
        if (e.code().value() == EIO)
            return End::CALL;
        (void)std::fprintf(stderr, "side: %s\n", e.what());
        return End::OTHER_CALL;
    }
}

/// The life of a process that is one side.
int be_a_side(const std::string& device, Channel& parent) {
    const VramDevice vram;
    Endpoint mine(device);
    const DeviceMemory own(vram, mine.pd, {.size = SIZE, .chunk = page_size()});
    parent.send(Side{.qp = mine.qp.address(), .memory = own.remote()});
    const auto there = parent.recv<Side>();
    mine.qp.connect(there.qp);
    parent.send(1);
    (void)parent.recv<int>(); // the other side is connected, too
    parent.send(talk(mine, own, there, parent));
    (void)parent.recv<int>(LONG_PATIENCE); // what to look at now
    // Its memory is its own, whatever became of the device.
    fill_pattern(own.bytes(), 7);
    vram.move(own.buffer.fd(), PFN_VRAM_PLACEMENT_SYSTEM);
    const bool intact = !find_mismatch(own.bytes(), 7);
    const bool registers =
        errno_of([&] { (void)Mr::dmabuf(mine.pd, own.buffer.fd(), 0, SIZE, 0); }) == 0;
    parent.send(registers);
    parent.send(std::uint64_t{vram.buf_info(own.buffer.fd()).attachments});
    return intact ? 0 : 1;
}

class DeathNet : public testing::Test {
  protected:
    /// @p removal takes away what is below @p doomed, while @p other talks to it.
    static void remove_under_traffic(const std::string& doomed, const std::string& other,
                                     const std::function<void()>& removal) {
        auto victim = Child::fork([&](Channel& c) { return be_a_side(doomed, c); });
        auto witness = Child::fork([&](Channel& c) { return be_a_side(other, c); });
        const auto victim_side = victim.channel().recv<Side>();
        const auto witness_side = witness.channel().recv<Side>();
        victim.channel().send(witness_side);
        witness.channel().send(victim_side);
        for (Child* child : {&victim, &witness})
            (void)child->channel().recv<int>(); // connected
        for (Child* child : {&victim, &witness})
            child->channel().send(1);
        for (Child* child : {&victim, &witness})
            (void)child->channel().recv<int>(); // traffic both ways

        auto remover = Child::fork([&](Channel&) {
            removal();
            return 0;
        });
        if (devices_are_taken_away()) {
            ASSERT_EQ(Exit{}, remover.wait(LONG_PATIENCE)) << "it waits for the program";
            wait_until_gone(doomed);
            const auto end = victim.channel().recv<End>(LONG_PATIENCE);
            EXPECT_TRUE(end == End::CALL || end == End::COMPLETION || end == End::SILENCE)
                << static_cast<int>(end);
            victim.channel().send(1);
            EXPECT_FALSE(victim.channel().recv<bool>()) << "registers with a device that is gone";
            EXPECT_EQ(0U, victim.channel().recv<std::uint64_t>()) << "an MR is left";
            EXPECT_EQ(Exit{}, victim.wait(PATIENCE));
        } else {
            // It may wait for the program: end it, with all it has.
            (void)remover.ends_within(2s);
            victim.kill(SIGKILL);
            EXPECT_EQ((Exit{.status = 0, .signal = SIGKILL}), victim.wait(PATIENCE));
            ASSERT_EQ(Exit{}, remover.wait(LONG_PATIENCE)) << "hangs though nobody uses it";
            wait_until_gone(doomed);
        }
        EXPECT_EQ(End::COMPLETION, witness.channel().recv<End>(LONG_PATIENCE))
            << "the other side was not told";
        witness.channel().send(1);
        EXPECT_TRUE(witness.channel().recv<bool>()) << "the other device has suffered";
        EXPECT_EQ(1U, witness.channel().recv<std::uint64_t>());
        EXPECT_EQ(Exit{}, witness.wait(PATIENCE));
        expect_holdings(VramDevice());
    }

    static void wait_until_gone(const std::string& device) {
        const auto deadline = std::chrono::steady_clock::now() + LONG_PATIENCE;
        while (rdma_device_exists(device)) {
            ASSERT_TRUE(std::chrono::steady_clock::now() < deadline) << device << " stays";
            std::this_thread::sleep_for(5ms);
        }
    }

    static void link_deleted(const std::string& doomed, const std::string& other) {
        const LinksGuard guard;
        const RxeLink& link = guard.link(doomed);
        remove_under_traffic(doomed, other, [&] { delete_link(link); });
        guard.restore();
        expect_fresh_traffic(doomed, other);
        expect_fresh_traffic(other, doomed);
        expect_holdings(VramDevice());
    }

    static void in_own_network(const std::function<void()>& removal) {
        {
            const OwnNetwork network;
            expect_fresh_traffic(OwnNetwork::DOOMED.name, OwnNetwork::OTHER.name);
            remove_under_traffic(OwnNetwork::DOOMED.name, OwnNetwork::OTHER.name, removal);
        }
        expect_fresh_traffic();
        const OwnNetwork again; // nothing of the names is left
        expect_fresh_traffic(OwnNetwork::DOOMED.name, OwnNetwork::OTHER.name);
    }
};

TEST_F(DeathNet, LinkOfTheGpuDeleted) {
    link_deleted(GPU_DEVICE, PEER_DEVICE);
}

TEST_F(DeathNet, LinkOfThePeerDeleted) {
    link_deleted(PEER_DEVICE, GPU_DEVICE);
}

TEST_F(DeathNet, NetdevRemoved) {
    in_own_network([] {
        run({"ip", "-n", OwnNetwork::DOOMED.netns, "link", "del", OwnNetwork::DOOMED.netdev});
    });
}

TEST_F(DeathNet, NamespaceRemoved) {
    in_own_network([] { run({"ip", "netns", "del", OwnNetwork::DOOMED.netns}); });
}

} // namespace
} // namespace pfn
