// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
//
// The guest's two soft-RoCE devices, connected: the gpu has the memory that is
// measured, the peer uses it.
#pragma once

#include "common/verbs.hpp"
#include "common/vram.hpp"

#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <string>

namespace pfn::perf {

struct End {
    explicit End(const std::string& device)
        : context(device), pd(context.get()), cq(context.get(), 4 * Qp::DEPTH),
          qp(context, pd, cq) {}

    Context context;
    Pd pd;
    Cq cq;
    Qp qp;
};

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

/// Connect two queue pairs of this process.
inline void connect(Qp& a, Qp& b) {
    a.connect(b.address());
    b.connect(a.address());
}

struct Pair {
    Pair() { connect(gpu.qp, peer.qp); }

    End gpu{"rxe_gpu"};
    End peer{"rxe_peer"};
};

/// The next completion of @p cq, which must be a success.
inline void expect_success(const Cq& cq) {
    const ibv_wc wc = cq.wait();
    if (wc.status != IBV_WC_SUCCESS)
        throw std::runtime_error(std::string("a work request failed: ") +
                                 ibv_wc_status_str(wc.status));
}

/// Have the peer write, and wait until it has.
inline void write(const End& peer, const ibv_sge& local, Remote remote) {
    peer.qp.post_write(0, local, remote);
    expect_success(peer.cq);
}

} // namespace pfn::perf
