// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
#include "support/raw_uverbs.hpp"

#include "common/error.hpp"

#include <rdma/ib_user_ioctl_cmds.h>
#include <rdma/ib_user_ioctl_verbs.h>
#include <rdma/rdma_user_ioctl.h>
#include <rdma/rdma_user_ioctl_cmds.h>
#include <sys/ioctl.h>

#include <array>
#include <cerrno>
#include <cstddef>
#include <cstring>
#include <system_error>
#include <utility>

namespace pfn {
namespace {

/// One call of one method: a header and its attributes, back to back, as the
/// kernel wants them. The kernel checks that the caller knows which driver it
/// talks to; rxe is the only one with pfn MRs.
class Command {
  public:
    Command(std::uint16_t object, std::uint16_t method) {
        header().object_id = object;
        header().method_id = method;
        header().driver_id = RDMA_DRIVER_RXE;
    }

    /// The handle of an existing object.
    void in_handle(std::uint16_t id, std::uint32_t handle) { add(id, 0).data = handle; }
    /// A value; up to 8 bytes travel inside the attribute.
    template<typename T>
    void in_value(std::uint16_t id, T value) {
        static_assert(sizeof(T) <= sizeof(std::uint64_t));
        std::memcpy(&add(id, sizeof(T)).data, &value, sizeof(T));
    }
    void in_fd(std::uint16_t id, int fd) { add(id, 0).data = static_cast<std::uint64_t>(fd); }
    /// Where the kernel puts a result.
    template<typename T>
    void out(std::uint16_t id, T& value) {
        add(id, sizeof(T)).data = reinterpret_cast<std::uint64_t>(&value);
    }
    /// The same for a result that a kernel may not know.
    template<typename T>
    void out_if_known(std::uint16_t id, T& value) {
        ib_uverbs_attr& attr = add(id, sizeof(T));
        attr.data = reinterpret_cast<std::uint64_t>(&value);
        attr.flags = 0;
    }
    /// The handle of an object that the call creates, see handle().
    void out_handle(std::uint16_t id) {
        created_ = used_;
        add(id, 0);
    }
    [[nodiscard]] std::uint32_t handle() const {
        return static_cast<std::uint32_t>(storage_.attrs[created_].data);
    }

    /// Returns the method's errno, or 0.
    [[nodiscard]] int try_execute(ibv_context* context) {
        header().num_attrs = used_;
        header().length = static_cast<std::uint16_t>(sizeof(ib_uverbs_ioctl_hdr) +
                                                     used_ * sizeof(ib_uverbs_attr));
        return ::ioctl(context->cmd_fd, RDMA_VERBS_IOCTL, &storage_) < 0 ? errno : 0;
    }
    /// Throws std::system_error with the method's errno.
    void execute(ibv_context* context, const char* what) {
        if (const int error = try_execute(context))
            throw std::system_error(error, std::generic_category(), what);
    }

  private:
    static constexpr std::size_t MAX_ATTRS = 12;

    // struct ib_uverbs_ioctl_hdr ends in a flexible array of attributes.
    struct Storage {
        std::array<std::byte, sizeof(ib_uverbs_ioctl_hdr)> header;
        std::array<ib_uverbs_attr, MAX_ATTRS> attrs;
    };
    static_assert(offsetof(Storage, attrs) == sizeof(ib_uverbs_ioctl_hdr));

    ib_uverbs_ioctl_hdr& header() { return *reinterpret_cast<ib_uverbs_ioctl_hdr*>(&storage_); }

    ib_uverbs_attr& add(std::uint16_t id, std::size_t length) {
        ib_uverbs_attr& attr = storage_.attrs.at(used_++);
        attr.attr_id = id;
        attr.len = static_cast<std::uint16_t>(length);
        attr.flags = UVERBS_ATTR_F_MANDATORY;
        return attr;
    }

