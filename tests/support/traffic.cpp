// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
#include "support/traffic.hpp"

#include "common/error.hpp"
#include "common/pattern.hpp"

#include <algorithm>
#include <cstring>
#include <exception>
#include <stdexcept>

namespace pfn {
namespace {

void expect_success(const Cq& cq, std::size_t count, const char* what) {
    for (std::size_t i = 0; i < count; ++i) {
        const ibv_wc wc = cq.wait();
        if (wc.status != IBV_WC_SUCCESS)
            throw std::runtime_error(std::string(what) + ": " + ibv_wc_status_str(wc.status));
    }
}

void expect_word(std::uint64_t is, std::uint64_t should, const char* what) {
    if (is != should)
        throw std::runtime_error(std::string(what) + " is " + std::to_string(is) + ", should be " +
                                 std::to_string(should));
}

class RemoteTraffic : public Traffic {
  public:
    RemoteTraffic(const Endpoint& gpu, const Endpoint& peer, std::span<const View> views,
                  std::uint64_t area)
        : Traffic(gpu, peer, views, area) {}

    unsigned round() override {
        fill();
        for (std::size_t slot = 0; slot < SLOTS; ++slot) {
            // A read sees what was written before it on the same queue pair.
            lane_.peer_qp.post_write(slot, source(slot), next_view().remote(in_buffer(slot)));
            lane_.peer_qp.post_read(slot, sink(slot), next_view().remote(in_buffer(slot)));
        }
        expect_success(lane_.peer_cq, 2 * SLOTS, "WRITE and READ by the peer");
        compare();
        return 2 * SLOTS;
    }
    void check(std::span<const std::byte> buffer) const override { compare_buffer(buffer); }
};

class LocalTraffic : public Traffic {
  public:
    LocalTraffic(const Endpoint& gpu, const Endpoint& peer, std::span<const View> views,
                 std::uint64_t area)
        : Traffic(gpu, peer, views, area) {}

    unsigned round() override {
        fill();
        for (std::size_t slot = 0; slot < SLOTS; ++slot)
            lane_.gpu_qp.post_read(slot, next_view().sge(in_buffer(slot), LENGTH),
                                   out_.remote(slot * SLOT));
        expect_success(lane_.gpu_cq, SLOTS, "READ by the gpu");
        for (std::size_t slot = 0; slot < SLOTS; ++slot)
            lane_.gpu_qp.post_write(slot, next_view().sge(in_buffer(slot), LENGTH),
                                    in_.remote(slot * SLOT));
        expect_success(lane_.gpu_cq, SLOTS, "WRITE by the gpu");
        compare();
        return 2 * SLOTS;
    }
    void check(std::span<const std::byte> buffer) const override { compare_buffer(buffer); }
};

class MessageTraffic : public Traffic {
  public:
    MessageTraffic(const Endpoint& gpu, const Endpoint& peer, std::span<const View> views,
                   std::uint64_t area)
        : Traffic(gpu, peer, views, area) {}

    unsigned round() override {
        fill();
        for (std::size_t slot = 0; slot < SLOTS; ++slot)
            lane_.gpu_qp.post_recv(slot, next_view().sge(in_buffer(slot), LENGTH));
        for (std::size_t slot = 0; slot < SLOTS; ++slot)
            lane_.peer_qp.post_send(slot, source(slot));
        expect_success(lane_.peer_cq, SLOTS, "SEND by the peer");
        expect_success(lane_.gpu_cq, SLOTS, "RECV by the gpu");

        for (std::size_t slot = 0; slot < SLOTS; ++slot)
            lane_.peer_qp.post_recv(slot, sink(slot));
        for (std::size_t slot = 0; slot < SLOTS; ++slot)
            lane_.gpu_qp.post_send(slot, next_view().sge(in_buffer(slot), LENGTH));
        expect_success(lane_.gpu_cq, SLOTS, "SEND by the gpu");
        expect_success(lane_.peer_cq, SLOTS, "RECV by the peer");
        compare();
        return 4 * SLOTS;
    }
    void check(std::span<const std::byte> buffer) const override { compare_buffer(buffer); }
};

/// A counter, a word that is swapped and one that is written.
class AtomicTraffic : public Traffic {
  public:
    AtomicTraffic(const Endpoint& gpu, const Endpoint& peer, std::span<const View> views,
                  std::uint64_t area)
        : Traffic(gpu, peer, views, area) {}

    unsigned round() override {
        const std::uint64_t first = rounds_ * SLOTS;
        for (std::size_t slot = 0; slot < SLOTS; ++slot) {
            lane_.peer_qp.post_fetch_add(slot, result(slot), next_view().remote(area_), 1);
            lane_.peer_qp.post_cmp_swap(slot, result(SLOTS + slot),
                                        next_view().remote(area_ + SWAPPED), first + slot,
                                        first + slot + 1);
        }
        lane_.peer_qp.post_atomic_write(SLOTS, next_view().remote(area_ + WRITTEN), rounds_ + 1);
        lane_.peer_qp.post_read(SLOTS, result(2 * SLOTS), next_view().remote(area_ + WRITTEN));
        expect_success(lane_.peer_cq, 2 * SLOTS + 2, "atomics by the peer");
        for (std::size_t slot = 0; slot < SLOTS; ++slot) {
            expect_word(in_.word(8 * slot), first + slot, "a counter");
            expect_word(in_.word(8 * (SLOTS + slot)), first + slot, "a swapped word");
        }
        ++rounds_;
        expect_word(in_.word(8 * (2 * SLOTS)), rounds_, "an atomically written word");
        return 2 * SLOTS + 2;
    }
    void check(std::span<const std::byte> buffer) const override {
        const auto word = [&](std::uint64_t offset) {
            std::uint64_t value = 0;
            std::memcpy(&value, buffer.subspan(area_ + offset, sizeof(value)).data(),
                        sizeof(value));
            return value;
        };
        expect_word(word(0), rounds_ * SLOTS, "the counter");
        expect_word(word(SWAPPED), rounds_ * SLOTS, "the swapped word");
        expect_word(word(WRITTEN), rounds_, "the atomically written word");
    }

