// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
//
// What the fuzz test knows of a buffer. With several actors it does not know the
// order in which the kernel did things; but it knows when nothing that matters
// was going on, and then there is one right answer. Every call to the kernel
// stands in a Window, which tells afterwards if it was so.
#pragma once

#include "fuzz/operation.hpp"

#include <rdma/pfn_mr_abi.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <optional>
#include <utility>
#include <vector>

namespace pfn::fuzz {

/// The mode that a registration comes to (rules M1 to M8), or nothing if it must
/// be refused.
std::optional<std::uint32_t> negotiate(std::uint32_t mode, std::uint32_t caps);

/// What an actor's stripe of a buffer must contain.
struct Stripe {
    bool known = true;
    unsigned restores = 0; ///< Facts::restores that this is about
    std::array<std::byte, STRIPE> data{};
};

/// What has happened to a buffer. Revokes and restores take turns, in whatever
/// order they are told here.
struct Facts {
    unsigned revokes = 0;
    unsigned restores = 0;
    int pinned = 0;    ///< PINNED MRs
    int revocable = 0; ///< REVOCABLE MRs that have the memory
    int unsure = 0;    ///< REVOCABLE MRs that may or may not have it

    [[nodiscard]] bool live() const { return revokes == restores; }
};

class Model {
  public:
    /// When something about a buffer has changed last, or is changing.
    struct Clock {
        std::uint64_t changes = 0;
        int changing = 0;
        bool operator==(const Clock&) const = default;
    };

    Model(std::uint32_t caps_, std::size_t actors) : caps(caps_), stripes(actors) {}

    const std::uint32_t caps;
    std::vector<Stripe> stripes; ///< of each actor, who is the only one to use it

  private:
    friend class Window;
    struct Clocks {
        Clock memory; ///< revoke and restore
        Clock pins;   ///< MRs that forbid moves or revokes
    };

    std::mutex mutex_;
    Clocks clocks_;
    Facts facts_;
};

/// A call to the kernel, from construction to close().
class Window {
  public:
    enum Kind { LOOKS, CHANGES_MEMORY, CHANGES_PINS };

    Window(Model& model, Kind kind) : model_(model), kind_(kind) {
        const std::lock_guard lock(model_.mutex_);
        mark(1);
        clocks_ = model_.clocks_;
        before_ = model_.facts_;
    }
    ~Window() {
        const std::lock_guard lock(model_.mutex_);
        mark(-1);
    }
    Window(const Window&) = delete;
    Window& operator=(const Window&) = delete;

    /// The call has returned. @p apply(Facts&) notes what has come of it; it may
    /// ask this window already.
    template<typename Apply>
    void close(Apply&& apply) {
        const std::lock_guard lock(model_.mutex_);
        after_ = model_.facts_;
        memory_sure_ = clocks_.memory == model_.clocks_.memory &&
                       clocks_.memory.changing == (kind_ == CHANGES_MEMORY ? 1 : 0);
        pins_sure_ = memory_sure_ && clocks_.pins == model_.clocks_.pins &&
                     clocks_.pins.changing == (kind_ == CHANGES_PINS ? 1 : 0) && after_.unsure == 0;
        std::forward<Apply>(apply)(model_.facts_);
    }
    void close() {
        close([](Facts&) {});
    }

    /// Nobody else has begun, or was about, to revoke or restore the buffer.
    [[nodiscard]] bool memory_sure() const { return memory_sure_; }
    /// Nor to register or deregister an MR that forbids something.
    [[nodiscard]] bool pins_sure() const { return pins_sure_; }
    [[nodiscard]] bool live() const { return after_.live(); }
    /// Before the call, and after it but without what it has done itself.
    [[nodiscard]] const Facts& before() const { return before_; }
    [[nodiscard]] const Facts& after() const { return after_; }

  private:
    void mark(int delta) {
        if (kind_ == LOOKS)
            return;
        Model::Clock& clock = kind_ == CHANGES_MEMORY ? model_.clocks_.memory : model_.clocks_.pins;
        clock.changes++;
        clock.changing += delta;
    }

    Model& model_;
    Kind kind_;
    Model::Clocks clocks_;
    Facts before_;
    Facts after_;
    bool memory_sure_ = false;
    bool pins_sure_ = false;
};

} // namespace pfn::fuzz
