// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
//
// Thin RAII over libibverbs. Each class owns exactly one verbs object, is
// move-only and gives access to the C object for everything not wrapped here.
// An object must not outlive what it was made from. Every function that can
// fail throws std::system_error with the errno of the call.
#pragma once

#include "common/fd.hpp"

#include <infiniband/pfndv.h>
#include <infiniband/verbs.h>

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>

namespace pfn {

/// How long a test or example waits for something that should take
/// milliseconds: enough for an emulated machine on a busy day.
inline constexpr std::chrono::seconds PATIENCE{30};

/// All that an MR of this project can allow.
inline constexpr unsigned FULL_ACCESS = IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_READ |
                                        IBV_ACCESS_REMOTE_WRITE | IBV_ACCESS_REMOTE_ATOMIC;

/// Deletes a verbs object with its C function. A destructor has nobody to tell
/// about a failure; the ones that tests care about are called explicitly.
template<auto destroy>
struct VerbsDelete {
    template<typename T>
    void operator()(T* object) const noexcept {
        destroy(object);
    }
};

/// An open RDMA device.
class Context {
  public:
    /// Open the RDMA device @p name. ENODEV if there is no such device.
    explicit Context(const std::string& name);
    /// The context that a process has opened with this command descriptor
    /// (ibv_context::cmd_fd), which is duplicated.
    static Context import(int cmd_fd);
    [[nodiscard]] ibv_context* get() const { return context_.get(); }
    /// Index in the GID table of a RoCE v2 address that is an IPv4 address.
    /// ENOENT if the port has none.
    [[nodiscard]] std::uint8_t ipv4_gid_index() const;

  private:
    explicit Context(ibv_context* context) : context_(context) {}
    std::unique_ptr<ibv_context, VerbsDelete<ibv_close_device>> context_;
};

/// Deletes a verbs object that may belong to somebody else, who has shared it:
/// then it is only forgotten.
template<auto destroy, auto forget>
struct SharedDelete {
    bool imported = false;
    template<typename T>
    void operator()(T* object) const noexcept {
        if (imported)
            forget(object);
        else
            destroy(object);
    }
};

/// A protection domain.
class Pd {
  public:
    explicit Pd(ibv_context* context);
    /// One that a process has made in the same, shared, context.
    static Pd import(const Context& context, std::uint32_t handle);
    [[nodiscard]] ibv_pd* get() const { return pd_.get(); }
    [[nodiscard]] ibv_context* context() const { return pd_->context; }
    [[nodiscard]] std::uint32_t handle() const { return pd_->handle; }
    /// Give it up now, and say if that fails.
    void dealloc();

  private:
    using Delete = SharedDelete<ibv_dealloc_pd, ibv_unimport_pd>;
    explicit Pd(std::unique_ptr<ibv_pd, Delete> pd) : pd_(std::move(pd)) {}
    std::unique_ptr<ibv_pd, Delete> pd_;
};

/// A completion queue that can be waited for without spinning.
class Cq {
  public:
    Cq(ibv_context* context, int entries);
    [[nodiscard]] ibv_cq* get() const { return cq_.get(); }
    /// A completion that is there already, or nothing.
    [[nodiscard]] std::optional<ibv_wc> poll() const;
    /// The next completion, whatever its status. Throws Timeout.
    // NOLINTNEXTLINE(modernize-use-nodiscard): some only wait
    ibv_wc wait(std::chrono::milliseconds timeout = PATIENCE) const;
    /// The same, or nothing if something can be read from the descriptor @p fd first.
    [[nodiscard]] std::optional<ibv_wc> wait_or(int fd,
                                                std::chrono::milliseconds timeout = PATIENCE) const;

  private:
    std::unique_ptr<ibv_comp_channel, VerbsDelete<ibv_destroy_comp_channel>> channel_;
    std::unique_ptr<ibv_cq, VerbsDelete<ibv_destroy_cq>> cq_;
};

/// The local side of a work request: nothing, a piece, or several pieces of
/// registered memory.
class SgList {
  public:
    static constexpr std::size_t MAX = 4; ///< pieces

    SgList() = default;
    /// One piece, or nothing if its length is 0.
    SgList(const ibv_sge& piece) // NOLINT(google-explicit-constructor): may be given instead
        : pieces_{piece}, count_(piece.length == 0 ? 0 : 1) {}
    /// These pieces, even those of length 0. Throws std::out_of_range.
    SgList(std::initializer_list<ibv_sge> pieces);

