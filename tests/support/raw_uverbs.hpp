// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
//
// The uverbs ioctls themselves, for tests of what the kernel does with them:
// registering with a mode, asking an MR how it is. Programs use libpfndv.
#pragma once

#include "common/verbs.hpp"

#include <infiniband/verbs.h>
#include <rdma/pfn_mr_abi.h>

#include <cstdint>
#include <optional>
#include <string>
#include <system_error>

namespace pfn {

/// State and counters of the MR with this @p handle. EOPNOTSUPP if it is not a
/// pfn MR or the driver knows no such thing.
pfn_mr_info query_mr(ibv_context* context, std::uint32_t handle);

/// As above, of an MR that libibverbs has made.
inline pfn_mr_info query_mr(const Mr& mr) {
    return query_mr(mr.get()->context, mr.handle());
}

/// How many MRs there are in the context, in the kernel.
std::uint32_t count_mrs(ibv_context* context);

/// Why a registration has failed: an errno, and the kernel's own words for it.
class RegistrationError : public std::system_error {
  public:
    RegistrationError(int error, std::string reason)
        : std::system_error(error, std::generic_category(), "registering a dma-buf: " + reason),
          reason_(std::move(reason)) {}
    /// Empty if the kernel gave none.
    [[nodiscard]] const std::string& reason() const { return reason_; }

  private:
    std::string reason_;
};

/// A memory region on a dma-buf with a mode of the caller's choice. It is no
/// ibv_mr: libibverbs knows nothing of it.
class ModeMr {
  public:
    /// Arguments as in Mr::dmabuf(); @p eventfd is signalled when the memory is
    /// revoked, -1: nobody is told. Throws RegistrationError: EOPNOTSUPP if the
    /// exporter cannot promise what @p mode asks for; EINVAL if there is no such
    /// mode or @p eventfd is something else.
    ModeMr(const Pd& pd, std::uint32_t mode, int fd, std::uint64_t offset, std::uint64_t length,
           std::uint64_t iova, unsigned access = FULL_ACCESS, int eventfd = -1);
    /// The same of @p length bytes at @p address of this process, as ibv_reg_mr()
    /// does it, if that is in a mapping of a dma-buf.
    static ModeMr by_address(const Pd& pd, std::uint32_t mode, std::uint64_t address,
                             std::uint64_t length, std::uint64_t iova,
                             unsigned access = FULL_ACCESS, int eventfd = -1);
    ModeMr(ModeMr&& other) noexcept;
    ModeMr& operator=(ModeMr&& other) noexcept;
    ~ModeMr();

    [[nodiscard]] std::uint32_t lkey() const { return lkey_; }
    [[nodiscard]] std::uint32_t rkey() const { return rkey_; }
    [[nodiscard]] std::uint32_t handle() const { return *handle_; }
    [[nodiscard]] pfn_mr_info query() const { return query_mr(context_, *handle_); }
    /// Deregister now, and say if that fails.
    void dereg();

  private:
    explicit ModeMr(ibv_context* context) : context_(context) {}

    ibv_context* context_;
    std::optional<std::uint32_t> handle_;
    std::uint32_t lkey_ = 0;
    std::uint32_t rkey_ = 0;
};

} // namespace pfn
