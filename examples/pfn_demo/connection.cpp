// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
#include "pfn_demo/connection.hpp"

#include "common/error.hpp"

#include <arpa/inet.h>
#include <poll.h>

#include <chrono>
#include <cstring>

namespace pfn::demo {
namespace {

constexpr std::uint8_t DEPTH = 16; // reads and atomics in flight
constexpr std::chrono::milliseconds RESOLVE_TIMEOUT{5000};

struct EventAck {
    void operator()(rdma_cm_event* event) const noexcept { rdma_ack_cm_event(event); }
};
using CmEvent = std::unique_ptr<rdma_cm_event, EventAck>;

sockaddr_in ipv4(const std::string& address, std::uint16_t port) {
    sockaddr_in in{};
    in.sin_family = AF_INET;
    in.sin_port = htons(port);
    if (::inet_pton(AF_INET, address.c_str(), &in.sin_addr) != 1)
        throw_errno(EINVAL, "IPv4 address " + address);
    return in;
}

CmChannel make_channel() {
    CmChannel channel(rdma_create_event_channel());
    if (!channel)
        throw_errno("rdma_create_event_channel (no RDMA device, or rdma_ucm not loaded)");
    return channel;
}

CmId make_id(const CmChannel& channel) {
    rdma_cm_id* id = nullptr;
    if (rdma_create_id(channel.get(), &id, nullptr, RDMA_PS_TCP) != 0)
        throw_errno("rdma_create_id");
    return CmId(id);
}

/// The next event, which must be @p expected.
CmEvent wait_for(const CmChannel& channel, rdma_cm_event_type expected) {
    pollfd p{.fd = channel->fd, .events = POLLIN, .revents = 0};
    const int n = ::poll(&p, 1, static_cast<int>(std::chrono::milliseconds(PATIENCE).count()));
    if (n < 0)
        throw_errno("poll for a connection");
    if (n == 0)
        throw Timeout(std::string("waited too long for ") + rdma_event_str(expected));
    rdma_cm_event* raw = nullptr;
    if (rdma_get_cm_event(channel.get(), &raw) != 0)
        throw_errno("rdma_get_cm_event");
    CmEvent event(raw);
    if (event->event != expected)
        throw_errno(event->status < 0 ? -event->status : EPROTO,
                    std::string(rdma_event_str(event->event)) + " instead of " +
                        rdma_event_str(expected));
    return event;
}

void make_qp(rdma_cm_id* id, const Pd& pd, const Cq& cq) {
    ibv_qp_init_attr attr{};
    attr.send_cq = cq.get();
    attr.recv_cq = cq.get();
    attr.qp_type = IBV_QPT_RC;
    attr.cap = {.max_send_wr = Qp::DEPTH,
                .max_recv_wr = Qp::DEPTH,
                .max_send_sge = 1,
                .max_recv_sge = 1,
                .max_inline_data = 0};
    if (rdma_create_qp(id, pd.get(), &attr) != 0)
        throw_errno("rdma_create_qp");
}

rdma_conn_param connection_parameters() {
    rdma_conn_param param{};
    param.responder_resources = DEPTH;
    param.initiator_depth = DEPTH;
    param.retry_count = 6; // rxe takes 7 for "for ever"
    param.rnr_retry_count = 7;
    return param;
}

} // namespace

void CmIdDelete::operator()(rdma_cm_id* id) const noexcept {
    if (id->qp != nullptr)
        rdma_destroy_qp(id);
    rdma_destroy_id(id);
}

Listener::Listener(const std::string& address, std::uint16_t port)
    : channel_(make_channel()), id_(make_id(channel_)) {
    sockaddr_in in = ipv4(address, port);
    if (rdma_bind_addr(id_.get(), reinterpret_cast<sockaddr*>(&in)) != 0)
        throw_errno("bind to " + address);
    if (context() == nullptr)
        throw_errno(ENODEV, "no RDMA device has the address " + address);
}

void Listener::listen() {
    if (rdma_listen(id_.get(), 1) != 0)
        throw_errno("rdma_listen");
}

void Listener::accept_bytes(const Pd& pd, const Cq& cq, const void* keys, std::size_t size) {
    {
        const CmEvent request = wait_for(channel_, RDMA_CM_EVENT_CONNECT_REQUEST);
        connection_.reset(request->id);
        make_qp(connection_.get(), pd, cq);
        rdma_conn_param param = connection_parameters();
        param.private_data = keys;
        param.private_data_len = static_cast<std::uint8_t>(size);
        if (rdma_accept(connection_.get(), &param) != 0)
            throw_errno("rdma_accept");
    }
    wait_for(channel_, RDMA_CM_EVENT_ESTABLISHED);
}

Caller::Caller(const std::string& from, const std::string& to, std::uint16_t port)
    : channel_(make_channel()), id_(make_id(channel_)) {
    sockaddr_in source = ipv4(from, 0);
    sockaddr_in target = ipv4(to, port);
    const auto timeout = static_cast<int>(RESOLVE_TIMEOUT.count());
    if (rdma_resolve_addr(id_.get(), reinterpret_cast<sockaddr*>(&source),
                          reinterpret_cast<sockaddr*>(&target), timeout) != 0)
        throw_errno("resolve the address " + to);
    wait_for(channel_, RDMA_CM_EVENT_ADDR_RESOLVED);
    if (rdma_resolve_route(id_.get(), timeout) != 0)
        throw_errno("resolve the route to " + to);
    wait_for(channel_, RDMA_CM_EVENT_ROUTE_RESOLVED);
}

void Caller::connect_bytes(const Pd& pd, const Cq& cq, void* keys, std::size_t size) {
    make_qp(id_.get(), pd, cq);
    rdma_conn_param param = connection_parameters();
    if (rdma_connect(id_.get(), &param) != 0)
        throw_errno("rdma_connect");
    const CmEvent established = wait_for(channel_, RDMA_CM_EVENT_ESTABLISHED);
    if (established->param.conn.private_data_len < size)
        throw_errno(EPROTO, "the other side handed out no keys");
    std::memcpy(keys, established->param.conn.private_data, size);
}

} // namespace pfn::demo