  private:
    static constexpr std::uint64_t SWAPPED = AREA / 2;
    static constexpr std::uint64_t WRITTEN = AREA - 8;

    [[nodiscard]] ibv_sge result(std::size_t n) const { return in_.sge(8 * n, 8); }

    std::uint64_t rounds_ = 0;
};

} // namespace

Lane::Lane(const Endpoint& gpu, const Endpoint& peer, const QpSpec& spec)
    : gpu_cq(gpu.context.get(), 4 * Qp::DEPTH), peer_cq(peer.context.get(), 4 * Qp::DEPTH),
      gpu_qp(gpu.context, gpu.pd, gpu_cq, spec), peer_qp(peer.context, peer.pd, peer_cq, spec) {
    connect(gpu_qp, peer_qp);
}

Traffic::Traffic(const Endpoint& gpu, const Endpoint& peer, std::span<const View> views,
                 std::uint64_t area)
    : lane_(gpu, peer), views_(views.begin(), views.end()), area_(area), out_(peer.pd, AREA),
      in_(peer.pd, AREA), seed_(area << 32U), view_(area / AREA) {}

const View& Traffic::next_view() {
    return views_[view_++ % views_.size()];
}

void Traffic::fill() {
    ++seed_;
    fill_pattern(out_.bytes(), seed_);
}

void Traffic::compare() const {
    for (std::size_t slot = 0; slot < SLOTS; ++slot)
        compare(in_.bytes().subspan(slot * SLOT, LENGTH), slot, "what came back");
}

void Traffic::compare_buffer(std::span<const std::byte> buffer) const {
    for (std::size_t slot = 0; slot < SLOTS; ++slot)
        compare(buffer.subspan(in_buffer(slot), LENGTH), slot, "the buffer");
}

void Traffic::compare(std::span<const std::byte> data, std::size_t slot, const char* where) const {
    const auto bad = find_mismatch(data, seed_, slot * SLOT);
    if (bad)
        throw std::runtime_error(
            "byte " + std::to_string(*bad) + " of " + std::to_string(data.size()) + " of slot " +
            std::to_string(slot) + " in " + where + " is " +
            std::to_string(std::to_integer<int>(data[*bad])) + ", which is wrong");
}

std::unique_ptr<Traffic> make_traffic(Kind kind, const Endpoint& gpu, const Endpoint& peer,
                                      std::span<const View> views, std::uint64_t area) {
    switch (kind) {
    case Kind::REMOTE:
        return std::make_unique<RemoteTraffic>(gpu, peer, views, area);
    case Kind::LOCAL:
        return std::make_unique<LocalTraffic>(gpu, peer, views, area);
    case Kind::MESSAGE:
        return std::make_unique<MessageTraffic>(gpu, peer, views, area);
    case Kind::ATOMIC:
        return std::make_unique<AtomicTraffic>(gpu, peer, views, area);
    }
    throw std::invalid_argument("no such kind of traffic");
}

Pump::Pump(Traffic& traffic)
    : thread_([this, &traffic](const std::stop_token& stop) {
          try {
              while (!stop.stop_requested())
                  completed_ += traffic.round();
          } catch (const std::exception& e) {
              error_ = e.what();
              failed_ = true;
          }
      }) {}

void Pump::throw_if_failed() const {
    if (failed_)
        throw std::runtime_error("traffic failed: " + error_);
}

std::uint64_t Pump::completed() const {
    throw_if_failed();
    return completed_;
}

void Pump::stop() {
    thread_.request_stop();
    if (thread_.joinable())
        thread_.join();
    throw_if_failed();
}

Traffics::Traffics(std::size_t count, const Endpoint& gpu, const Endpoint& peer,
                   std::span<const View> views) {
    for (std::size_t i = 0; i < count; ++i)
        traffics_.push_back(
            make_traffic(KINDS[i % std::size(KINDS)], gpu, peer, views, i * Traffic::AREA));
}

void Traffics::start() {
    for (const auto& traffic : traffics_)
        pumps_.push_back(std::make_unique<Pump>(*traffic));
}

std::vector<std::uint64_t> Traffics::completed() const {
    std::vector<std::uint64_t> all;
    all.reserve(pumps_.size());
    for (const auto& pump : pumps_)
        all.push_back(pump->completed());
    return all;
}

void Traffics::wait_for_progress(std::uint64_t more) const {
    const auto deadline = std::chrono::steady_clock::now() + PATIENCE;
    const auto before = completed();
    for (;;) {
        const auto now = completed();
        std::size_t there = 0;
        for (std::size_t i = 0; i < now.size(); ++i)
            there += now[i] - before[i] >= more ? 1 : 0;
        if (there == now.size())
            return;
        if (std::chrono::steady_clock::now() > deadline)
            throw Timeout("a queue pair makes no progress");
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
}

void Traffics::stop() {
    for (const auto& pump : pumps_)
        pump->stop();
    pumps_.clear();
}

void Traffics::check(std::span<const std::byte> buffer) const {
    for (const auto& traffic : traffics_)
        traffic->check(buffer);
}

} // namespace pfn
