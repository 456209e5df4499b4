// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
#pragma once

#include "common/verbs.hpp"

#include <infiniband/pfndv.hpp>

#include <stdexcept>

namespace pfn {

/// The value of @p result. Throws std::runtime_error with the reason and @p what, the
/// step that has failed.
template<typename T>
T value_of(pfndv::Result<T> result, const char* what) {
    if (!result)
        throw std::runtime_error(std::string(what) + ": " + result.error().reason);
    return *std::move(result);
}

/// An MR by libpfndv on the dma-buf behind @p fd, which may be closed afterwards.
inline pfndv::Mr register_dmabuf(const Pd& pd, int fd, const pfndv::MrSpec& spec = {}) {
    const auto own = value_of(pfndv::DmaBuf::dup(fd), "register");
    return value_of(pfndv::Mr::reg(pfndv::Pd::borrow(pd.get()), own, spec), "register");
}

} // namespace pfn
