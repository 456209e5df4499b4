// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
//
// Traffic that checks itself: rounds of work requests between the two devices
// which know what every byte must be afterwards, and threads that pump them.
#pragma once

#include "support/rdma_test.hpp"

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <thread>
#include <vector>

namespace pfn {

/// A buffer of device memory as one MR on all of it shows it.
struct View {
    View(const Mr& mr, std::uint64_t iova_) : lkey(mr.lkey()), rkey(mr.rkey()), iova(iova_) {}
    View(const ModeMr& mr, std::uint64_t iova_) : lkey(mr.lkey()), rkey(mr.rkey()), iova(iova_) {}

    [[nodiscard]] ibv_sge sge(std::uint64_t offset, std::size_t length) const {
        return {.addr = iova + offset, .length = static_cast<std::uint32_t>(length), .lkey = lkey};
    }
    [[nodiscard]] Remote remote(std::uint64_t offset) const {
        return {.address = iova + offset, .rkey = rkey};
    }

    std::uint32_t lkey;
    std::uint32_t rkey;
    std::uint64_t iova;
};

/// One more connection between two endpoints.
struct Lane {
    Lane(const Endpoint& gpu, const Endpoint& peer, const QpSpec& spec = {});

    Cq gpu_cq;
    Cq peer_cq;
    Qp gpu_qp;
    Qp peer_qp;
};

/// Rounds of work requests on one lane and one part of a buffer, of which nobody
/// else writes. The views are used in turn.
class Traffic {
  public:
    /// Bytes of the buffer that one Traffic uses.
    static constexpr std::uint64_t AREA = 8 * KIB;

    virtual ~Traffic() = default;
    Traffic(const Traffic&) = delete;
    Traffic& operator=(const Traffic&) = delete;

    /// One round. Returns how many work requests it has completed; throws if one
    /// of them fails or has moved a wrong byte.
    virtual unsigned round() = 0;
    /// What must be in the area of @p buffer, which is all of it, after the last
    /// round. Throws if it is not.
    virtual void check(std::span<const std::byte> buffer) const = 0;

  protected:
    Traffic(const Endpoint& gpu, const Endpoint& peer, std::span<const View> views,
            std::uint64_t area);

    const View& next_view();
    static constexpr std::size_t SLOTS = 8; ///< work requests in flight
    static constexpr std::size_t SLOT = AREA / SLOTS;
    static constexpr std::size_t LENGTH = SLOT - 7; ///< of a slot, never aligned

    [[nodiscard]] std::uint64_t in_buffer(std::size_t slot) const { return area_ + slot * SLOT; }
    [[nodiscard]] ibv_sge source(std::size_t slot) const { return out_.sge(slot * SLOT, LENGTH); }
    [[nodiscard]] ibv_sge sink(std::size_t slot) const { return in_.sge(slot * SLOT, LENGTH); }
    /// Other data for all slots.
    void fill();
    /// What came back in all slots is that data.
    void compare() const;
    void compare(std::span<const std::byte> data, std::size_t slot, const char* where) const;
    void compare_buffer(std::span<const std::byte> buffer) const;

    Lane lane_;
    std::vector<View> views_;
    std::uint64_t area_;
    HostMemory out_; ///< of the peer
    HostMemory in_;
    std::uint64_t seed_;
    std::size_t view_ = 0;
};

/// What a Traffic does.
enum class Kind {
    REMOTE,  ///< the peer writes into the buffer and reads it back
    LOCAL,   ///< the gpu reads into the buffer and writes out of it
    MESSAGE, ///< the peer sends into the buffer and the gpu sends it back
    ATOMIC,  ///< the peer adds to, swaps and writes words of the buffer
};
inline constexpr Kind KINDS[] = {Kind::REMOTE, Kind::LOCAL, Kind::MESSAGE, Kind::ATOMIC};

/// Make one that uses Traffic::AREA bytes of the buffer from @p area on.
std::unique_ptr<Traffic> make_traffic(Kind kind, const Endpoint& gpu, const Endpoint& peer,
                                      std::span<const View> views, std::uint64_t area);

/// A thread that does rounds until it is told to stop, or one fails.
class Pump {
  public:
    explicit Pump(Traffic& traffic);
    /// Work requests completed so far. Throws if a round has failed.
    [[nodiscard]] std::uint64_t completed() const;
    /// Stop after the current round; throws if one has failed.
    void stop();

  private:
    void throw_if_failed() const;
    std::atomic<std::uint64_t> completed_{0};
    std::string error_;
    std::atomic<bool> failed_{false};
    std::jthread thread_;
};

/// Several kinds of traffic on one buffer, a thread for each.
class Traffics {
  public:
    /// @p count of them, of all kinds in turn, side by side from the start of the
    /// buffer, which must have count * Traffic::AREA bytes.
    Traffics(std::size_t count, const Endpoint& gpu, const Endpoint& peer,
             std::span<const View> views);

    /// Start a pump for each.
    void start();
    /// Work requests that each of them has completed. Throws if one has failed.
    [[nodiscard]] std::vector<std::uint64_t> completed() const;
    /// Wait until each has completed @p more than it has now. Throws Timeout.
    void wait_for_progress(std::uint64_t more) const;
    /// Stop all pumps; throws if one has failed.
    void stop();
    /// Traffic::check() of each.
    void check(std::span<const std::byte> buffer) const;

  private:
    std::vector<std::unique_ptr<Traffic>> traffics_;
    std::vector<std::unique_ptr<Pump>> pumps_;
};

} // namespace pfn
