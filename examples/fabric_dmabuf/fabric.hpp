// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
//
// As much of libfabric as two processes need that are connected by its provider "verbs":
// thin RAII, like common/verbs.hpp. What fails throws std::runtime_error in libfabric's
// words; an operation that fails is a return value.
#pragma once

#include <rdma/fabric.h>
#include <rdma/fi_atomic.h>
#include <rdma/fi_cm.h>
#include <rdma/fi_domain.h>
#include <rdma/fi_endpoint.h>
#include <rdma/fi_eq.h>
#include <rdma/fi_rma.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>

namespace pfn::fabric {

/// Closes any of libfabric's objects.
struct Close {
    template<typename T>
    void operator()(T* object) const noexcept {
        ::fi_close(&object->fid);
    }
};
template<typename T>
using Handle = std::unique_ptr<T, Close>;

struct FreeInfo {
    void operator()(fi_info* info) const noexcept { ::fi_freeinfo(info); }
};
using Info = std::unique_ptr<fi_info, FreeInfo>;

/// Registered memory.
class Memory {
  public:
    explicit Memory(Handle<fid_mr> mr) : mr_(std::move(mr)) {}
    /// For local operations.
    [[nodiscard]] void* desc() const { return ::fi_mr_desc(mr_.get()); }
    /// For those of the other side.
    [[nodiscard]] std::uint64_t key() const { return ::fi_mr_key(mr_.get()); }

  private:
    Handle<fid_mr> mr_;
};

/// Memory of the other side. Plain data that may travel between processes.
struct Target {
    std::uint64_t address = 0;
    std::uint64_t key = 0;
};

/// One end of a connection. Operations are posted; each comes to an end with a wait().
class Endpoint {
  public:
    /// Wait for a call at @p address and @p port. @p listening is called when one may come.
    static Endpoint accept(const std::string& address, const std::string& port,
                           const std::function<void()>& listening);
    /// Call who listens there. @p ready is called before, when all is prepared for it:
    /// libfabric takes its time to look for devices.
    static Endpoint call(const std::string& address, const std::string& port,
                         const std::function<void()>& ready);

    /// The RDMA device.
    [[nodiscard]] std::string device() const { return info_->domain_attr->name; }

    /// Register @p length bytes of a dma-buf from @p offset on, which have the address
    /// @p base + @p offset then. (FI_MR_DMABUF)
    [[nodiscard]] Memory register_dmabuf(int fd, std::uint64_t offset, std::size_t length,
                                         void* base) const;
    /// Register memory of this process, as any program does: fi_mr_reg().
    [[nodiscard]] Memory register_memory(std::span<std::byte> memory) const;

    void send(std::span<std::byte> from, const Memory& memory) const;
    void receive(std::span<std::byte> to, const Memory& memory) const;
    void write(std::span<std::byte> from, const Memory& memory, Target to) const;
    void read(std::span<std::byte> to, const Memory& memory, Target from) const;
    /// @p before, in @p memory, receives the value that was there. One at a time.
    void fetch_add(std::uint64_t& before, const Memory& memory, Target at, std::uint64_t add) const;
    void compare_swap(std::uint64_t& before, const Memory& memory, Target at, std::uint64_t compare,
                      std::uint64_t swap) const;
    /// Does the provider have @p op on 64-bit integers? @p flags: FI_FETCH_ATOMIC, ...
    [[nodiscard]] bool has_atomic(fi_op op, std::uint64_t flags) const;

    /// Wait for the end of an operation. Returns what went wrong with it, "" if nothing did.
    // NOLINTNEXTLINE(modernize-use-nodiscard): see complete()
    std::string wait() const;
    /// The same, where nothing may go wrong.
    void complete() const;

  private:
    Endpoint(Info info, Handle<fid_fabric> fabric, Handle<fid_eq> eq);
    void make_endpoint();
    void wait_until_connected() const;

    Info info_;
    Handle<fid_fabric> fabric_;
    Handle<fid_eq> eq_;
    Handle<fid_domain> domain_;
    Handle<fid_cq> cq_;
    Handle<fid_ep> ep_;
};

} // namespace pfn::fabric
