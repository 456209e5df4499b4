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

constexpr std::uint8_t READS_IN_FLIGHT = 16;

/// What a peer may ask of a queue pair; MRs say what they allow.
constexpr unsigned QP_ACCESS = FULL_ACCESS | IBV_ACCESS_FLUSH_GLOBAL | IBV_ACCESS_FLUSH_PERSISTENT;

constexpr std::uint64_t SENDS = IBV_QP_EX_WITH_SEND | IBV_QP_EX_WITH_SEND_WITH_IMM;
constexpr std::uint64_t WRITES = IBV_QP_EX_WITH_RDMA_WRITE | IBV_QP_EX_WITH_RDMA_WRITE_WITH_IMM;

/// The operations of the ibv_wr_*() interface that librxe has for a queue pair.
std::uint64_t send_ops(ibv_qp_type type) {
    switch (type) {
    case IBV_QPT_UD:
        return SENDS;
    case IBV_QPT_UC:
        return SENDS | WRITES;
    default:
        return SENDS | WRITES | IBV_QP_EX_WITH_SEND_WITH_INV | IBV_QP_EX_WITH_RDMA_READ |
               IBV_QP_EX_WITH_ATOMIC_CMP_AND_SWP | IBV_QP_EX_WITH_ATOMIC_FETCH_AND_ADD |
               IBV_QP_EX_WITH_ATOMIC_WRITE | IBV_QP_EX_WITH_FLUSH | IBV_QP_EX_WITH_BIND_MW |
               IBV_QP_EX_WITH_LOCAL_INV;
    }
}

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

Context Context::import(int cmd_fd) {
    const int own = ::fcntl(cmd_fd, F_DUPFD_CLOEXEC, 0);
    if (own < 0)
        throw_errno("duplicate a command descriptor");
    // From here on libibverbs looks after it.
    Context context(ibv_import_device(own));
    if (!context.context_)
        throw_errno("ibv_import_device");
    return context;
}

Pd::Pd(ibv_context* context) : pd_(ibv_alloc_pd(context)) {
    if (!pd_)
        throw_errno("ibv_alloc_pd");
}

Pd Pd::import(const Context& context, std::uint32_t handle) {
    Pd pd({ibv_import_pd(context.get(), handle), Delete{.imported = true}});
    if (!pd.pd_)
        throw_errno("ibv_import_pd");
    return pd;
}

void Pd::dealloc() {
    if (const int err = ibv_dealloc_pd(get()))
        throw_errno(err, "ibv_dealloc_pd");
    static_cast<void>(pd_.release()); // NOLINT(bugprone-unused-return-value): it is gone
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
    return *wait_or(-1, timeout); // poll(2) ignores such a descriptor
}

std::optional<ibv_wc> Cq::wait_or(int fd, std::chrono::milliseconds timeout) const {
    const auto deadline = std::chrono::steady_clock::now() + timeout;
    for (;;) {
        if (auto wc = poll())
            return wc;
        // Ask for an event, then look again: what came in between made none.
        if (const int err = ibv_req_notify_cq(get(), 0))
            throw_errno(err, "ibv_req_notify_cq");
        if (auto wc = poll())
            return wc;
        const auto left = std::chrono::ceil<std::chrono::milliseconds>(
            deadline - std::chrono::steady_clock::now());
        std::array<pollfd, 2> p{{{.fd = channel_->fd, .events = POLLIN, .revents = 0},
                                 {.fd = fd, .events = POLLIN, .revents = 0}}};
        const int n =
            ::poll(p.data(), p.size(), static_cast<int>(std::max<std::int64_t>(left.count(), 0)));
        if (n < 0 && errno != EINTR)
            throw_errno("poll on a completion channel");
        if (n == 0)
            throw Timeout("no completion after " + std::to_string(timeout.count()) + " ms");
        ibv_cq* cq = nullptr;
        void* cq_context = nullptr;
        while (ibv_get_cq_event(channel_.get(), &cq, &cq_context) == 0)
            ibv_ack_cq_events(cq, 1);
        if (n > 0 && p[1].revents != 0)
            return std::nullopt;
    }
}

