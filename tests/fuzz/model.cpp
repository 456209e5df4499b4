// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
#include "fuzz/model.hpp"

#include <linux/pfn_vram.h>

namespace pfn::fuzz {

std::optional<std::uint32_t> negotiate(std::uint32_t mode, std::uint32_t caps) {
    const bool can_pin = (caps & PFN_VRAM_CAP_PIN) != 0;
    const bool may_move = (caps & PFN_VRAM_CAP_MOVE) != 0;
    const bool may_revoke = (caps & PFN_VRAM_CAP_REVOKE) != 0;
    switch (mode) {
    case PFN_MR_MODE_DEFAULT:
        if (may_move)
            return PFN_MR_MODE_DYNAMIC;
        return may_revoke ? PFN_MR_MODE_REVOCABLE : PFN_MR_MODE_PINNED;
    case PFN_MR_MODE_PINNED:
        return can_pin || !(may_move || may_revoke) ? std::optional(mode) : std::nullopt;
    case PFN_MR_MODE_REVOCABLE:
        return can_pin || !may_move ? std::optional(mode) : std::nullopt;
    default:
        return mode;
    }
}

} // namespace pfn::fuzz
