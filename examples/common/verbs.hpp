// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
//
// Thin RAII over libibverbs. Each class owns exactly one verbs object, is
// move-only and gives access to the C object for everything not wrapped here.
// An object must not outlive what it was made from. Every function that can
// fail throws std::system_error with the errno of the call.
#pragma once

#include "common/fd.hpp"

#include <infiniband/verbs.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>

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
    [[nodiscard]] ibv_context* get() const { return context_.get(); }
    /// Index in the GID table of a RoCE v2 address that is an IPv4 address.
    /// ENOENT if the port has none.
    [[nodiscard]] std::uint8_t ipv4_gid_index() const;

  private:
    std::unique_ptr<ibv_context, VerbsDelete<ibv_close_device>> context_;
};

/// A protection domain.
class Pd {
  public:
    explicit Pd(ibv_context* context);
    [[nodiscard]] ibv_pd* get() const { return pd_.get(); }
    [[nodiscard]] ibv_context* context() const { return pd_->context; }

  private:
    std::unique_ptr<ibv_pd, VerbsDelete<ibv_dealloc_pd>> pd_;
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

  private:
    std::unique_ptr<ibv_comp_channel, VerbsDelete<ibv_destroy_comp_channel>> channel_;
    std::unique_ptr<ibv_cq, VerbsDelete<ibv_destroy_cq>> cq_;
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

    [[nodiscard]] ibv_mr* get() const { return mr_.get(); }
    explicit operator bool() const { return mr_ != nullptr; }
    [[nodiscard]] std::uint32_t lkey() const { return mr_->lkey; }
    [[nodiscard]] std::uint32_t rkey() const { return mr_->rkey; }
    [[nodiscard]] std::uint32_t handle() const { return mr_->handle; }
    /// Deregister now, and say if that fails.
    void dereg();
    /// ibv_rereg_mr() with @p flags; throws its errno.
    void rereg(int flags, const Pd* pd, unsigned access) const;

  private:
    explicit Mr(ibv_mr* mr) : mr_(mr) {}
    std::unique_ptr<ibv_mr, VerbsDelete<ibv_dereg_mr>> mr_;
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

/// The operations on a reliable connected queue pair that somebody else owns.
/// Every post asks for a completion; @p id comes back as its wr_id.
class QpRef {
  public:
    explicit QpRef(ibv_qp* qp = nullptr) : raw_(qp) {}
    [[nodiscard]] ibv_qp* get() const { return raw_; }
    [[nodiscard]] ibv_qp_state state() const;

    void post_write(std::uint64_t id, ibv_sge local, Remote remote) const;
    void post_write_imm(std::uint64_t id, ibv_sge local, Remote remote, std::uint32_t imm) const;
    void post_read(std::uint64_t id, ibv_sge local, Remote remote) const;
    void post_send(std::uint64_t id, ibv_sge local) const;
    void post_recv(std::uint64_t id, ibv_sge local) const;
    /// @p local, 8 bytes, receives the value before.
    void post_fetch_add(std::uint64_t id, ibv_sge local, Remote remote, std::uint64_t add) const;
    void post_cmp_swap(std::uint64_t id, ibv_sge local, Remote remote, std::uint64_t compare,
                       std::uint64_t swap) const;
    /// Bind a type 2 window to part of an MR; its new key is @p rkey.
    void post_bind_mw(std::uint64_t id, ibv_mw* mw, std::uint32_t rkey,
                      const ibv_mw_bind_info& bind) const;
    /// Any other work request.
    void post(ibv_send_wr& wr) const;

  private:
    ibv_qp* raw_;
};

/// A reliable connected queue pair, connected by hand.
class Qp : public QpRef {
  public:
    static constexpr unsigned DEPTH = 64; ///< work requests each way

    Qp(const Context& context, const Pd& pd, const Cq& cq);
    [[nodiscard]] QpAddress address() const;
    /// From RESET to ready to send, talking to @p remote.
    void connect(const QpAddress& remote);
    /// Write 8 bytes of @p value so that nobody ever sees some of them only.
    void post_atomic_write(std::uint64_t id, Remote remote, std::uint64_t value) const;

  private:
    std::unique_ptr<ibv_qp, VerbsDelete<ibv_destroy_qp>> qp_;
    std::uint8_t gid_index_ = 0;
    ibv_gid gid_{};
    std::uint32_t psn_ = 0;
};

} // namespace pfn