SgList::SgList(std::initializer_list<ibv_sge> pieces) {
    for (const ibv_sge& piece : pieces)
        pieces_.at(count_++) = piece;
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

Mr Mr::import(const Pd& pd, std::uint32_t handle) {
    Mr mr(ibv_import_mr(pd.get(), handle), true);
    if (!mr.mr_)
        throw_errno("ibv_import_mr");
    return mr;
}

pfndv_mr_attr Mr::query() const {
    pfndv_mr_attr attr;
    if (const int error = pfndv_query_mr(get(), &attr, sizeof(attr)))
        throw_errno(error, pfndv_last_reason());
    return attr;
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

void advise(const Pd& pd, ibv_advise_mr_advice advice, std::uint32_t flags, SgList ranges) {
    if (const int err = ibv_advise_mr(pd.get(), advice, flags, ranges.data(),
                                      static_cast<std::uint32_t>(ranges.count())))
        throw_errno(err, "ibv_advise_mr");
}

Srq::Srq(const Pd& pd) {
    ibv_srq_init_attr attr{};
    attr.attr = {.max_wr = DEPTH, .max_sge = SgList::MAX, .srq_limit = 0};
    srq_.reset(ibv_create_srq(pd.get(), &attr));
    if (!srq_)
        throw_errno("ibv_create_srq");
}

Ah::Ah(const Pd& pd, ibv_ah_attr path) : ah_(ibv_create_ah(pd.get(), &path)) {
    if (!ah_)
        throw_errno("ibv_create_ah");
}

Qp::Qp(const Context& context, const Pd& pd, const Cq& cq, const QpSpec& spec)
    : spec_(spec), gid_index_(context.ipv4_gid_index()), psn_(std::random_device{}() & 0xffffffU) {
    if (ibv_query_gid(context.get(), PORT, gid_index_, &gid_) < 0)
        throw_errno("ibv_query_gid");
    ibv_qp_init_attr_ex attr{};
    attr.send_cq = cq.get();
    attr.recv_cq = cq.get();
    attr.srq = spec.srq;
    attr.cap = {.max_send_wr = DEPTH,
                .max_recv_wr = spec.srq ? 0 : DEPTH,
                .max_send_sge = SgList::MAX,
                .max_recv_sge = spec.srq ? 0 : static_cast<std::uint32_t>(SgList::MAX),
                .max_inline_data = spec.inline_bytes};
    attr.qp_type = spec.type;
    attr.comp_mask = IBV_QP_INIT_ATTR_PD | IBV_QP_INIT_ATTR_SEND_OPS_FLAGS;
    attr.pd = pd.get();
    attr.send_ops_flags = send_ops(spec.type);
    qp_.reset(ibv_create_qp_ex(context.get(), &attr));
    if (!qp_)
        throw_errno("ibv_create_qp_ex");
    static_cast<QpRef&>(*this) = QpRef(qp_.get());
}

QpAddress Qp::address() const {
    return {.qpn = qp_->qp_num, .psn = psn_, .gid = gid_};
}

ibv_ah_attr Qp::path_to(const QpAddress& remote) const {
    ibv_ah_attr path{};
    path.is_global = 1;
    path.port_num = PORT;
    path.grh.dgid = remote.gid;
    path.grh.sgid_index = gid_index_;
    path.grh.hop_limit = 64;
    return path;
}

namespace {

void modify(ibv_qp* qp, ibv_qp_attr attr, ibv_qp_state state, int mask) {
    attr.qp_state = state;
    if (const int err = ibv_modify_qp(qp, &attr, mask | IBV_QP_STATE))
        throw_errno(err, "QP to state " + std::to_string(state));
}

} // namespace

void Qp::connect(const QpAddress& remote) {
    const bool reliable = qp_->qp_type == IBV_QPT_RC;

    ibv_qp_attr attr{};
    attr.port_num = PORT;
    attr.qp_access_flags = QP_ACCESS;
    modify(get(), attr, IBV_QPS_INIT, IBV_QP_PKEY_INDEX | IBV_QP_PORT | IBV_QP_ACCESS_FLAGS);

    attr = {};
    attr.path_mtu = IBV_MTU_4096;
    attr.dest_qp_num = remote.qpn;
    attr.rq_psn = remote.psn;
    attr.max_dest_rd_atomic = READS_IN_FLIGHT;
    attr.min_rnr_timer = 1;
    attr.ah_attr = path_to(remote);
    modify(get(), attr, IBV_QPS_RTR,
           IBV_QP_AV | IBV_QP_PATH_MTU | IBV_QP_DEST_QPN | IBV_QP_RQ_PSN |
               (reliable ? IBV_QP_MAX_DEST_RD_ATOMIC | IBV_QP_MIN_RNR_TIMER : 0));

    attr = {};
    attr.sq_psn = psn_;
    attr.timeout = spec_.ack_timeout;
    attr.retry_cnt = spec_.retries;
    attr.rnr_retry = 7; // for ever
    attr.max_rd_atomic = READS_IN_FLIGHT;
    modify(get(), attr, IBV_QPS_RTS,
           IBV_QP_SQ_PSN | (reliable ? IBV_QP_TIMEOUT | IBV_QP_RETRY_CNT | IBV_QP_RNR_RETRY |
                                           IBV_QP_MAX_QP_RD_ATOMIC
                                     : 0));
}

void Qp::activate() {
    ibv_qp_attr attr{};
    attr.port_num = PORT;
    attr.qkey = QKEY;
    modify(get(), attr, IBV_QPS_INIT, IBV_QP_PKEY_INDEX | IBV_QP_PORT | IBV_QP_QKEY);
    modify(get(), {}, IBV_QPS_RTR, 0);
    attr = {};
    attr.sq_psn = psn_;
    modify(get(), attr, IBV_QPS_RTS, IBV_QP_SQ_PSN);
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

/// A work request with a local side, which must outlive it.
ibv_send_wr request(std::uint64_t id, ibv_wr_opcode opcode, SgList& local) {
    ibv_send_wr wr{};
    wr.wr_id = id;
    wr.opcode = opcode;
    wr.sg_list = local.data();
    wr.num_sge = local.count();
    return wr;
}

/// As above, with a remote side as well.
ibv_send_wr request(std::uint64_t id, ibv_wr_opcode opcode, SgList& local, Remote remote) {
    ibv_send_wr wr = request(id, opcode, local);
    wr.wr.rdma.remote_addr = remote.address;
    wr.wr.rdma.rkey = remote.rkey;
    return wr;
}

/// An atomic operation.
ibv_send_wr request(std::uint64_t id, ibv_wr_opcode opcode, SgList& local, Remote remote,
                    std::uint64_t compare_add, std::uint64_t swap) {
    ibv_send_wr wr = request(id, opcode, local);
    wr.wr.atomic.remote_addr = remote.address;
    wr.wr.atomic.rkey = remote.rkey;
    wr.wr.atomic.compare_add = compare_add;
    wr.wr.atomic.swap = swap;
    return wr;
}

ibv_recv_wr receive(std::uint64_t id, SgList& local) {
    ibv_recv_wr wr{};
    wr.wr_id = id;
    wr.sg_list = local.data();
    wr.num_sge = local.count();
    return wr;
}

} // namespace

void QpRef::post_write(std::uint64_t id, SgList local, Remote remote, unsigned flags) const {
    ibv_send_wr wr = request(id, IBV_WR_RDMA_WRITE, local, remote);
    wr.send_flags = flags;
    post(wr);
}

void QpRef::post_write_imm(std::uint64_t id, SgList local, Remote remote, std::uint32_t imm) const {
    ibv_send_wr wr = request(id, IBV_WR_RDMA_WRITE_WITH_IMM, local, remote);
    wr.imm_data = imm;
    post(wr);
}

void QpRef::post_read(std::uint64_t id, SgList local, Remote remote) const {
    ibv_send_wr wr = request(id, IBV_WR_RDMA_READ, local, remote);
    post(wr);
}

void QpRef::post_send(std::uint64_t id, SgList local, unsigned flags) const {
    ibv_send_wr wr = request(id, IBV_WR_SEND, local);
    wr.send_flags = flags;
    post(wr);
}

void QpRef::post_send_imm(std::uint64_t id, SgList local, std::uint32_t imm) const {
    ibv_send_wr wr = request(id, IBV_WR_SEND_WITH_IMM, local);
    wr.imm_data = imm;
    post(wr);
}

void QpRef::post_send_inv(std::uint64_t id, SgList local, std::uint32_t rkey) const {
    ibv_send_wr wr = request(id, IBV_WR_SEND_WITH_INV, local);
    wr.invalidate_rkey = rkey;
    post(wr);
}

void QpRef::post_recv(std::uint64_t id, SgList local) const {
    ibv_recv_wr wr = receive(id, local);
    ibv_recv_wr* bad = nullptr;
    if (const int err = ibv_post_recv(get(), &wr, &bad))
        throw_errno(err, "ibv_post_recv");
}

void Srq::post_recv(std::uint64_t id, SgList local) const {
    ibv_recv_wr wr = receive(id, local);
    ibv_recv_wr* bad = nullptr;
    if (const int err = ibv_post_srq_recv(get(), &wr, &bad))
        throw_errno(err, "ibv_post_srq_recv");
}

void QpRef::post_fetch_add(std::uint64_t id, SgList local, Remote remote, std::uint64_t add) const {
    ibv_send_wr wr = request(id, IBV_WR_ATOMIC_FETCH_AND_ADD, local, remote, add, 0);
    post(wr);
}

void QpRef::post_cmp_swap(std::uint64_t id, SgList local, Remote remote, std::uint64_t compare,
                          std::uint64_t swap) const {
    ibv_send_wr wr = request(id, IBV_WR_ATOMIC_CMP_AND_SWP, local, remote, compare, swap);
    post(wr);
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

void QpRef::post_local_inv(std::uint64_t id, std::uint32_t rkey) const {
    ibv_send_wr wr{};
    wr.wr_id = id;
    wr.opcode = IBV_WR_LOCAL_INV;
    wr.invalidate_rkey = rkey;
    post(wr);
}

void Qp::post_datagram(std::uint64_t id, SgList local, const Ah& where, std::uint32_t qpn,
                       std::uint32_t qkey) const {
    ibv_send_wr wr = request(id, IBV_WR_SEND, local);
    wr.wr.ud.ah = where.get();
    wr.wr.ud.remote_qpn = qpn;
    wr.wr.ud.remote_qkey = qkey;
    post(wr);
}

ibv_qp_ex* Qp::start_wr(std::uint64_t id) const {
    ibv_qp_ex* qp = ibv_qp_to_qp_ex(get());
    ibv_wr_start(qp);
    qp->wr_id = id;
    qp->wr_flags = IBV_SEND_SIGNALED;
    return qp;
}

void Qp::complete_wr(ibv_qp_ex* qp) {
    if (const int err = ibv_wr_complete(qp))
        throw_errno(err, "ibv_wr_complete");
}

void Qp::post_atomic_write(std::uint64_t id, Remote remote, std::uint64_t value) const {
    post_wr(id,
            [&](ibv_qp_ex* qp) { ibv_wr_atomic_write(qp, remote.rkey, remote.address, &value); });
}

void Qp::post_flush(std::uint64_t id, Remote remote, std::size_t length, std::uint8_t type,
                    std::uint8_t level) const {
    post_wr(id, [&](ibv_qp_ex* qp) {
        ibv_wr_flush(qp, remote.rkey, remote.address, length, type, level);
    });
}

} // namespace pfn
