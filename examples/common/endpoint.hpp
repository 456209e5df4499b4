// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
//
// One end of a connection, and what is done with two of them.
#pragma once

#include "common/verbs.hpp"

#include <stdexcept>
#include <string>

namespace pfn {

/// A device, a protection domain, and a queue pair that is to be connected. There is room
/// for the completions of a second queue pair.
struct Endpoint {
    explicit Endpoint(const std::string& device)
        : context(device), pd(context.get()), cq(context.get(), 4 * Qp::DEPTH),
          qp(context, pd, cq) {}

    Context context;
    Pd pd;
    Cq cq;
    Qp qp;
};

/// Connect two queue pairs of this process.
inline void connect(Qp& a, Qp& b) {
    a.connect(b.address());
    b.connect(a.address());
}

/// The next completion of @p cq. Throws std::runtime_error if it is not a success.
inline ibv_wc complete(const Cq& cq) {
    const ibv_wc wc = cq.wait();
    if (wc.status != IBV_WC_SUCCESS)
        throw std::runtime_error(std::string("RDMA: ") + ibv_wc_status_str(wc.status));
    return wc;
}

} // namespace pfn
