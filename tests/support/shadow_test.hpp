// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
//
// For tests of operations on device memory: a piece of it at the gpu, ordinary
// memory at the peer, and a shadow of each that says what it must contain. All
// of both is compared, so bytes next to the target count too.
#pragma once

#include "support/rdma_test.hpp"

#include <algorithm>
#include <cstring>
#include <vector>

namespace pfn {

class ShadowTest : public RdmaTest, public testing::WithParamInterface<BufferCase> {
  protected:
    static constexpr std::uint64_t SIZE = 64 * KIB;

    static BufferSpec spec(std::uint64_t size = SIZE) {
        return {.size = size,
                .chunk = GetParam().fragmented ? page_chunk() : 0,
                .placement = GetParam().placement};
    }

    /// A buffer of the exporter that the test is about.
    [[nodiscard]] DmaBuf buffer(std::uint64_t size = SIZE) const {
        if (GetParam().foreign())
            return foreign_buffer(GetParam().exporter, size);
        return vram.alloc(spec(size));
    }

    ShadowTest() {
        fill_pattern(device.bytes(), 1);
        fill_pattern(host.bytes(), 2);
        device_shadow.assign(device.bytes().begin(), device.bytes().end());
        host_shadow.assign(host.bytes().begin(), host.bytes().end());
    }

    /// Both memories are what their shadows say.
    [[nodiscard]] testing::AssertionResult as_expected() const {
        const auto check = [](const char* what, std::span<const std::byte> memory,
                              const std::vector<std::byte>& shadow) {
            if (std::memcmp(shadow.data(), memory.data(), shadow.size()) == 0) // much faster
                return testing::AssertionSuccess();
            const auto bad = std::ranges::mismatch(shadow, memory);
            return testing::AssertionFailure()
                   << what << " differs first at byte " << (bad.in1 - shadow.begin());
        };
        if (auto result = check("device memory", device.bytes(), device_shadow); !result)
            return result;
        return check("host memory", host.bytes(), host_shadow);
    }

    /// Data nobody has seen before in the host memory, and its shadow.
    void renew_host() {
        fill_pattern(host.bytes(), ++seed);
        host_shadow.assign(host.bytes().begin(), host.bytes().end());
    }

    void expect_host_to_device(std::size_t from, std::size_t to, std::size_t length) {
        std::copy_n(host_shadow.begin() + from, length, device_shadow.begin() + to);
    }
    void expect_device_to_host(std::size_t from, std::size_t to, std::size_t length) {
        std::copy_n(device_shadow.begin() + from, length, host_shadow.begin() + to);
    }

    [[nodiscard]] std::uint64_t device_word(std::size_t offset) const {
        std::uint64_t value = 0;
        std::memcpy(&value, device.bytes().subspan(offset).data(), sizeof(value));
        return value;
    }
    void set_device_word(std::size_t offset, std::uint64_t value) {
        std::memcpy(device.bytes().subspan(offset).data(), &value, sizeof(value));
        expect_device_word(offset, value);
    }
    void expect_device_word(std::size_t offset, std::uint64_t value) {
        std::memcpy(device_shadow.data() + offset, &value, sizeof(value));
    }
    void expect_host_word(std::size_t offset, std::uint64_t value) {
        std::memcpy(host_shadow.data() + offset, &value, sizeof(value));
    }

    /// A second MR on the device memory, with the same addresses.
    [[nodiscard]] Mr second_mr(unsigned access) const {
        return Mr::dmabuf(gpu.pd, device.buffer.fd(), 0, SIZE, 0, access);
    }

    /// The next completion of @p endpoint, which must be a success.
    ibv_wc succeed(Endpoint& endpoint) {
        const ibv_wc wc = endpoint.cq.wait();
        EXPECT_EQ(IBV_WC_SUCCESS, wc.status) << ibv_wc_status_str(wc.status);
        return wc;
    }

    DeviceMemory device{gpu.pd, buffer()};
    HostMemory host{peer.pd, SIZE};
    std::vector<std::byte> device_shadow;
    std::vector<std::byte> host_shadow;
    std::uint64_t seed = 10;
};

} // namespace pfn
