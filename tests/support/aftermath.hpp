// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
//
// What must be true after somebody died: everything of theirs is gone.
#pragma once

#include "support/rdma_test.hpp"
#include "support/rdma_tool.hpp"

#include <chrono>
#include <cstddef>
#include <ostream>
#include <stdexcept>
#include <string>
#include <thread>

namespace pfn {

/// What somebody holds of the system.
struct Holdings {
    std::uint64_t buffers = 0;
    std::uint64_t vram_used = 0;
    std::size_t mrs = 0;
    bool operator==(const Holdings&) const = default;

    static Holdings now(const VramDevice& vram) {
        const auto info = vram.info();
        return {.buffers = info.buffers,
                .vram_used = info.vram_size - info.vram_free,
                .mrs = mr_count()};
    }
};

inline void PrintTo(const Holdings& h, std::ostream* out) {
    *out << h.buffers << " buffers, " << h.vram_used << " bytes of device memory, " << h.mrs
         << " MRs";
}

/// Wait until the system holds @p expected, by default nothing; some of it is
/// given back in the background.
inline void expect_holdings(const VramDevice& vram, const Holdings& expected = {}) {
    const auto deadline = std::chrono::steady_clock::now() + PATIENCE;
    Holdings now;
    while ((now = Holdings::now(vram)) != expected && std::chrono::steady_clock::now() < deadline)
        std::this_thread::sleep_for(std::chrono::milliseconds(10));
    EXPECT_EQ(expected, now);
}

/// Everything works for somebody new: data to device memory and back.
inline void expect_fresh_traffic(const std::string& target = GPU_DEVICE,
                                 const std::string& initiator = PEER_DEVICE) {
    constexpr std::uint64_t SIZE = 64 * KIB;
    const VramDevice vram;
    Endpoint there(target);
    Endpoint here(initiator);
    connect(there.qp, here.qp);
    const DeviceMemory to(vram, there.pd, {.size = SIZE, .chunk = page_size()});
    const DeviceMemory from(vram, here.pd, {.size = SIZE});
    const HostMemory back(here.pd, SIZE);
    fill_pattern(from.bytes(), 11);
    here.qp.post_write(1, from.sge(0, SIZE), to.remote());
    ASSERT_EQ(IBV_WC_SUCCESS, here.cq.wait().status);
    vram.move(to.buffer.fd(), PFN_VRAM_PLACEMENT_SYSTEM);
    here.qp.post_read(2, back.sge(0, SIZE), to.remote());
    ASSERT_EQ(IBV_WC_SUCCESS, here.cq.wait().status);
    EXPECT_TRUE(has_pattern(back.bytes(), 11));
}

} // namespace pfn
