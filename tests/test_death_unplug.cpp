// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
//
// The PCI device with the VRAM goes while others use it, and comes back: by its
// driver, by sysfs, and for real.
#include "common/files.hpp"
#include "common/process.hpp"
#include "support/modules.hpp"
#include "support/rdma_test.hpp"

#include <sys/eventfd.h>

#include <atomic>
#include <csignal>
#include <cstdlib>
#include <future>
#include <optional>
#include <thread>
#include <utility>

namespace pfn {
namespace {

using namespace std::chrono_literals;

constexpr std::uint64_t SIZE = 256 * KIB;
constexpr int ROUNDS = 3;

void guest_vram(const std::string& what) {
    if (run_program({"guest-vram", what}, 120s) != Exit{})
        throw std::runtime_error("guest-vram " + what + " failed");
}

/// A way to take a PCI device away, and to bring it back.
struct Way {
    const char* name;
    void (*take)(const std::string& device);
    void (*bring)(const std::string& device);
    bool qmp;
};

const Way WAYS[] = {
    {"Unbind",
     [](const std::string& device) { write_file("/sys/bus/pci/drivers/pfn_vram/unbind", device); },
     [](const std::string& device) { write_file("/sys/bus/pci/drivers/pfn_vram/bind", device); },
     false},
    {"Remove",
     [](const std::string& device) {
         write_file("/sys/bus/pci/devices/" + device + "/remove", "1");
     },
     [](const std::string&) { write_file("/sys/bus/pci/rescan", "1"); }, false},
    {"Unplug", [](const std::string&) { guest_vram("unplug"); },
     [](const std::string&) { guest_vram("plug"); }, true},
};

void PrintTo(const Way& way, std::ostream* out) {
    *out << way.name;
}

/// The device is away as long as this lives, whatever becomes of the test.
class Absence {
  public:
    Absence(const Way& way, std::string device) : way_(way), device_(std::move(device)) {
        way_.take(device_);
        away_ = true;
    }
    ~Absence() {
        try {
            end();
        } catch (const std::exception& e) {
            ADD_FAILURE() << "the device is not back: " << e.what();
        }
    }
    Absence(const Absence&) = delete;
    Absence& operator=(const Absence&) = delete;

    /// Bring it back and wait until it can be opened.
    void end() {
        if (!away_)
            return;
        away_ = false;
        way_.bring(device_);
        const auto deadline = std::chrono::steady_clock::now() + PATIENCE;
        while (errno_of([] { const VramDevice back; }) != 0) {
            if (std::chrono::steady_clock::now() > deadline)
                throw Timeout("no VRAM");
            std::this_thread::sleep_for(10ms);
        }
    }

  private:
    const Way& way_;
    std::string device_;
    bool away_ = false;
};

/// A buffer with an MR that tells of its end.
struct Victim {
    /// @p chunk: size of its pieces; 0: as large as can be, of a BAR in one piece then.
    Victim(const VramDevice& vram, const Pd& pd, std::uint32_t mode, std::uint32_t placement,
           std::uint32_t chunk = 0)
        : told(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)),
          buffer(vram.alloc({.size = SIZE, .chunk = chunk, .placement = placement})),
          cpu(buffer.map()), mr(pd, mode, buffer.fd(), 0, SIZE, 0, FULL_ACCESS, told.get()) {
        fill_pattern(cpu.bytes(), 1);
    }

    [[nodiscard]] Remote remote() const { return {.address = 0, .rkey = mr.rkey()}; }

    /// What the eventfd has counted.
    [[nodiscard]] std::uint64_t times_told() const {
        std::uint64_t count = 0;
        return ::read(told.get(), &count, sizeof(count)) == sizeof(count) ? count : 0;
    }

    Fd told;
    DmaBuf buffer;
    Mapping cpu;
    ModeMr mr;
};

/// How a process ends that touches @p byte.
Exit touch(std::byte& byte, bool write) {
    auto child = Child::fork([&](Channel&) {
        auto& target = reinterpret_cast<volatile unsigned char&>(byte);
        if (!write)
            return target ? 1 : 0;
        target = 1;
        return 0;
    });
    return child.wait(PATIENCE);
}

class Unplug : public RdmaTest, public testing::WithParamInterface<Way> {
  protected:
    void SetUp() override {
        RdmaTest::SetUp();
        if (vram.info().backend != PFN_VRAM_BACKEND_BAR)
            GTEST_SKIP() << "the VRAM is no PCI device here";
        if (GetParam().qmp && ::getenv("UMEM_PFN_QMP") == nullptr) // NOLINT(concurrency-mt-unsafe)
            GTEST_SKIP() << "no QMP";
    }

    /// WRITEs and READs until one fails; @p done counts those that did not.
    ibv_wc_status traffic(Remote remote, std::atomic<unsigned>& done) const {
        for (;; ++done) {
            if (done % 2)
                peer.qp.post_read(done, host.sge(0, SIZE), remote);
            else
                peer.qp.post_write(done, host.sge(0, SIZE), remote);
            // Longer than an access may wait for a move that does not end.
            const auto status = peer.cq.wait(2 * PATIENCE).status;
            if (status != IBV_WC_SUCCESS)
                return status;
        }
    }