    [[nodiscard]] ibv_sge* data() { return pieces_.data(); }
    [[nodiscard]] int count() const { return static_cast<int>(count_); }

  private:
    std::array<ibv_sge, MAX> pieces_{};
    std::size_t count_ = 0;
};

/// A memory region.
class Mr {
  public:
    Mr() = default;
    /// Register @p memory of this process.
    static Mr host(const Pd& pd, std::span<std::byte> memory, unsigned access = FULL_ACCESS);
    /// Register @p length bytes of a dma-buf from @p offset on; verbs see them
    /// at address @p iova. The plain ibv_reg_dmabuf_mr() of any program.
    static Mr dmabuf(const Pd& pd, int fd, std::uint64_t offset, std::uint64_t length,
                     std::uint64_t iova, unsigned access = FULL_ACCESS);
    /// One that a process has registered in the same, shared, context.
    static Mr import(const Pd& pd, std::uint32_t handle);

    [[nodiscard]] ibv_mr* get() const { return mr_.get(); }
    explicit operator bool() const { return mr_ != nullptr; }
    [[nodiscard]] std::uint32_t lkey() const { return mr_->lkey; }
    [[nodiscard]] std::uint32_t rkey() const { return mr_->rkey; }
    [[nodiscard]] std::uint32_t handle() const { return mr_->handle; }
    /// State and counters. EOPNOTSUPP if it is not on a dma-buf.
    [[nodiscard]] pfndv_mr_attr query() const;
    /// Deregister now, and say if that fails.
    void dereg();
    /// ibv_rereg_mr() with @p flags; throws its errno.
    void rereg(int flags, const Pd* pd, unsigned access) const;

  private:
    using Delete = SharedDelete<ibv_dereg_mr, ibv_unimport_mr>;
    explicit Mr(ibv_mr* mr, bool imported = false) : mr_(mr, Delete{imported}) {}
    std::unique_ptr<ibv_mr, Delete> mr_;
};

/// A memory window.
class Mw {
  public:
    Mw(const Pd& pd, ibv_mw_type type);
    [[nodiscard]] ibv_mw* get() const { return mw_.get(); }

  private:
    struct Delete { // ibv_dealloc_mw() is inline: no template argument for a header
        void operator()(ibv_mw* mw) const noexcept { ibv_dealloc_mw(mw); }
    };
    std::unique_ptr<ibv_mw, Delete> mw_;
};

/// ibv_advise_mr(); throws its errno. @p flags: IBV_ADVISE_MR_FLAG_FLUSH waits
/// for the result, 0 does not.
void advise(const Pd& pd, ibv_advise_mr_advice advice, std::uint32_t flags, SgList ranges);

/// A receive queue that several queue pairs share.
class Srq {
  public:
    static constexpr unsigned DEPTH = 64; ///< work requests

    explicit Srq(const Pd& pd);
    [[nodiscard]] ibv_srq* get() const { return srq_.get(); }
    void post_recv(std::uint64_t id, SgList local) const;

  private:
    std::unique_ptr<ibv_srq, VerbsDelete<ibv_destroy_srq>> srq_;
};

/// Where datagrams go: an address handle.
class Ah {
  public:
    Ah(const Pd& pd, ibv_ah_attr path);
    [[nodiscard]] ibv_ah* get() const { return ah_.get(); }

  private:
    std::unique_ptr<ibv_ah, VerbsDelete<ibv_destroy_ah>> ah_;
};

/// What the other side has to know to connect to a queue pair. Plain data that
/// may travel between processes.
struct QpAddress {
    std::uint32_t qpn = 0;
    std::uint32_t psn = 0;
    ibv_gid gid{};
};

/// Memory of the other side: address and key.
struct Remote {
    std::uint64_t address = 0;
    std::uint32_t rkey = 0;
};

/// The operations on a connected queue pair that somebody else owns. Every post
/// asks for a completion; @p id comes back as its wr_id. @p flags: further ones
/// of ibv_send_flags.
class QpRef {
  public:
    explicit QpRef(ibv_qp* qp = nullptr) : raw_(qp) {}
    [[nodiscard]] ibv_qp* get() const { return raw_; }
    [[nodiscard]] ibv_qp_state state() const;

