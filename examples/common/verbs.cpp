// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
#include "common/verbs.hpp"

#include "common/error.hpp"

#include <fcntl.h>
#include <poll.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <random>
#include <vector>

namespace pfn {
namespace {

constexpr std::uint8_t PORT = 1;

/// Unanswered packets are sent again after 4.096 us * 2^ACK_TIMEOUT (1 s),
/// RETRIES times: long enough for a busy emulated machine, short enough for a
/// test that kills the other side. (rxe takes 7 for "for ever".)
constexpr std::uint8_t ACK_TIMEOUT = 18;
constexpr std::uint8_t RETRIES = 6;

constexpr std::uint8_t READS_IN_FLIGHT = 16;

struct DeviceListDelete {
    void operator()(ibv_device** list) const noexcept { ibv_free_device_list(list); }
};

/// Is @p entry a RoCE v2 GID made of an IPv4 address (::ffff:a.b.c.d)?
bool is_ipv4_roce(const ibv_gid_entry& entry) {
    constexpr std::array<std::uint8_t, 12> prefix{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
    return entry.gid_type == IBV_GID_TYPE_ROCE_V2 &&
           std::equal(prefix.begin(), prefix.end(), std::begin(entry.gid.raw));
}

} // namespace

Context::Context(const std::string& name) {
    int count = 0;
    const std::unique_ptr<ibv_device*, DeviceListDelete> list(ibv_get_device_list(&count));
    if (!list)
        throw_errno("ibv_get_device_list");
    for (ibv_device* device : std::span(list.get(), static_cast<std::size_t>(count))) {
        if (name == ibv_get_device_name(device)) {
            context_.reset(ibv_open_device(device));
            if (!context_)
                throw_errno("open RDMA device " + name);
            return;
        }
    }
    throw_errno(ENODEV, "open RDMA device " + name);
}

std::uint8_t Context::ipv4_gid_index() const {
    std::array<ibv_gid_entry, 64> table{};
    const ssize_t count = ibv_query_gid_table(get(), table.data(), table.size(), 0);
    if (count < 0)
        throw_errno(static_cast<int>(-count), "ibv_query_gid_table");
    for (const ibv_gid_entry& entry : std::span(table).first(static_cast<std::size_t>(count))) {
        if (entry.port_num == PORT && is_ipv4_roce(entry))
            return static_cast<std::uint8_t>(entry.gid_index);
    }
    throw_errno(ENOENT,
                std::string("IPv4 RoCE v2 address of ") + ibv_get_device_name(get()->device));
}

Pd::Pd(ibv_context* context) : pd_(ibv_alloc_pd(context)) {
    if (!pd_)
        throw_errno("ibv_alloc_pd");
}

Cq::Cq(ibv_context* context, int entries) : channel_(ibv_create_comp_channel(context)) {
    if (!channel_)
        throw_errno("ibv_create_comp_channel");
    if (::fcntl(channel_->fd, F_SETFL, ::fcntl(channel_->fd, F_GETFL) | O_NONBLOCK) < 0)
        throw_errno("fcntl on a completion channel");
    cq_.reset(ibv_create_cq(context, entries, nullptr, channel_.get(), 0));
    if (!cq_)
        throw_errno("ibv_create_cq");
}

std::optional<ibv_wc> Cq::poll() const {
    ibv_wc wc{};
    const int n = ibv_poll_cq(get(), 1, &wc);
    if (n < 0)
        throw_errno(EIO, "ibv_poll_cq");
    if (n == 0)
        return std::nullopt;
    return wc;
}

ibv_wc Cq::wait(std::chrono::milliseconds timeout) const {
    const auto deadline = std::chrono::steady_clock::now() + timeout;
    for (;;) {
        if (auto wc = poll())
            return *wc;
        // Ask for an event, then look again: what came in between made none.
        if (const int err = ibv_req_notify_cq(get(), 0))
            throw_errno(err, "ibv_req_notify_cq");
        if (auto wc = poll())
            return *wc;
        const auto left = std::chrono::ceil<std::chrono::milliseconds>(
            deadline - std::chrono::steady_clock::now());
        pollfd p{.fd = channel_->fd, .events = POLLIN, .revents = 0};
        const int n = ::poll(&p, 1, static_cast<int>(std::max<std::int64_t>(left.count(), 0)));
        if (n < 0 && errno != EINTR)
            throw_errno("poll on a completion channel");
        if (n == 0)
            throw Timeout("no completion after " + std::to_string(timeout.count()) + " ms");
        ibv_cq* cq = nullptr;
        void* cq_context = nullptr;
        while (ibv_get_cq_event(channel_.get(), &cq, &cq_context) == 0)
            ibv_ack_cq_events(cq, 1);
    }
}

Mr Mr::host(const Pd& pd, std::span<std::byte> memory, unsigned access) {
    Mr mr(ibv_reg_mr(pd.get(), memory.data(), memory.size(), static_cast<int>(access)));
    if (!mr.mr_)
        throw_errno("ibv_reg_mr of " + std::to_string(memory.size()) + " bytes");
    return mr;
}

Mr Mr::dmabuf(const Pd& pd, int fd, std::uint64_t offset, std::uint64_t length, std::uint64_t iova,
              unsigned access) {
    Mr mr(ibv_reg_dmabuf_mr(pd.get(), offset, length, iova, fd, static_cast<int>(access)));
    if (!mr.mr_)
        throw_errno("ibv_reg_dmabuf_mr of " + std::to_string(length) + " bytes");
    return mr;
}

void Mr::dereg() {
    if (const int err = ibv_dereg_mr(get()))
        throw_errno(err, "ibv_dereg_mr");
    static_cast<void>(mr_.release()); // NOLINT(bugprone-unused-return-value): it is gone
}

void Mr::rereg(int flags, const Pd* pd, unsigned access) const {
    errno = 0;
    if (ibv_rereg_mr(get(), flags, pd ? pd->get() : nullptr, nullptr, 0, static_cast<int>(access)))
        throw_errno("ibv_rereg_mr");
}

Mw::Mw(const Pd& pd, ibv_mw_type type) : mw_(ibv_alloc_mw(pd.get(), type)) {
    if (!mw_)
        throw_errno("ibv_alloc_mw");
}

Qp::Qp(const Context& context, const Pd& pd, const Cq& cq)
    : gid_index_(context.ipv4_gid_index()), psn_(std::random_device{}() & 0xffffffU) {
    if (ibv_query_gid(context.get(), PORT, gid_index_, &gid_) < 0)
        throw_errno("ibv_query_gid");
    ibv_qp_init_attr_ex attr{};
    attr.send_cq = cq.get();
    attr.recv_cq = cq.get();
    attr.cap = {.max_send_wr = DEPTH,
                .max_recv_wr = DEPTH,
                .max_send_sge = 4,
                .max_recv_sge = 4,
                .max_inline_data = 0};
    attr.qp_type = IBV_QPT_RC;
    attr.comp_mask = IBV_QP_INIT_ATTR_PD | IBV_QP_INIT_ATTR_SEND_OPS_FLAGS;
    attr.pd = pd.get();
    attr.send_ops_flags = IBV_QP_EX_WITH_ATOMIC_WRITE | IBV_QP_EX_WITH_ATOMIC_FETCH_AND_ADD |
                          IBV_QP_EX_WITH_ATOMIC_CMP_AND_SWP;
    qp_.reset(ibv_create_qp_ex(context.get(), &attr));
    if (!qp_)
        throw_errno("ibv_create_qp_ex");
    static_cast<QpRef&>(*this) = QpRef(qp_.get());
}

QpAddress Qp::address() const {
    return {.qpn = qp_->qp_num, .psn = psn_, .gid = gid_};
}

void Qp::connect(const QpAddress& remote) {
    ibv_qp_attr attr{};
    attr.qp_state = IBV_QPS_INIT;
    attr.port_num = PORT;
    attr.qp_access_flags = FULL_ACCESS;
    if (const int err = ibv_modify_qp(
            get(), &attr, IBV_QP_STATE | IBV_QP_PKEY_INDEX | IBV_QP_PORT | IBV_QP_ACCESS_FLAGS))
        throw_errno(err, "QP to INIT");

    attr = {};
    attr.qp_state = IBV_QPS_RTR;
    attr.path_mtu = IBV_MTU_4096;
    attr.dest_qp_num = remote.qpn;
    attr.rq_psn = remote.psn;
    attr.max_dest_rd_atomic = READS_IN_FLIGHT;
    attr.min_rnr_timer = 1;
    attr.ah_attr.is_global = 1;
    attr.ah_attr.port_num = PORT;
    attr.ah_attr.grh.dgid = remote.gid;
    attr.ah_attr.grh.sgid_index = gid_index_;
    attr.ah_attr.grh.hop_limit = 64;
    if (const int err =
            ibv_modify_qp(get(), &attr,
                          IBV_QP_STATE | IBV_QP_AV | IBV_QP_PATH_MTU | IBV_QP_DEST_QPN |
                              IBV_QP_RQ_PSN | IBV_QP_MAX_DEST_RD_ATOMIC | IBV_QP_MIN_RNR_TIMER))
        throw_errno(err, "QP to RTR");

    attr = {};
    attr.qp_state = IBV_QPS_RTS;
    attr.sq_psn = psn_;
    attr.timeout = ACK_TIMEOUT;
    attr.retry_cnt = RETRIES;
    attr.rnr_retry = 7; // for ever
    attr.max_rd_atomic = READS_IN_FLIGHT;
    if (const int err =
            ibv_modify_qp(get(), &attr,
                          IBV_QP_STATE | IBV_QP_SQ_PSN | IBV_QP_TIMEOUT | IBV_QP_RETRY_CNT |
                              IBV_QP_RNR_RETRY | IBV_QP_MAX_QP_RD_ATOMIC))
        throw_errno(err, "QP to RTS");
}

ibv_qp_state QpRef::state() const {
    ibv_qp_attr attr{};
    ibv_qp_init_attr init{};
    if (const int err = ibv_query_qp(get(), &attr, IBV_QP_STATE, &init))
        throw_errno(err, "ibv_query_qp");
    return attr.qp_state;
}

void QpRef::post(ibv_send_wr& wr) const {
    wr.send_flags |= IBV_SEND_SIGNALED;
    ibv_send_wr* bad = nullptr;
    if (const int err = ibv_post_send(get(), &wr, &bad))
        throw_errno(err, "ibv_post_send");
}

namespace {

/// A work request for one local range; none if its length is 0.
ibv_send_wr request(std::uint64_t id, ibv_wr_opcode opcode, ibv_sge& local) {
    ibv_send_wr wr{};
    wr.wr_id = id;
    wr.opcode = opcode;
    wr.sg_list = &local;
    wr.num_sge = local.length == 0 ? 0 : 1;
    return wr;
}

} // namespace

void QpRef::post_write(std::uint64_t id, ibv_sge local, Remote remote) const {
    ibv_send_wr wr = request(id, IBV_WR_RDMA_WRITE, local);
    wr.wr.rdma.remote_addr = remote.address;
    wr.wr.rdma.rkey = remote.rkey;
    post(wr);
}

void QpRef::post_write_imm(std::uint64_t id, ibv_sge local, Remote remote,
                           std::uint32_t imm) const {
    ibv_send_wr wr = request(id, IBV_WR_RDMA_WRITE_WITH_IMM, local);
    wr.imm_data = imm;
    wr.wr.rdma.remote_addr = remote.address;
    wr.wr.rdma.rkey = remote.rkey;
    post(wr);
}

void QpRef::post_read(std::uint64_t id, ibv_sge local, Remote remote) const {
    ibv_send_wr wr = request(id, IBV_WR_RDMA_READ, local);
    wr.wr.rdma.remote_addr = remote.address;
    wr.wr.rdma.rkey = remote.rkey;
    post(wr);
}

void QpRef::post_send(std::uint64_t id, ibv_sge local) const {
    ibv_send_wr wr = request(id, IBV_WR_SEND, local);
    post(wr);
}

void QpRef::post_recv(std::uint64_t id, ibv_sge local) const {
    ibv_recv_wr wr{};
    wr.wr_id = id;
    wr.sg_list = &local;
    wr.num_sge = local.length == 0 ? 0 : 1;
    ibv_recv_wr* bad = nullptr;
    if (const int err = ibv_post_recv(get(), &wr, &bad))
        throw_errno(err, "ibv_post_recv");
}

void QpRef::post_fetch_add(std::uint64_t id, ibv_sge local, Remote remote,
                           std::uint64_t add) const {
    ibv_send_wr wr = request(id, IBV_WR_ATOMIC_FETCH_AND_ADD, local);
    wr.wr.atomic.remote_addr = remote.address;
    wr.wr.atomic.rkey = remote.rkey;
    wr.wr.atomic.compare_add = add;
    post(wr);
}

void QpRef::post_cmp_swap(std::uint64_t id, ibv_sge local, Remote remote, std::uint64_t compare,
                          std::uint64_t swap) const {
    ibv_send_wr wr = request(id, IBV_WR_ATOMIC_CMP_AND_SWP, local);
    wr.wr.atomic.remote_addr = remote.address;
    wr.wr.atomic.rkey = remote.rkey;
    wr.wr.atomic.compare_add = compare;
    wr.wr.atomic.swap = swap;
    post(wr);
}

void Qp::post_atomic_write(std::uint64_t id, Remote remote, std::uint64_t value) const {
    ibv_qp_ex* qp = ibv_qp_to_qp_ex(get());
    ibv_wr_start(qp);
    qp->wr_id = id;
    qp->wr_flags = IBV_SEND_SIGNALED;
    ibv_wr_atomic_write(qp, remote.rkey, remote.address, &value);
    if (const int err = ibv_wr_complete(qp))
        throw_errno(err, "ibv_wr_complete");
}

void QpRef::post_bind_mw(std::uint64_t id, ibv_mw* mw, std::uint32_t rkey,
                         const ibv_mw_bind_info& bind) const {
    ibv_send_wr wr{};
    wr.wr_id = id;
    wr.opcode = IBV_WR_BIND_MW;
    wr.bind_mw.mw = mw;
    wr.bind_mw.rkey = rkey;
    wr.bind_mw.bind_info = bind;
    post(wr);
}

} // namespace pfn
