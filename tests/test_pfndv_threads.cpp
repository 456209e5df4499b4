// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
//
// libpfndv from many threads, and very often. Built three times: as it is installed,
// with ASan and UBSan, and with TSan.
#include "common/error.hpp"
#include "common/vram.hpp"

#include <gtest/gtest.h>
#include <infiniband/pfndv.hpp>
#include <malloc.h>

#include <array>
#include <atomic>
#include <barrier>
#include <string>
#include <thread>
#include <vector>

namespace pfn {
namespace {

constexpr std::uint64_t SIZE = 64 * 1024;
constexpr std::size_t THREADS = 6;
constexpr int ROUNDS = 40;

class Threads : public testing::Test {
  protected:
    pfndv_dmabuf_mr_attr attr(std::uint32_t mode = PFNDV_MODE_DYNAMIC) const {
        pfndv_dmabuf_mr_attr a{};
        a.fd = buffer.fd();
        a.length = SIZE;
        a.access = IBV_ACCESS_LOCAL_WRITE;
        a.mode = mode;
        return a;
    }
    /// Run @p body in all threads at once; each gets its number.
    template<typename Body>
    static void in_threads(Body body) {
        std::barrier start(static_cast<std::ptrdiff_t>(THREADS));
        std::vector<std::jthread> threads;
        threads.reserve(THREADS);
        for (std::size_t t = 0; t < THREADS; ++t) {
            threads.emplace_back([&, t] {
                start.arrive_and_wait();
                body(t);
            });
        }
    }

    VramDevice vram;
    DmaBuf buffer = vram.alloc({.size = SIZE});
    pfndv::Device device = pfndv::Device::open("rxe_gpu").value();
    pfndv::Pd pd = pfndv::Pd::alloc(device).value();
};

TEST_F(Threads, RegisterInOneDomain) {
    std::atomic<int> failures = 0;
    in_threads([&](std::size_t t) {
        for (int i = 0; i < ROUNDS; ++i) {
            const auto a = attr(1 + static_cast<std::uint32_t>(t) % 3);
            ibv_mr* mr = pfndv_reg_dmabuf_mr(pd.get(), &a, sizeof(a));
            pfndv_mr_attr info{};
            if (!mr || pfndv_query_mr(mr, &info, sizeof(info)) || info.mode != a.mode ||
                ibv_dereg_mr(mr))
                ++failures;
        }
    });
    EXPECT_EQ(0, failures);
    EXPECT_EQ(0U, vram.buf_info(buffer.fd()).attachments);
}

TEST_F(Threads, ReasonsAreNotMixedUp) {
    std::array<std::string, THREADS> heard;
    in_threads([&](std::size_t t) {
        for (int i = 0; i < ROUNDS; ++i) {
            auto a = attr();
            if (t % 2)
                a.length = 0;
            else
                a.mode = 17;
            EXPECT_EQ(nullptr, pfndv_reg_dmabuf_mr(pd.get(), &a, sizeof(a)));
            heard.at(t) = pfndv_last_reason();
            if (heard.at(t) != (t % 2 ? "the length is 0" : "there is no such mode"))
                return;
        }
        heard.at(t).clear();
    });
    for (const auto& wrong : heard)
        EXPECT_EQ("", wrong);
}

TEST_F(Threads, UseOneMrWhileItMoves) {
    const auto a = attr();
    ibv_mr* mr = pfndv_reg_dmabuf_mr(pd.get(), &a, sizeof(a));
    ASSERT_NE(nullptr, mr) << pfndv_last_reason();
    std::atomic<int> failures = 0;
    in_threads([&](std::size_t t) {
        std::uint64_t generation = 0;
        for (int i = 0; i < ROUNDS; ++i) {
            pfndv_mr_attr info{};
            if (t == 0)
                vram.move(buffer.fd(), i % 2 ? PFN_VRAM_PLACEMENT_VRAM : PFN_VRAM_PLACEMENT_SYSTEM);
            else if (pfndv_prefetch(mr, 0, SIZE, 0) || pfndv_query_mr(mr, &info, sizeof(info)))
                ++failures;
            if (t != 0 && info.generation < generation)
                ++failures; // it never goes back
            generation = info.generation;
        }
    });
    EXPECT_EQ(0, failures);
    EXPECT_EQ(0, ibv_dereg_mr(mr));
}

TEST_F(Threads, AThousandRoundsLeaveNothing) {
    const auto round = [&](int i) {
        auto a = attr();
        if (i % 4 == 3)
            a.length = 0;
        ibv_mr* mr = pfndv_reg_dmabuf_mr(pd.get(), &a, sizeof(a));
        EXPECT_EQ(i % 4 == 3, mr == nullptr);
        if (mr) {
            EXPECT_EQ(0, ibv_dereg_mr(mr));
        }
    };
    for (int i = 0; i < 10; ++i)
        round(i);
    const auto before = ::mallinfo2().uordblks;
    for (int i = 0; i < 1000; ++i)
        round(i);
    // A struct ibv_mr has 48 bytes: one lost in ten would show.
    EXPECT_LT(::mallinfo2().uordblks, before + 4096);
    EXPECT_EQ(0U, vram.buf_info(buffer.fd()).attachments);
}

} // namespace
} // namespace pfn