    void post_write(std::uint64_t id, SgList local, Remote remote, unsigned flags = 0) const;
    void post_write_imm(std::uint64_t id, SgList local, Remote remote, std::uint32_t imm) const;
    void post_read(std::uint64_t id, SgList local, Remote remote) const;
    void post_send(std::uint64_t id, SgList local, unsigned flags = 0) const;
    void post_send_imm(std::uint64_t id, SgList local, std::uint32_t imm) const;
    /// The receiver's window or MR @p rkey is invalid when the data has arrived.
    void post_send_inv(std::uint64_t id, SgList local, std::uint32_t rkey) const;
    void post_recv(std::uint64_t id, SgList local) const;
    /// @p local, 8 bytes, receives the value before.
    void post_fetch_add(std::uint64_t id, SgList local, Remote remote, std::uint64_t add) const;
    void post_cmp_swap(std::uint64_t id, SgList local, Remote remote, std::uint64_t compare,
                       std::uint64_t swap) const;
    /// Bind a type 2 window to part of an MR; its new key is @p rkey.
    void post_bind_mw(std::uint64_t id, ibv_mw* mw, std::uint32_t rkey,
                      const ibv_mw_bind_info& bind) const;
    /// The own window or MR @p rkey is invalid from here on.
    void post_local_inv(std::uint64_t id, std::uint32_t rkey) const;
    /// Any other work request.
    void post(ibv_send_wr& wr) const;

  private:
    ibv_qp* raw_;
};

/// What a queue pair is to be.
struct QpSpec {
    ibv_qp_type type = IBV_QPT_RC;
    ibv_srq* srq = nullptr; ///< receive from here, not from a queue of its own
    unsigned inline_bytes = 0;
    /// Unanswered packets are sent again after 4.096 us * 2^ack_timeout (1 s),
    /// retries times: long enough for a busy emulated machine, short enough for a
    /// test that kills the other side.
    std::uint8_t ack_timeout = 18;
    std::uint8_t retries = 6;
};

/// A queue pair, connected by hand.
class Qp : public QpRef {
  public:
    static constexpr unsigned DEPTH = 64; ///< work requests each way

    Qp(const Context& context, const Pd& pd, const Cq& cq, const QpSpec& spec = {});
    [[nodiscard]] QpAddress address() const;
    /// From RESET to ready to send, talking to @p remote.
    void connect(const QpAddress& remote);

    /// For datagrams: from RESET to ready to send, to anybody.
    void activate();
    /// The path of datagrams to @p remote.
    [[nodiscard]] ibv_ah_attr path_to(const QpAddress& remote) const;
    void post_datagram(std::uint64_t id, SgList local, const Ah& where, std::uint32_t qpn,
                       std::uint32_t qkey = QKEY) const;
    static constexpr std::uint32_t QKEY = 0x11112222; ///< of every queue pair for datagrams

    /// A work request of the ibv_wr_*() interface, which knows more of them:
    /// @p build calls one of these functions, and setters, on an ibv_qp_ex.
    template<typename Build>
    void post_wr(std::uint64_t id, Build&& build) const {
        ibv_qp_ex* qp = start_wr(id);
        std::forward<Build>(build)(qp);
        complete_wr(qp);
    }
    /// Write 8 bytes of @p value so that nobody ever sees some of them only.
    void post_atomic_write(std::uint64_t id, Remote remote, std::uint64_t value) const;
    /// What was written to @p length bytes at @p remote is visible to all, or
    /// persistent, as @p type of ibv_placement_type says; @p level of
    /// ibv_selectivity_level says if it is about them only, or all of the MR.
    void post_flush(std::uint64_t id, Remote remote, std::size_t length, std::uint8_t type,
                    std::uint8_t level = IBV_FLUSH_RANGE) const;

  private:
    ibv_qp_ex* start_wr(std::uint64_t id) const;
    static void complete_wr(ibv_qp_ex* qp);

    std::unique_ptr<ibv_qp, VerbsDelete<ibv_destroy_qp>> qp_;
    QpSpec spec_;
    std::uint8_t gid_index_ = 0;
    ibv_gid gid_{};
    std::uint32_t psn_ = 0;
};

} // namespace pfn