    void expect_gone(Victim& victim, const char* what) const {
        SCOPED_TRACE(what);
        EXPECT_EQ(std::uint32_t{PFN_MR_STATE_REVOKED}, victim.mr.query().state);
        EXPECT_EQ(0U, victim.mr.query().ranges);
        EXPECT_EQ(1U, victim.times_told());
        const Exit sigbus{.status = 0, .signal = SIGBUS};
        EXPECT_EQ(sigbus, touch(victim.cpu.bytes()[0], false));
        EXPECT_EQ(sigbus, touch(victim.cpu.bytes()[SIZE - 1], true));
        EXPECT_ERRNO(ENODEV, vram.buf_info(victim.buffer.fd()));
        EXPECT_ERRNO(ENODEV, vram.move(victim.buffer.fd(), PFN_VRAM_PLACEMENT_SYSTEM));
        EXPECT_ERRNO(ENODEV, (void)Mr::dmabuf(gpu.pd, victim.buffer.fd(), 0, SIZE, 0));
        victim.buffer.wait_idle(PATIENCE);
    }

    /// The device goes while one of four MRs is in use, and comes back.
    /// @p moving: in the middle of a move. @p late: all that had to do with the
    /// old device is given back only when the new one is in use.
    void go_and_come_back(bool moving, bool late) {
        const std::string device = vram.info().bus_name;
        const auto all = vram.info().vram_size;
        std::vector<Victim> victims;
        victims.reserve(4);
        victims.emplace_back(vram, gpu.pd, PFN_MR_MODE_DYNAMIC, PFN_VRAM_PLACEMENT_VRAM);
        victims.emplace_back(vram, gpu.pd, PFN_MR_MODE_DYNAMIC, PFN_VRAM_PLACEMENT_SYSTEM,
                             page_size());
        victims.emplace_back(vram, gpu.pd, PFN_MR_MODE_REVOCABLE, PFN_VRAM_PLACEMENT_VRAM,
                             page_size());
        victims.emplace_back(vram, gpu.pd, PFN_MR_MODE_PINNED, PFN_VRAM_PLACEMENT_VRAM);
        Victim& used = victims.front();

        std::atomic<unsigned> done = 0;
        auto status = std::async(std::launch::async, [&] { return traffic(used.remote(), done); });
        const auto deadline = std::chrono::steady_clock::now() + PATIENCE;
        while (done < 3 && std::chrono::steady_clock::now() < deadline)
            std::this_thread::sleep_for(1ms);
        EXPECT_LE(3U, done.load());

        std::optional<ModuleParameter> delay;
        if (moving) {
            delay.emplace("pfn_vram/copy_delay_ms", "1000");
            ASSERT_EQ(0U, vram.buf_info(used.buffer.fd()).generation);
            vram.move(used.buffer.fd(), PFN_VRAM_PLACEMENT_SYSTEM, 0, PFN_VRAM_MOVE_ASYNC);
            // Both ways, so that the copy reads what goes away or writes to it.
            vram.move(victims[1].buffer.fd(), PFN_VRAM_PLACEMENT_VRAM, 0, PFN_VRAM_MOVE_ASYNC);
            EXPECT_EQ(1U, vram.buf_info(used.buffer.fd()).generation); // it has begun
        }
        Absence absence(GetParam(), device);
        delay.reset();
        EXPECT_EQ(IBV_WC_REM_ACCESS_ERR, status.get());

        for (std::size_t i = 0; i < victims.size(); ++i) {
            static constexpr const char* NAMES[] = {"in use", "system memory", "revocable",
                                                    "pinned"};
            expect_gone(victims[i], NAMES[i]);
        }
        EXPECT_ERRNO(ENODEV, (void)vram.info());
        EXPECT_ERRNO(ENODEV, (void)vram.alloc({.size = SIZE}));
        EXPECT_NE(0, errno_of([] { const VramDevice gone; }));
        if (!late)
            give_back(victims);

        absence.end();
        EXPECT_ERRNO(ENODEV, (void)vram.info()); // that file is about the old one
        const VramDevice old = std::exchange(vram, VramDevice());
        EXPECT_EQ(0U, vram.info().buffers);
        EXPECT_EQ(all, vram.info().vram_free);
        reconnect();
        {
            const DeviceMemory fresh(vram, gpu.pd, {.size = SIZE, .chunk = page_chunk()});
            EXPECT_TRUE(all_zero(fresh.bytes()));
            fill_pattern(host.bytes(), 7);
            write(host.sge(0, SIZE), fresh.remote());
            EXPECT_TRUE(has_pattern(fresh.bytes(), 7));
            if (late) {
                // The addresses are the same again, the memory is another's.
                EXPECT_ERRNO(EXDEV, (void)vram.buf_info(used.buffer.fd()));
                for (const Victim& victim : victims) {
                    peer.qp.post_write(1, host.sge(0, 8), victim.remote());
                    EXPECT_EQ(IBV_WC_REM_ACCESS_ERR, complete(peer));
                    reconnect();
                }
                give_back(victims);
            }
            const HostMemory back(peer.pd, SIZE);
            read(back.sge(0, SIZE), fresh.remote());
            EXPECT_TRUE(has_pattern(back.bytes(), 7));
        }
        EXPECT_EQ(0U, vram.info().buffers);
        EXPECT_EQ(all, vram.info().vram_free);
    }

    static void give_back(std::vector<Victim>& victims) {
        for (Victim& victim : victims)
            EXPECT_ERRNO(0, victim.mr.dereg());
        victims.clear();
    }

    HostMemory host{peer.pd, SIZE};
};

TEST_P(Unplug, UnderTraffic) {
    for (int round = 0; round < ROUNDS && !HasFailure(); ++round)
        go_and_come_back(false, round % 2 == 0);
}

TEST_P(Unplug, DuringMoves) {
    for (int round = 0; round < ROUNDS && !HasFailure(); ++round)
        go_and_come_back(true, round % 2 == 1);
}

INSTANTIATE_TEST_SUITE_P(Ways, Unplug, testing::ValuesIn(WAYS),
                         [](const auto& test) { return std::string(test.param.name); });

} // namespace
} // namespace pfn
