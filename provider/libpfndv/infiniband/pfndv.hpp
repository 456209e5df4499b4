// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
//
// <infiniband/pfndv.h> for C++23: handles that cannot leak, be freed twice or outlive
// what they were made from. Header only; link with libpfndv and libibverbs.
//
// Errors are values, std::expected, not exceptions. Verbs are called in places that
// have none (callbacks of C libraries, code built with -fno-exceptions), most errors
// here are answers that a program acts on at once ("this exporter cannot pin"), and
// whoever wants an exception anyway writes .value().
//
// Every handle is move-only. A Pd keeps its Device open, an Mr its Pd, so it does not
// matter in which order they go. get() returns the libibverbs object for everything
// that is not wrapped here; borrow() and adopt() go the other way. As with libibverbs
// itself, two threads may use the same object, but not while one of them moves from
// it or frees it.
#ifndef INFINIBAND_PFNDV_HPP
#define INFINIBAND_PFNDV_HPP

#include <infiniband/pfndv.h>

#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <expected>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

namespace pfndv {

/// Why something has failed.
struct Error {
    int code = 0;       ///< an errno
    std::string reason; ///< the same for a person, and more of it
};

template<typename T>
using Result = std::expected<T, Error>;

namespace detail {

/// The failure of a function of libpfndv.
inline std::unexpected<Error> pfndv_failure(int code) {
    return std::unexpected(Error{.code = code, .reason = pfndv_last_reason()});
}

/// The failure of another function, @p what.
inline std::unexpected<Error> failure(int code, std::string_view what) {
    if (code == 0)
        code = EIO; // not all of libibverbs sets errno
    return std::unexpected(Error{
        .code = code, .reason = std::string(what) + ": " + std::generic_category().message(code)});
}

struct FreeDeviceList {
    void operator()(ibv_device** list) const noexcept { ::ibv_free_device_list(list); }
};

/// Deregisters, and holds on to the protection domain until then.
struct DeregMr {
    std::shared_ptr<ibv_pd> pd;
    void operator()(ibv_mr* mr) const noexcept { ::ibv_dereg_mr(mr); }
};

} // namespace detail

/// An open RDMA device.
class Device {
  public:
    /// Open the device @p name. ENODEV if there is none of that name.
    static Result<Device> open(std::string_view name) {
        int count = 0;
        const std::unique_ptr<ibv_device*, detail::FreeDeviceList> list(
            ::ibv_get_device_list(&count));
        if (!list)
            return detail::failure(errno, "listing RDMA devices");
        for (ibv_device* device : std::span(list.get(), static_cast<std::size_t>(count))) {
            if (::ibv_get_device_name(device) != name)
                continue;
            if (ibv_context* context = ::ibv_open_device(device))
                return adopt(context);
            return detail::failure(errno, "opening " + std::string(name));
        }
        return detail::failure(ENODEV, "opening " + std::string(name));
    }
    /// Take over @p context: it is closed when nobody needs it any more.
    static Device adopt(ibv_context* context) {
        return Device({context, [](ibv_context* c) { ::ibv_close_device(c); }});
    }
    /// Use @p context, which somebody else closes, later.
    static Device borrow(ibv_context* context) {
        return Device({context, [](ibv_context*) {}});
    }

    Device(Device&&) noexcept = default;
    Device& operator=(Device&&) noexcept = default;
    Device(const Device&) = delete;
    Device& operator=(const Device&) = delete;
    ~Device() = default;

    /// The libibverbs object, nullptr once moved from.
    [[nodiscard]] ibv_context* get() const noexcept { return context_.get(); }
    /// What it supports. EOPNOTSUPP if that is nothing.
    [[nodiscard]] Result<pfndv_device_attr> query() const {
        pfndv_device_attr attr;
        if (const int error = ::pfndv_query_device(get(), &attr, sizeof(attr)))
            return detail::pfndv_failure(error);
        return attr;
    }

  private:
    friend class Pd;
    explicit Device(std::shared_ptr<ibv_context> context) : context_(std::move(context)) {}
    std::shared_ptr<ibv_context> context_;
};

/// A protection domain.
class Pd {
  public:
    /// Make one on @p device, which it keeps open.
    static Result<Pd> alloc(const Device& device) {
        ibv_pd* pd = ::ibv_alloc_pd(device.get());
        if (!pd)
            return detail::failure(errno, "allocating a protection domain");
        return Pd({pd, [context = device.context_](ibv_pd* p) { ::ibv_dealloc_pd(p); }});
    }
    /// Take over @p pd; its device has to stay open.
    static Pd adopt(ibv_pd* pd) {
        return Pd({pd, [](ibv_pd* p) { ::ibv_dealloc_pd(p); }});
    }
    /// Use @p pd, which somebody else gives up, later.
    static Pd borrow(ibv_pd* pd) {
        return Pd({pd, [](ibv_pd*) {}});
    }

