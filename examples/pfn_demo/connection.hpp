// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
//
// Connecting two queue pairs the way real programs do: librdmacm.
#pragma once

#include "common/verbs.hpp"

#include <rdma/rdma_cma.h>

#include <cstdint>
#include <memory>
#include <string>

namespace pfn::demo {

struct CmIdDelete {
    void operator()(rdma_cm_id* id) const noexcept;
};
using CmId = std::unique_ptr<rdma_cm_id, CmIdDelete>;

struct CmChannelDelete {
    void operator()(rdma_event_channel* channel) const noexcept {
        rdma_destroy_event_channel(channel);
    }
};
using CmChannel = std::unique_ptr<rdma_event_channel, CmChannelDelete>;

/// The side that waits. Bound to an address from the start, and so to a device.
class Listener {
  public:
    Listener(const std::string& address, std::uint16_t port);
    /// The device that has the address; valid as long as this object.
    [[nodiscard]] ibv_context* context() const { return id_->verbs; }
    void listen();
    /// Wait for a peer and hand it @p keys, at most 196 bytes.
    template<typename Keys>
    void accept(const Pd& pd, const Cq& cq, const Keys& keys) {
        accept_bytes(pd, cq, &keys, sizeof(keys));
    }

  private:
    void accept_bytes(const Pd& pd, const Cq& cq, const void* keys, std::size_t size);
    CmChannel channel_;
    CmId id_;
    CmId connection_;
};

/// The side that calls.
class Caller {
  public:
    /// Find the device that leads from @p from to @p to.
    Caller(const std::string& from, const std::string& to, std::uint16_t port);
    [[nodiscard]] ibv_context* context() const { return id_->verbs; }
    /// Connect and return what the other side hands out.
    template<typename Keys>
    Keys connect(const Pd& pd, const Cq& cq) {
        Keys keys{};
        connect_bytes(pd, cq, &keys, sizeof(keys));
        return keys;
    }
    [[nodiscard]] QpRef qp() const { return QpRef(id_->qp); }

  private:
    void connect_bytes(const Pd& pd, const Cq& cq, void* keys, std::size_t size);
    CmChannel channel_;
    CmId id_;
};

} // namespace pfn::demo
