// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
//
// The guest's two soft-RoCE devices, connected: the gpu has the memory that is
// measured, the peer uses it.
#pragma once

#include "common/endpoint.hpp"
#include "common/vram.hpp"

#include <cstddef>
#include <cstdint>

namespace pfn::perf {

/// Memory of this process that the peer writes from.
class Source {
  public:
    Source(const Pd& pd, std::size_t size)
        : memory_(Mapping::anonymous(size)), mr_(Mr::host(pd, memory_.bytes())) {}
    [[nodiscard]] ibv_sge sge(std::size_t length) const {
        return {.addr = memory_.address(),
                .length = static_cast<std::uint32_t>(length),
                .lkey = mr_.lkey()};
    }

  private:
    Mapping memory_;
    Mr mr_;
};

/// The two, connected.
struct Pair {
    Pair() { connect(gpu.qp, peer.qp); }

    Endpoint gpu{"rxe_gpu"};
    Endpoint peer{"rxe_peer"};
};

/// Have the peer write, and wait until it has.
inline void write(const Endpoint& peer, const ibv_sge& local, Remote remote) {
    peer.qp.post_write(0, local, remote);
    complete(peer.cq);
}

} // namespace pfn::perf