    alignas(ib_uverbs_ioctl_hdr) Storage storage_{};
    std::uint16_t used_ = 0;
    std::uint16_t created_ = 0;
};

void destroy_mr(ibv_context* context, std::uint32_t handle) {
    Command cmd(UVERBS_OBJECT_MR, UVERBS_METHOD_MR_DESTROY);
    cmd.in_handle(UVERBS_ATTR_DESTROY_MR_HANDLE, handle);
    cmd.execute(context, "UVERBS_METHOD_MR_DESTROY");
}

} // namespace

pfn_mr_info query_mr(ibv_context* context, std::uint32_t handle) {
    pfn_mr_info info{};
    Command cmd(UVERBS_OBJECT_MR, PFN_MR_METHOD_QUERY);
    cmd.in_handle(PFN_MR_ATTR_QUERY_HANDLE, handle);
    cmd.out(PFN_MR_ATTR_QUERY_INFO, info);
    cmd.execute(context, "PFN_MR_METHOD_QUERY");
    return info;
}

std::uint32_t count_mrs(ibv_context* context) {
    std::array<std::uint32_t, 1024> handles{};
    std::uint32_t count = 0;
    Command cmd(UVERBS_OBJECT_DEVICE, UVERBS_METHOD_INFO_HANDLES);
    cmd.in_value(UVERBS_ATTR_INFO_OBJECT_ID, std::uint64_t{UVERBS_OBJECT_MR});
    cmd.out(UVERBS_ATTR_INFO_TOTAL_HANDLES, count);
    cmd.out(UVERBS_ATTR_INFO_HANDLES_LIST, handles);
    cmd.execute(context, "UVERBS_METHOD_INFO_HANDLES");
    return count;
}

ModeMr::ModeMr(const Pd& pd, std::uint32_t mode, int fd, std::uint64_t offset, std::uint64_t length,
               std::uint64_t iova, unsigned access, int eventfd)
    : context_(pd.context()) {
    std::array<char, PFN_MR_REASON_MAX> reason{};
    Command cmd(UVERBS_OBJECT_MR, UVERBS_METHOD_REG_DMABUF_MR);
    cmd.out_handle(UVERBS_ATTR_REG_DMABUF_MR_HANDLE);
    cmd.in_handle(UVERBS_ATTR_REG_DMABUF_MR_PD_HANDLE, pd.get()->handle);
    cmd.in_value(UVERBS_ATTR_REG_DMABUF_MR_OFFSET, offset);
    cmd.in_value(UVERBS_ATTR_REG_DMABUF_MR_LENGTH, length);
    cmd.in_value(UVERBS_ATTR_REG_DMABUF_MR_IOVA, iova);
    cmd.in_value(UVERBS_ATTR_REG_DMABUF_MR_FD, fd);
    cmd.in_value(UVERBS_ATTR_REG_DMABUF_MR_ACCESS_FLAGS, access);
    cmd.in_value(PFN_MR_ATTR_REG_DMABUF_MODE, std::uint64_t{mode});
    cmd.out(UVERBS_ATTR_REG_DMABUF_MR_RESP_LKEY, lkey_);
    cmd.out(UVERBS_ATTR_REG_DMABUF_MR_RESP_RKEY, rkey_);
    cmd.out_if_known(PFN_MR_ATTR_REG_DMABUF_REASON, reason);
    if (eventfd >= 0)
        cmd.in_fd(PFN_MR_ATTR_REG_DMABUF_EVENTFD, eventfd);
    if (const int error = cmd.try_execute(context_))
        throw RegistrationError(error, reason.data());
    handle_ = cmd.handle();
}

ModeMr ModeMr::by_address(const Pd& pd, std::uint32_t mode, std::uint64_t address,
                          std::uint64_t length, std::uint64_t iova, unsigned access, int eventfd) {
    ModeMr mr(pd.context());
    std::array<char, PFN_MR_REASON_MAX> reason{};
    Command cmd(UVERBS_OBJECT_MR, UVERBS_METHOD_REG_MR);
    cmd.out_handle(UVERBS_ATTR_REG_MR_HANDLE);
    cmd.in_handle(UVERBS_ATTR_REG_MR_PD_HANDLE, pd.get()->handle);
    cmd.in_value(UVERBS_ATTR_REG_MR_ADDR, address);
    cmd.in_value(UVERBS_ATTR_REG_MR_LENGTH, length);
    cmd.in_value(UVERBS_ATTR_REG_MR_IOVA, iova);
    cmd.in_value(UVERBS_ATTR_REG_MR_ACCESS_FLAGS, access);
    cmd.in_value(PFN_MR_ATTR_REG_DMABUF_MODE, std::uint64_t{mode});
    cmd.out(UVERBS_ATTR_REG_MR_RESP_LKEY, mr.lkey_);
    cmd.out(UVERBS_ATTR_REG_MR_RESP_RKEY, mr.rkey_);
    cmd.out_if_known(PFN_MR_ATTR_REG_DMABUF_REASON, reason);
    if (eventfd >= 0)
        cmd.in_fd(PFN_MR_ATTR_REG_DMABUF_EVENTFD, eventfd);
    if (const int error = cmd.try_execute(mr.context_))
        throw RegistrationError(error, reason.data());
    mr.handle_ = cmd.handle();
    return mr;
}

ModeMr::ModeMr(ModeMr&& other) noexcept
    : context_(other.context_), handle_(std::exchange(other.handle_, std::nullopt)),
      lkey_(other.lkey_), rkey_(other.rkey_) {}

ModeMr& ModeMr::operator=(ModeMr&& other) noexcept {
    // Swap: what this one had is deregistered when the other ends.
    std::swap(context_, other.context_);
    std::swap(handle_, other.handle_);
    std::swap(lkey_, other.lkey_);
    std::swap(rkey_, other.rkey_);
    return *this;
}

ModeMr::~ModeMr() {
    if (handle_)
        (void)errno_of([this] { dereg(); });
}

void ModeMr::dereg() {
    destroy_mr(context_, *handle_);
    handle_.reset();
}

} // namespace pfn