    Pd(Pd&&) noexcept = default;
    Pd& operator=(Pd&&) noexcept = default;
    Pd(const Pd&) = delete;
    Pd& operator=(const Pd&) = delete;
    ~Pd() = default;

    /// The libibverbs object, nullptr once moved from.
    [[nodiscard]] ibv_pd* get() const noexcept { return pd_.get(); }

  private:
    friend class Mr;
    explicit Pd(std::shared_ptr<ibv_pd> pd) : pd_(std::move(pd)) {}
    std::shared_ptr<ibv_pd> pd_;
};

/// A CPU mapping of a dma-buf.
class Mapping {
  public:
    Mapping(Mapping&& other) noexcept : bytes_(std::exchange(other.bytes_, {})) {}
    Mapping& operator=(Mapping&& other) noexcept {
        Mapping taken(std::move(other)); // and ends with what this one had
        std::swap(bytes_, taken.bytes_);
        return *this;
    }
    Mapping(const Mapping&) = delete;
    Mapping& operator=(const Mapping&) = delete;
    ~Mapping() {
        if (!bytes_.empty())
            ::munmap(bytes_.data(), bytes_.size());
    }

    /// The bytes, valid as long as this object. Once the memory has been revoked a
    /// look at them is a SIGBUS.
    [[nodiscard]] std::span<std::byte> bytes() const noexcept { return bytes_; }

  private:
    friend class DmaBuf;
    explicit Mapping(std::span<std::byte> bytes) : bytes_(bytes) {}
    std::span<std::byte> bytes_;
};

/// The descriptor of a dma-buf.
class DmaBuf {
  public:
    /// Take over @p fd: it is closed at the end.
    static DmaBuf adopt(int fd) { return DmaBuf(fd); }
    /// A descriptor of one's own for the dma-buf behind @p fd.
    static Result<DmaBuf> dup(int fd) {
        const int copy = ::dup(fd);
        if (copy < 0)
            return detail::failure(errno, "duplicating a descriptor");
        return DmaBuf(copy);
    }

    DmaBuf(DmaBuf&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
    DmaBuf& operator=(DmaBuf&& other) noexcept {
        DmaBuf taken(std::move(other)); // and ends with what this one had
        std::swap(fd_, taken.fd_);
        return *this;
    }
    DmaBuf(const DmaBuf&) = delete;
    DmaBuf& operator=(const DmaBuf&) = delete;
    ~DmaBuf() {
        if (fd_ >= 0)
            ::close(fd_);
    }

    /// The descriptor, still owned by this object; -1 once moved from.
    [[nodiscard]] int fd() const noexcept { return fd_; }
    /// Bytes.
    [[nodiscard]] Result<std::uint64_t> size() const {
        const off_t end = ::lseek(fd_, 0, SEEK_END);
        if (end < 0)
            return detail::failure(errno, "asking for the size of a dma-buf");
        return static_cast<std::uint64_t>(end);
    }
    /// Map all of it, shared. @p prot as for mmap(2).
    [[nodiscard]] Result<Mapping> map(int prot = PROT_READ | PROT_WRITE) const {
        const auto bytes = size();
        if (!bytes)
            return std::unexpected(bytes.error());
        void* start = ::mmap(nullptr, *bytes, prot, MAP_SHARED, fd_, 0);
        if (start == MAP_FAILED)
            return detail::failure(errno, "mapping a dma-buf");
        return Mapping({static_cast<std::byte*>(start), static_cast<std::size_t>(*bytes)});
    }

  private:
    explicit DmaBuf(int fd) : fd_(fd) {}
    int fd_;
};

/// What to register of a dma-buf, and how.
struct MrSpec {
    std::uint64_t offset = 0; ///< first byte in the dma-buf
    std::uint64_t length = 0; ///< bytes; 0: up to the end
    std::uint64_t iova = 0;   ///< address of the first byte in work requests
    unsigned access = IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_READ | IBV_ACCESS_REMOTE_WRITE |
                      IBV_ACCESS_REMOTE_ATOMIC;
    pfndv_mode mode = PFNDV_MODE_DEFAULT;
    int eventfd = -1; ///< signalled once when revoked; -1: nobody is told
};

/// A memory region on a dma-buf.
class Mr {
  public:
    /// Register. The dma-buf may be closed afterwards; @p pd is kept.
    static Result<Mr> reg(const Pd& pd, const DmaBuf& dmabuf, const MrSpec& spec = {}) {
        pfndv_dmabuf_mr_attr attr{};
        attr.offset = spec.offset;
        attr.length = spec.length;
        attr.iova = spec.iova;
        attr.fd = dmabuf.fd();
        attr.access = spec.access;
        attr.mode = spec.mode;
        if (spec.eventfd >= 0) {
            attr.comp_mask |= PFNDV_DMABUF_MR_EVENTFD;
            attr.eventfd = spec.eventfd;
        }
        if (attr.length == 0) {
            const auto size = dmabuf.size();
            // What is no dma-buf is for the kernel to say.
            if (size && *size > spec.offset)
                attr.length = *size - spec.offset;
        }
        ibv_mr* mr = ::pfndv_reg_dmabuf_mr(pd.get(), &attr, sizeof(attr));
        if (!mr)
            return detail::pfndv_failure(errno);
        return Mr(mr, pd.pd_, attr.iova);
    }
    /// Take over @p mr, whose first byte is at @p iova in work requests. Its
    /// protection domain is kept if it is @p pd, and has to stay otherwise.
    static Mr adopt(ibv_mr* mr, std::uint64_t iova, const Pd& pd) {
        return Mr(mr, mr->pd == pd.get() ? pd.pd_ : nullptr, iova);
    }

