// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
#include "kv_transfer/block_pool.hpp"

#include "common/dmabuf_mr.hpp"
#include "common/error.hpp"

#include <sys/eventfd.h>

namespace pfn {
namespace {

std::uint64_t faults_of(const pfndv::Mr& mr) {
    return value_of(mr.query(), "query").faults;
}

} // namespace

BlockPool::BlockPool(const VramDevice& device, const Pd& pd, unsigned slots,
                     std::uint64_t block_size)
    : device_(device), pd_(pd), block_size_(block_size) {
    for (unsigned i = 0; i < slots; ++i)
        slots_.push_back(make());
}

BlockPool::Slot BlockPool::make() const {
    Fd event(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
    if (!event)
        throw_errno("eventfd");
    DmaBuf buffer =
        device_.alloc({.size = block_size_, .caps = PFN_VRAM_CAP_MOVE | PFN_VRAM_CAP_REVOKE});
    Mapping gpu = buffer.map();
    pfndv::Mr mr = register_dmabuf(
        pd_, buffer.fd(),
        {.access = IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_WRITE, .eventfd = event.get()});
    return {std::move(buffer), std::move(gpu), std::move(event), std::move(mr)};
}

std::span<const std::byte> BlockPool::bytes(unsigned slot) const {
    return slots_[slot].gpu.bytes();
}

Remote BlockPool::remote(unsigned slot) const {
    const pfndv::Mr& mr = slots_[slot].mr;
    return {.address = mr.address(), .rkey = mr.rkey()};
}

void BlockPool::move(unsigned slot) {
    Slot& s = slots_[slot];
    const auto to = s.in_vram ? PFN_VRAM_PLACEMENT_SYSTEM : PFN_VRAM_PLACEMENT_VRAM;
    const int error = errno_of([&] { device_.move(s.buffer.fd(), to); });
    if (error == ENODEV)
        return; // revoked: there is nothing to move, and revoked() will say so
    if (error != 0)
        throw_errno(error, "move a block");
    s.in_vram = !s.in_vram;
    ++moves_;
}

void BlockPool::revoke(unsigned slot) {
    device_.revoke(slots_[slot].buffer.fd());
}

bool BlockPool::revoked(unsigned slot) const {
    eventfd_t count = 0;
    return ::eventfd_read(slots_[slot].event.get(), &count) == 0;
}

void BlockPool::replace(unsigned slot) {
    faults_ += faults_of(slots_[slot].mr);
    slots_[slot] = make();
}

std::uint64_t BlockPool::faults() const {
    std::uint64_t all = faults_;
    for (const Slot& slot : slots_)
        all += faults_of(slot.mr);
    return all;
}

} // namespace pfn
