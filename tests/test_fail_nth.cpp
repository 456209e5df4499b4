// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
//
// Every allocation on the way of every operation fails once. Needs the fault
// injection of the debug kernel (./lab test --kernel debug fail_nth), whose
// kmemleak says at the end whether anything was lost.
#include "support/modules.hpp"
#include "support/rdma_test.hpp"

#include <poll.h>
#include <sys/eventfd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iostream>
#include <memory>
#include <string>
#include <vector>

namespace pfn {
namespace {

/// Sets a file of debugfs, and sets it back at the end.
class Setting {
  public:
    Setting(std::string path, const std::string& value) : path_(std::move(path)) {
        std::ifstream(path_) >> before_;
        write(value);
    }
    ~Setting() { write(before_); }
    Setting(const Setting&) = delete;
    Setting& operator=(const Setting&) = delete;

  private:
    void write(const std::string& value) const { std::ofstream(path_) << value; }
    std::string path_;
    std::string before_;
};

/// /proc/thread-self/fail-nth: lets the n-th allocation of this thread fail.
class FailNth {
  public:
    FailNth() : fd_(::open("/proc/thread-self/fail-nth", O_RDWR | O_CLOEXEC)) {
        if (!fd_)
            throw_errno("/proc/thread-self/fail-nth");
    }
    void arm(unsigned n) const { put(std::to_string(n)); }
    /// Disarm, and say whether it has come to pass.
    [[nodiscard]] bool fired() const {
        std::array<char, 16> text{};
        if (::pread(fd_.get(), text.data(), text.size() - 1, 0) < 0)
            throw_errno("reading fail-nth");
        put("0");
        return std::stoi(text.data()) == 0;
    }

  private:
    void put(const std::string& text) const {
        if (::pwrite(fd_.get(), text.data(), text.size(), 0) < 0)
            throw_errno("writing fail-nth");
    }
    Fd fd_;
};

bool has_fail_nth() {
    return std::filesystem::exists("/proc/thread-self/fail-nth");
}

/// Failing where nothing else fails: loud when it happens is of no use here.
struct Injection {
    Injection() {
        for (const std::string kind : {"failslab", "fail_page_alloc"}) {
            const std::string dir = "/sys/kernel/debug/" + kind + "/";
            add(dir + "verbose", "0");
            add(dir + "task-filter", "Y");
            add(dir + "ignore-gfp-wait", "N");
        }
        add("/sys/kernel/debug/fail_page_alloc/ignore-gfp-highmem", "N");
        add("/sys/kernel/debug/fail_page_alloc/min-order", "0");
    }
    void add(const std::string& path, const std::string& value) {
        settings.push_back(std::make_unique<Setting>(path, value));
    }
    std::vector<std::unique_ptr<Setting>> settings;
};

class FailNthSweep : public RdmaTest {
  protected:
    void SetUp() override {
        if (!has_fail_nth())
            GTEST_SKIP() << "this kernel has no fault injection; the debug kernel has";
        RdmaTest::SetUp();
        injection = std::make_unique<Injection>();
        // Whatever is made once, by the first of us to come along.
        (void)DeviceMemory(vram, gpu.pd, {.size = page_size()});
    }

    struct Sweep {
        unsigned fired = 0;  ///< allocations that were made to fail
        unsigned failed = 0; ///< times the operation failed because of that
    };

    /// Run @p operation with its first, second, ... allocation failing until none
    /// fails any more. Before each time @p prepare, after each @p check, which is
    /// told the errno. Only ENOMEM and @p others may come of it.
    Sweep sweep(const std::function<void()>& prepare, const std::function<void()>& operation,
                const std::function<void(int)>& check, const std::vector<int>& others = {}) {
        constexpr unsigned LIMIT = 3000;
        const FailNth nth;
        Sweep result;
        for (unsigned n = 1; n <= LIMIT; n++) {
            prepare();
            nth.arm(n);
            const int error = errno_of(operation);
            const bool fired = nth.fired();
            if (!fired) {
                EXPECT_EQ(Errno{0}, Errno{error}) << "although nothing was made to fail";
            } else if (error != 0 && error != ENOMEM) {
                EXPECT_NE(others.end(), std::ranges::find(others, error))
                    << "allocation " << n << " failed: " << strerrorname_np(error);
            }
            check(error);
            if (!fired || HasFailure())
                return result;
            result.fired++;
            result.failed += error != 0;
        }
        ADD_FAILURE() << "no end after " << LIMIT << " allocations";
        return result;
    }