    Mr(Mr&&) noexcept = default;
    Mr& operator=(Mr&&) noexcept = default;
    Mr(const Mr&) = delete;
    Mr& operator=(const Mr&) = delete;
    ~Mr() = default;

    /// The libibverbs object, nullptr once moved from or deregistered.
    [[nodiscard]] ibv_mr* get() const noexcept { return mr_.get(); }
    [[nodiscard]] std::uint32_t lkey() const noexcept { return mr_->lkey; }
    [[nodiscard]] std::uint32_t rkey() const noexcept { return mr_->rkey; }
    /// Bytes.
    [[nodiscard]] std::uint64_t length() const noexcept { return mr_->length; }
    /// Address of byte @p offset in work requests, of this side and of peers.
    [[nodiscard]] std::uint64_t address(std::uint64_t offset = 0) const noexcept {
        return iova_ + offset;
    }
    /// A piece for a work request: @p size bytes from byte @p offset on.
    [[nodiscard]] ibv_sge sge(std::uint64_t offset, std::uint32_t size) const noexcept {
        return {.addr = address(offset), .length = size, .lkey = lkey()};
    }

    /// State and counters; which backend serves it and why, see pfndv_because_str().
    [[nodiscard]] Result<pfndv_mr_attr> query() const {
        pfndv_mr_attr attr;
        if (const int error = ::pfndv_query_mr(get(), &attr, sizeof(attr)))
            return detail::pfndv_failure(error);
        return attr;
    }
    /// Map it now and not at the next access; @p flags of pfndv_prefetch_flags.
    // NOLINTNEXTLINE(modernize-use-nodiscard): a prefetch may fail
    Result<void> prefetch(std::uint32_t flags = 0) const {
        if (const int error = ::pfndv_prefetch(get(), iova_, length(), flags))
            return detail::pfndv_failure(error);
        return {};
    }
    /// Deregister now, and learn if that fails: EINVAL while memory windows are bound
    /// to it, for example. The object is as before then.
    Result<void> dereg() {
        if (const int error = ::ibv_dereg_mr(mr_.get()))
            return detail::failure(error, "deregistering");
        (void)mr_.release();
        mr_.get_deleter() = {};
        return {};
    }

  private:
    Mr(ibv_mr* mr, std::shared_ptr<ibv_pd> pd, std::uint64_t iova)
        : mr_(mr, detail::DeregMr{std::move(pd)}), iova_(iova) {}
    std::unique_ptr<ibv_mr, detail::DeregMr> mr_;
    std::uint64_t iova_ = 0;
};

} // namespace pfndv

#endif // INFINIBAND_PFNDV_HPP
