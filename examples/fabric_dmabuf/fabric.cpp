// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
#include "fabric_dmabuf/fabric.hpp"

#include "common/verbs.hpp"

#include <chrono>
#include <stdexcept>
#include <utility>

namespace pfn::fabric {
namespace {

constexpr std::uint32_t API = FI_VERSION(1, 20); // the first that has FI_MR_DMABUF

constexpr std::uint64_t ACCESS =
    FI_SEND | FI_RECV | FI_READ | FI_WRITE | FI_REMOTE_READ | FI_REMOTE_WRITE;

int patience_ms() {
    return static_cast<int>(std::chrono::milliseconds(PATIENCE).count());
}

/// Throws if @p result, of step @p what, is an error.
template<typename Int>
Int check(Int result, const char* what) {
    if (result < 0)
        throw std::runtime_error(std::string(what) + ": " +
                                 ::fi_strerror(static_cast<int>(-result)));
    return result;
}

/// An object that @p open, a call of libfabric's, makes.
template<typename T, typename Open>
Handle<T> make(const char* what, Open&& open) {
    T* object = nullptr;
    check(std::forward<Open>(open)(&object), what);
    return Handle<T>(object);
}

Info get_info(const std::string& address, const std::string& port, std::uint64_t flags) {
    const Info hints(::fi_allocinfo());
    if (!hints)
        throw std::bad_alloc();
    hints->ep_attr->type = FI_EP_MSG;
    hints->caps = FI_MSG | FI_RMA | FI_ATOMIC;
    hints->mode = FI_CONTEXT | FI_RX_CQ_DATA;
    hints->domain_attr->mr_mode = FI_MR_LOCAL | FI_MR_VIRT_ADDR | FI_MR_ALLOCATED | FI_MR_PROV_KEY;
    hints->fabric_attr->prov_name = ::strdup("verbs"); // FreeInfo frees it
    fi_info* info = nullptr;
    check(::fi_getinfo(API, address.c_str(), port.c_str(), flags, hints.get(), &info),
          ("libfabric's verbs on " + address).c_str());
    return Info(info);
}

Handle<fid_fabric> make_fabric(const Info& info) {
    return make<fid_fabric>(
        "fi_fabric", [&](fid_fabric** f) { return ::fi_fabric(info->fabric_attr, f, nullptr); });
}

Handle<fid_eq> make_eq(const Handle<fid_fabric>& fabric) {
    fi_eq_attr attr{};
    attr.wait_obj = FI_WAIT_UNSPEC;
    return make<fid_eq>(
        "fi_eq_open", [&](fid_eq** eq) { return ::fi_eq_open(fabric.get(), &attr, eq, nullptr); });
}

/// The next event, which has to be @p expected. Returns who calls, if it is FI_CONNREQ.
Info wait_for(const Handle<fid_eq>& eq, std::uint32_t expected) {
    fi_eq_cm_entry entry{};
    std::uint32_t event = 0;
    const ssize_t n = ::fi_eq_sread(eq.get(), &event, &entry, sizeof(entry), patience_ms(), 0);
    if (n == -FI_EAVAIL) {
        fi_eq_err_entry error{};
        check(::fi_eq_readerr(eq.get(), &error, 0), "fi_eq_readerr");
        check(-error.err, "connection");
    }
    check(n, "wait for a connection");
    // Other events leave anything there.
    Info caller(event == FI_CONNREQ ? entry.info : nullptr);
    if (event != expected)
        throw std::runtime_error("connection: event " + std::to_string(event) + " instead of " +
                                 std::to_string(expected));
    return caller;
}

/// How an atomic operation is given @p value. Before 2.2 the verbs provider takes the
/// pointer itself for the operand.
const void* operand(const std::uint64_t& value) {
    if (FI_VERSION_LT(::fi_version(), FI_VERSION(2, 2)))
        return reinterpret_cast<const void*>(value); // NOLINT(performance-no-int-to-ptr)
    return &value;
}

void* pointer(std::span<std::byte> memory) {
    return memory.data();
}

} // namespace

Endpoint::Endpoint(Info info, Handle<fid_fabric> fabric, Handle<fid_eq> eq)
    : info_(std::move(info)), fabric_(std::move(fabric)), eq_(std::move(eq)) {
    domain_ = make<fid_domain>("fi_domain", [&](fid_domain** domain) {
        return ::fi_domain(fabric_.get(), info_.get(), domain, nullptr);
    });
}

Endpoint Endpoint::accept(const std::string& address, const std::string& port,
                          const std::function<void()>& listening) {
    const Info mine = get_info(address, port, FI_SOURCE);
    Handle<fid_fabric> fabric = make_fabric(mine);
    Handle<fid_eq> eq = make_eq(fabric);
    const auto listener = make<fid_pep>("fi_passive_ep", [&](fid_pep** pep) {
        return ::fi_passive_ep(fabric.get(), mine.get(), pep, nullptr);
    });
    check(::fi_pep_bind(listener.get(), &eq->fid, 0), "fi_pep_bind");
    check(::fi_listen(listener.get()), "fi_listen");
    listening();

    Info caller = wait_for(eq, FI_CONNREQ);
    Endpoint end(std::move(caller), std::move(fabric), std::move(eq));
    end.make_endpoint();
    check(::fi_accept(end.ep_.get(), nullptr, 0), "fi_accept");
    end.wait_until_connected();
    return end;
}

Endpoint Endpoint::call(const std::string& address, const std::string& port,
                        const std::function<void()>& ready) {
    Info info = get_info(address, port, 0);
    Handle<fid_fabric> fabric = make_fabric(info);
    Handle<fid_eq> eq = make_eq(fabric);
    Endpoint end(std::move(info), std::move(fabric), std::move(eq));
    end.make_endpoint();
    ready();
    check(::fi_connect(end.ep_.get(), end.info_->dest_addr, nullptr, 0), "fi_connect");
    end.wait_until_connected();
    return end;
}

void Endpoint::make_endpoint() {
    fi_cq_attr attr{};
    attr.format = FI_CQ_FORMAT_CONTEXT;
    attr.wait_obj = FI_WAIT_UNSPEC;
    cq_ = make<fid_cq>(
        "fi_cq_open", [&](fid_cq** cq) { return ::fi_cq_open(domain_.get(), &attr, cq, nullptr); });
    ep_ = make<fid_ep>("fi_endpoint", [&](fid_ep** ep) {
        return ::fi_endpoint(domain_.get(), info_.get(), ep, nullptr);
    });
    check(::fi_ep_bind(ep_.get(), &eq_->fid, 0), "fi_ep_bind");
    check(::fi_ep_bind(ep_.get(), &cq_->fid, FI_TRANSMIT | FI_RECV), "fi_ep_bind");
    check(::fi_enable(ep_.get()), "fi_enable");
}

void Endpoint::wait_until_connected() const {
    (void)wait_for(eq_, FI_CONNECTED);
}

Memory Endpoint::register_dmabuf(int fd, std::uint64_t offset, std::size_t length,
                                 void* base) const {
    const fi_mr_dmabuf dmabuf{.fd = fd, .offset = offset, .len = length, .base_addr = base};
    fi_mr_attr attr{};
    attr.dmabuf = &dmabuf;
    attr.iov_count = 1;
    attr.access = ACCESS;
    return Memory(make<fid_mr>("register a dma-buf", [&](fid_mr** mr) {
        return ::fi_mr_regattr(domain_.get(), &attr, FI_MR_DMABUF, mr);
    }));
}

Memory Endpoint::register_memory(std::span<std::byte> memory) const {
    return Memory(make<fid_mr>("register memory", [&](fid_mr** mr) {
        return ::fi_mr_reg(domain_.get(), memory.data(), memory.size(), ACCESS, 0, 0, 0, mr,
                           nullptr);
    }));
}

void Endpoint::send(std::span<std::byte> from, const Memory& memory) const {
    check(::fi_send(ep_.get(), pointer(from), from.size(), memory.desc(), 0, nullptr), "fi_send");
}

void Endpoint::receive(std::span<std::byte> to, const Memory& memory) const {
    check(::fi_recv(ep_.get(), pointer(to), to.size(), memory.desc(), 0, nullptr), "fi_recv");
}

void Endpoint::write(std::span<std::byte> from, const Memory& memory, Target to) const {
    check(::fi_write(ep_.get(), pointer(from), from.size(), memory.desc(), 0, to.address, to.key,
                     nullptr),
          "fi_write");
}

void Endpoint::read(std::span<std::byte> to, const Memory& memory, Target from) const {
    check(::fi_read(ep_.get(), pointer(to), to.size(), memory.desc(), 0, from.address, from.key,
                    nullptr),
          "fi_read");
}

void Endpoint::fetch_add(std::uint64_t& before, const Memory& memory, Target at,
                         std::uint64_t add) const {
    check(::fi_fetch_atomic(ep_.get(), operand(add), 1, nullptr, &before, memory.desc(), 0,
                            at.address, at.key, FI_UINT64, FI_SUM, nullptr),
          "fi_fetch_atomic");
}

void Endpoint::compare_swap(std::uint64_t& before, const Memory& memory, Target at,
                            std::uint64_t compare, std::uint64_t swap) const {
    check(::fi_compare_atomic(ep_.get(), operand(swap), 1, nullptr, operand(compare), nullptr,
                              &before, memory.desc(), 0, at.address, at.key, FI_UINT64, FI_CSWAP,
                              nullptr),
          "fi_compare_atomic");
}

bool Endpoint::has_atomic(fi_op op, std::uint64_t flags) const {
    fi_atomic_attr attr{};
    return ::fi_query_atomic(domain_.get(), FI_UINT64, op, &attr, flags) == 0;
}

std::string Endpoint::wait() const {
    fi_cq_entry entry{};
    const ssize_t n = ::fi_cq_sread(cq_.get(), &entry, 1, nullptr, patience_ms());
    if (n != -FI_EAVAIL) {
        check(n, "wait for a completion");
        return {};
    }
    fi_cq_err_entry error{};
    check(::fi_cq_readerr(cq_.get(), &error, 0), "fi_cq_readerr");
    return std::string(::fi_strerror(error.err)) + " (" +
           ::fi_cq_strerror(cq_.get(), error.prov_errno, nullptr, nullptr, 0) + ")";
}

void Endpoint::complete() const {
    if (const std::string error = wait(); !error.empty())
        throw std::runtime_error(error);
}

} // namespace pfn::fabric
