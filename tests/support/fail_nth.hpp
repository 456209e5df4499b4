// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
//
// Every allocation on the way of an operation fails once. Needs the fault injection
// of the debug kernel, whose kmemleak says at the end whether anything was lost.
#pragma once

#include "support/modules.hpp"
#include "support/rdma_test.hpp"
#include "support/setting.hpp"

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

inline bool has_fail_nth() {
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

} // namespace pfn
