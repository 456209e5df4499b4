// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
#include "common/ring.hpp"

#include <vector>

namespace pfn {
namespace {

struct Neighbours {
    RingAddress left;
    RingAddress right;
};

} // namespace

void RingMember::join(const Channel& parent, std::uint32_t rkey, unsigned writes) {
    parent.send(RingAddress{end_.qp.address(), to_right_.address(), rkey});
    const auto neighbours = parent.recv<Neighbours>();
    end_.qp.connect(neighbours.left.to_right);
    to_right_.connect(neighbours.right.from_left);
    right_rkey_ = neighbours.right.rkey;
    for (unsigned i = 0; i < writes; ++i)
        receive_again();
    parent.send(true);
    (void)parent.recv<bool>(); // all are ready
}

void RingMember::write_right(std::uint64_t id, const ibv_sge& local, std::uint64_t address,
                             std::uint32_t imm) const {
    to_right_.post_write_imm(id, local, {.address = address, .rkey = right_rkey_}, imm);
}

void RingMember::receive_again() const {
    end_.qp.post_recv(0, {}); // the immediate of a write takes a receive
}

void introduce(std::deque<Child>& ring) {
    std::vector<RingAddress> addresses;
    addresses.reserve(ring.size());
    for (Child& child : ring)
        addresses.push_back(child.channel().recv<RingAddress>());
    const std::size_t n = ring.size();
    for (std::size_t i = 0; i < n; ++i)
        ring[i].channel().send(Neighbours{addresses[(i + n - 1) % n], addresses[(i + 1) % n]});
    for (Child& child : ring)
        (void)child.channel().recv<bool>();
    for (Child& child : ring)
        child.channel().send(true);
}

} // namespace pfn