    void report(const std::string& what, const Sweep& s, unsigned at_least = 1) {
        std::cout << what << ": " << s.fired << " allocations failed, " << s.failed
                  << " of them the operation\n";
        EXPECT_GE(s.fired, at_least) << what;
    }

    void expect_no_buffers() const {
        const pfn_vram_dev_info info = vram.info();
        EXPECT_EQ(0U, info.buffers);
        EXPECT_EQ(info.vram_size, info.vram_free);
    }

    static constexpr std::size_t SIZE = 64 * KIB;
    std::unique_ptr<Injection> injection;
};

class FailNthBuffer : public FailNthSweep, public testing::WithParamInterface<BufferCase> {
  protected:
    [[nodiscard]] std::uint64_t chunk() const { return GetParam().fragmented ? page_size() : 0; }
    [[nodiscard]] BufferSpec spec() const {
        return {.size = SIZE, .chunk = chunk(), .placement = GetParam().placement};
    }
    static std::uint32_t other(std::uint32_t placement) {
        return placement == PFN_VRAM_PLACEMENT_VRAM ? PFN_VRAM_PLACEMENT_SYSTEM
                                                    : PFN_VRAM_PLACEMENT_VRAM;
    }
};

INSTANTIATE_TEST_SUITE_P(Buffers, FailNthBuffer, testing::ValuesIn(BUFFER_CASES), case_name);

TEST_P(FailNthBuffer, Alloc) {
    DmaBuf buffer;
    report("alloc",
           sweep([&] { buffer = {}; }, [&] { buffer = vram.alloc(spec()); },
                 [&](int error) {
                     if (error)
                         expect_no_buffers();
                     else
                         EXPECT_EQ(1U, vram.info().buffers);
                 }),
           3);
}

TEST_P(FailNthBuffer, Register) {
    const Fd event(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
    std::unique_ptr<DmaBuf> buffer;
    std::unique_ptr<ModeMr> mr;
    report("register",
           sweep(
               [&] {
                   mr.reset();
                   // Anew, as the list of ranges is shared by those who register.
                   buffer.reset();
                   buffer = std::make_unique<DmaBuf>(vram.alloc(spec()));
               },
               [&] {
                   mr = std::make_unique<ModeMr>(gpu.pd, PFN_MR_MODE_DYNAMIC, buffer->fd(), 0, SIZE,
                                                 0, FULL_ACCESS, event.get());
               },
               [&](int error) {
                   EXPECT_EQ(error ? 0U : 1U, vram.buf_info(buffer->fd()).attachments);
                   if (!error) {
                       EXPECT_EQ(PFN_MR_STATE_PRESENT, mr->query().state);
                   }
                   pollfd revoked{.fd = event.get(), .events = POLLIN, .revents = 0};
                   EXPECT_EQ(0, ::poll(&revoked, 1, 0)) << "told of a revoke that was none";
               }),
           4);
}

TEST_P(FailNthBuffer, PlainRegister) {
    std::unique_ptr<DmaBuf> buffer;
    Mr mr;
    report("ibv_reg_dmabuf_mr",
           sweep(
               [&] {
                   mr = {};
                   buffer.reset();
                   buffer = std::make_unique<DmaBuf>(vram.alloc(spec()));
               },
               [&] { mr = Mr::dmabuf(gpu.pd, buffer->fd(), 0, SIZE, 0); },
               [&](int error) {
                   EXPECT_EQ(error ? 0U : 1U, vram.buf_info(buffer->fd()).attachments);
               }),
           4);
}

TEST_P(FailNthBuffer, FaultIn) {
    const DeviceMemory device(vram, gpu.pd, spec());
    const HostMemory local(peer.pd, SIZE);
    fill_pattern(device.bytes(), 7);
    report("fault", sweep([&] { vram.move(device.buffer.fd(), GetParam().placement, chunk()); },
                          [&] {
                              advise(gpu.pd, IBV_ADVISE_MR_ADVICE_PREFETCH,
                                     IBV_ADVISE_MR_FLAG_FLUSH, device.sge(0, SIZE));
                          },
                          [&](int error) {
                              EXPECT_EQ(error ? PFN_MR_STATE_ABSENT : PFN_MR_STATE_PRESENT,
                                        static_cast<pfn_mr_state>(query_mr(device.mr).state));
                              // It is none the worse for it.
                              read(local.sge(0, SIZE), device.remote());
                              EXPECT_TRUE(has_pattern(local.bytes(), 7));
                          }));
}

TEST_P(FailNthBuffer, Move) {
    const DeviceMemory device(vram, gpu.pd, spec());
    fill_pattern(device.bytes(), 8);
    const auto check = [&](int) {
        device.buffer.wait_idle(PATIENCE);
        EXPECT_TRUE(has_pattern(device.bytes(), 8));
        EXPECT_NE(PFN_MR_STATE_REVOKED, static_cast<pfn_mr_state>(query_mr(device.mr).state));
    };
    std::uint32_t placement = GetParam().placement;
    const auto next = [&] { placement = other(vram.buf_info(device.buffer.fd()).placement); };
    report("move",
           sweep(next, [&] { vram.move(device.buffer.fd(), placement, chunk()); }, check), 4);
    report("async move",
           sweep(
               next,
               [&] { vram.move(device.buffer.fd(), placement, chunk(), PFN_VRAM_MOVE_ASYNC); },
               check),
           4);
    const ModuleParameter poison("pfn_vram/poison_old", "1");
    report("move with quarantine",
           sweep(next, [&] { vram.move(device.buffer.fd(), placement, chunk()); }, check), 6);
}

TEST_P(FailNthBuffer, Restore) {
    const DmaBuf buffer = vram.alloc(spec());
    const Mapping cpu = buffer.map();
    report("restore",
           sweep(
               [&] {
                   if (!(vram.buf_info(buffer.fd()).flags & PFN_VRAM_BUF_REVOKED))
                       vram.revoke(buffer.fd());
               },
               [&] { vram.restore(buffer.fd(), GetParam().placement, chunk()); },
               [&](int error) {
                   EXPECT_EQ(error != 0,
                             (vram.buf_info(buffer.fd()).flags & PFN_VRAM_BUF_REVOKED) != 0);
                   if (!error) {
                       EXPECT_TRUE(all_zero(cpu.bytes()));
                   }
               }),
           2);
}

TEST_P(FailNthBuffer, RevokeAndDeregister) {
    std::unique_ptr<DeviceMemory> device;
    const auto make = [&] {
        device.reset();
        device = std::make_unique<DeviceMemory>(vram, gpu.pd, spec());
    };
    const auto free_all = [&](int error) {
        EXPECT_EQ(Errno{0}, Errno{error}) << "this must never fail";
        device.reset();
        expect_no_buffers();
    };
    report("revoke", sweep(make, [&] { vram.revoke(device->buffer.fd()); }, free_all), 0);
    report("dereg", sweep(make, [&] { device->mr.dereg(); }, free_all), 0);
    report("close", sweep(make, [&] { device.reset(); }, free_all), 0);
}

TEST_P(FailNthBuffer, QueryAndRereg) {
    const DeviceMemory device(vram, gpu.pd, spec());
    report("query", sweep([] {}, [&] { (void)query_mr(device.mr); }, [](int) {}), 0);
    report("buffer info",
           sweep([] {}, [&] { (void)vram.buf_info(device.buffer.fd()); }, [](int) {}), 0);
    const HostMemory local(peer.pd, SIZE);
    report("rereg",
           sweep([] {}, [&] { device.mr.rereg(IBV_REREG_MR_CHANGE_ACCESS, nullptr, FULL_ACCESS); },
                 [&](int) { read(local.sge(0, SIZE), device.remote()); }),
           0);
}

TEST_P(FailNthBuffer, MapAndTouch) {
    const DmaBuf buffer = vram.alloc(spec());
    Mapping cpu;
    report("mmap", sweep([&] { cpu = {}; }, [&] { cpu = buffer.map(); }, [](int) {}));

    // A page fault that fails for want of memory is tried again by the kernel, so
    // touch by way of a system call, which says EFAULT.
    const Fd zero(::open("/dev/zero", O_RDONLY | O_CLOEXEC));
    report("page fault", sweep([&] { cpu = buffer.map(); },
                               [&] {
                                   if (::read(zero.get(), cpu.bytes().data(), page_size()) < 0)
                                       throw_errno("read");
                               },
                               [&](int) { cpu.bytes()[0] = std::byte{1}; }, {EFAULT}));
}

} // namespace
} // namespace pfn
