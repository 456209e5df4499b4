// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
#include "support/rdma_test.hpp"

#include <algorithm>
#include <cstring>

namespace pfn {

std::uint64_t HostMemory::word(std::size_t offset) const {
    std::uint64_t value = 0;
    std::memcpy(&value, bytes().subspan(offset, sizeof(value)).data(), sizeof(value));
    return value;
}

void RdmaTest::SetUp() {
    connect(gpu.qp, peer.qp);
}

void RdmaTest::write(const ibv_sge& local, Remote remote) {
    peer.qp.post_write(1, local, remote);
    ASSERT_EQ(IBV_WC_SUCCESS, complete(peer)) << "WRITE of " << local.length << " bytes";
}

void RdmaTest::read(const ibv_sge& local, Remote remote) {
    peer.qp.post_read(2, local, remote);
    ASSERT_EQ(IBV_WC_SUCCESS, complete(peer)) << "READ of " << local.length << " bytes";
}

ibv_wc_status RdmaTest::complete(Endpoint& endpoint) {
    return endpoint.cq.wait().status;
}

void RdmaTest::reconnect(const QpSpec& spec) {
    for (Endpoint* endpoint : {&gpu, &peer}) {
        endpoint->qp = Qp(endpoint->context, endpoint->pd, endpoint->cq, spec);
        while (endpoint->cq.poll()) {
            // flushed
        }
    }
    connect(gpu.qp, peer.qp);
}

testing::AssertionResult has_pattern(std::span<const std::byte> data, std::uint64_t seed,
                                     std::uint64_t position) {
    const auto bad = find_mismatch(data, seed, position);
    if (!bad)
        return testing::AssertionSuccess();
    return testing::AssertionFailure() << "byte " << *bad << " of " << data.size() << " is "
                                       << static_cast<int>(data[*bad]) << ", which is wrong";
}

bool all_zero(std::span<const std::byte> data) {
    const std::span words(reinterpret_cast<const std::uint64_t*>(data.data()),
                          data.size() / sizeof(std::uint64_t));
    return std::ranges::all_of(words, [](std::uint64_t word) { return word == 0; });
}

} // namespace pfn
