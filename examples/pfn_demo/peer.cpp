// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
#include "common/process.hpp"
#include "pfn_demo/connection.hpp"
#include "pfn_demo/protocol.hpp"
#include "pfn_demo/traffic.hpp"
#include "pfn_demo/workers.hpp"

#include <chrono>
#include <optional>

namespace pfn::demo {
namespace {

using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;

class Peer {
  public:
    Peer() : caller_(PEER_ADDRESS, GPU_ADDRESS, PORT) {
        traffic_.emplace(pd_, cq_, caller_.qp(), keys_);
    }

    Sums fill() { return traffic_->fill(); }

    /// Traffic for @p seconds, with a word to the narrator each second.
    void run(unsigned seconds, const Channel& narrator) {
        const Progress before = traffic_->progress();
        const auto since_start = [&](bool last) {
            Progress now = traffic_->progress();
            now.bytes_written -= before.bytes_written;
            now.bytes_read -= before.bytes_read;
            now.last = last;
            return now;
        };
        const auto start = Clock::now();
        for (auto next = start + 1s; Clock::now() < start + std::chrono::seconds(seconds);) {
            traffic_->batch();
            if (Clock::now() >= next && next < start + std::chrono::seconds(seconds)) {
                narrator.send(since_start(false));
                next += 1s;
            }
        }
        narrator.send(since_start(true));
    }

    [[nodiscard]] Sums counters() const { return traffic_->counters(); }
    [[nodiscard]] const Versions& versions() const { return traffic_->versions(); }

  private:
    Caller caller_;
    Pd pd_{caller_.context()};
    Cq cq_{caller_.context(), 2 * Qp::DEPTH};
    Keys keys_ = caller_.connect<Keys>(pd_, cq_);
    std::optional<Traffic> traffic_;
};

} // namespace

int run_peer(Channel& narrator) {
    enter_netns(PEER_NETNS);
    std::optional<Peer> peer;
    for (;;) {
        switch (narrator.recv<Ask>(1h)) {
        case Ask::CONNECT:
            peer.emplace();
            narrator.send(Done{});
            break;
        case Ask::FILL:
            narrator.send(peer->fill());
            break;
        case Ask::TRAFFIC:
            peer->run(narrator.recv<unsigned>(), narrator);
            break;
        case Ask::VERSIONS:
            narrator.send_bytes(std::as_bytes(std::span(peer->versions())));
            break;
        case Ask::COUNTERS:
            narrator.send(peer->counters());
            break;
        case Ask::QUIT:
            return 0;
        default:
            throw_errno(EPROTO, "the narrator asked the peer for something else");
        }
    }
}

} // namespace pfn::demo
