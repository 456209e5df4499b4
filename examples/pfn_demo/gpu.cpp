// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
#include "common/pattern.hpp"
#include "common/process.hpp"
#include "common/vram.hpp"
#include "pfn_demo/connection.hpp"
#include "pfn_demo/cost.hpp"
#include "pfn_demo/protocol.hpp"
#include "pfn_demo/traffic.hpp"
#include "pfn_demo/workers.hpp"

#include <algorithm>
#include <cstring>
#include <mutex>
#include <optional>
#include <stdexcept>
#include <thread>

namespace pfn::demo {
namespace {

using namespace std::chrono_literals;

/// A buffer as the gpu has it.
struct Buffer {
    DmaBuf dmabuf;
    Mapping cpu;
    Mr mr;
};

/// Moves the buffers VRAM -> system -> VRAM ... in changing layouts, until it
/// is stopped; every buffer is then back where it was at first.
class Mover {
  public:
    Mover(const VramDevice& vram, std::span<const Buffer> buffers)
        : vram_(vram), buffers_(buffers), thread_([this](const std::stop_token& stop) {
              try {
                  run(stop);
              } catch (const std::exception& e) {
                  const std::lock_guard lock(mutex_);
                  error_ = e.what();
              }
          }) {}

    /// Counts so far. Throws if a move has failed.
    Moves stats() {
        const std::lock_guard lock(mutex_);
        if (!error_.empty())
            throw std::runtime_error("a move failed: " + error_);
        return stats_;
    }

    void stop() {
        thread_.request_stop();
        thread_.join();
    }

  private:
    void run(const std::stop_token& stop) {
        for (unsigned round = 0; !stop.stop_requested(); ++round) {
            for (const std::uint32_t to : {PFN_VRAM_PLACEMENT_SYSTEM, PFN_VRAM_PLACEMENT_VRAM}) {
                for (const Buffer& buffer : buffers_) {
                    move(buffer, to, round % 2 ? page_size() : 0);
                    // Let the peer use the memory between two moves.
                    std::this_thread::sleep_for(PAUSE);
                }
            }
        }
    }

    void move(const Buffer& buffer, std::uint32_t to, std::uint64_t chunk) {
        const pfn_vram_move times = vram_.move(buffer.dmabuf.fd(), to, chunk);
        const std::lock_guard lock(mutex_);
        ++stats_.moves;
        stats_.worst_quiesce_ns =
            std::max<std::uint64_t>(stats_.worst_quiesce_ns, times.quiesce_ns);
    }

    static constexpr auto PAUSE = 5ms;

    const VramDevice& vram_;
    std::span<const Buffer> buffers_;
    std::mutex mutex_;
    Moves stats_{};     // guarded by mutex_
    std::string error_; // guarded by mutex_
    std::jthread thread_;
};

class Gpu {
  public:
    explicit Gpu(const Options& options) : layout_{options.size}, vram_(options.device) {}

    [[nodiscard]] GpuOpened opened() const { return {.device = vram_.info()}; }

    Allocated allocate() {
        // Both will be in VRAM at once.
        if (vram_.info().vram_free < BUFFERS * layout_.size)
            throw_errno(ENOSPC, "two buffers do not fit into the free VRAM");
        make_buffer({.size = layout_.size, .placement = PFN_VRAM_PLACEMENT_VRAM});
        make_buffer(
            {.size = layout_.size, .chunk = page_size(), .placement = PFN_VRAM_PLACEMENT_SYSTEM});
        Allocated answer{};
        for (std::size_t i = 0; i < BUFFERS; ++i) {
            answer.buffer.at(i) = vram_.buf_info(buffers_.at(i).dmabuf.fd());
            answer.mr.at(i) = buffers_.at(i).mr.query();
        }
        return answer;
    }

    void accept(const Channel& narrator) {
        listener_.listen();
        narrator.send(Done{});
        Keys keys{.memory = {}, .size = layout_.size};
        for (std::size_t i = 0; i < BUFFERS; ++i)
            keys.memory.at(i) = {.address = 0, .rkey = buffers_.at(i).mr.rkey()};
        listener_.accept(pd_, cq_, keys);
        narrator.send(Done{});
    }

    [[nodiscard]] Sums checksums() const {
        Sums sums{};
        for (std::size_t i = 0; i < BUFFERS; ++i) {
            sums.checksum.at(i) = checksum(buffers_.at(i).cpu.bytes().first(layout_.area()));
            sums.counter.at(i) = counter(i);
        }
        return sums;
    }

    void start_moving() { mover_.emplace(vram_, buffers_); }

    Moves moves() {
        Moves answer = mover_->stats();
        for (const Buffer& buffer : buffers_) {
            const pfndv_mr_attr info = buffer.mr.query();
            answer.faults += info.faults;
            answer.invalidations += info.invalidations;
        }
        return answer;
    }

    Moves stop_moving() {
        mover_->stop();
        return moves();
    }

    /// Compare every byte, through the CPU, with what it must be.
    [[nodiscard]] Verified verify(std::span<const std::uint32_t> versions) const {
        Verified answer{};
        if (versions.size() != BUFFERS * layout_.pieces())
            throw_errno(EPROTO, "versions of other buffers");
        for (std::size_t i = 0; i < BUFFERS; ++i) {
            for (std::size_t number = 0; number < layout_.pieces(); ++number) {
                const auto piece = buffers_.at(i).cpu.bytes().subspan(layout_.offset(number),
                                                                      layout_.length(number));
                const auto seed = pattern_seed(i, number, versions[i * layout_.pieces() + number]);
                answer.bytes += piece.size();
                answer.bad_pieces += find_mismatch(piece, seed) ? 1 : 0;
            }
            answer.counter.at(i) = counter(i);
            answer.buffer.at(i) = vram_.buf_info(buffers_.at(i).dmabuf.fd());
        }
        return answer;
    }

    [[nodiscard]] Cost cost() const { return measure_cost(vram_, pd_, layout_.size); }

  private:
    void make_buffer(const BufferSpec& spec) {
        DmaBuf dmabuf = vram_.alloc(spec);
        Mapping cpu = dmabuf.map();
        Mr mr = Mr::dmabuf(pd_, dmabuf.fd(), 0, spec.size, 0);
        buffers_.push_back(
            {.dmabuf = std::move(dmabuf), .cpu = std::move(cpu), .mr = std::move(mr)});
    }

    [[nodiscard]] std::uint64_t counter(std::size_t i) const {
        std::uint64_t value = 0;
        std::memcpy(&value, buffers_.at(i).cpu.bytes().subspan(layout_.counter()).data(),
                    sizeof(value));
        return value;
    }

    Layout layout_;
    VramDevice vram_;
    Listener listener_{GPU_ADDRESS, PORT};
    Pd pd_{listener_.context()};
    Cq cq_{listener_.context(), 2 * Qp::DEPTH};
    std::vector<Buffer> buffers_;
    std::optional<Mover> mover_;
};

Versions receive_versions(const Channel& narrator) {
    const auto bytes = narrator.recv_bytes(60s);
    Versions versions(bytes.size() / sizeof(Versions::value_type));
    std::memcpy(versions.data(), bytes.data(), versions.size() * sizeof(Versions::value_type));
    return versions;
}

} // namespace

int run_gpu(const Options& options, Channel& narrator) {
    enter_netns(GPU_NETNS);
    std::optional<Gpu> gpu;
    for (;;) {
        switch (narrator.recv<Ask>(1h)) {
        case Ask::OPEN:
            gpu.emplace(options);
            narrator.send(gpu->opened());
            break;
        case Ask::ALLOCATE:
            narrator.send(gpu->allocate());
            break;
        case Ask::ACCEPT:
            gpu->accept(narrator);
            break;
        case Ask::CHECKSUM:
            narrator.send(gpu->checksums());
            break;
        case Ask::START_MOVE:
            gpu->start_moving();
            narrator.send(Done{});
            break;
        case Ask::MOVES:
            narrator.send(gpu->moves());
            break;
        case Ask::STOP_MOVE:
            narrator.send(gpu->stop_moving());
            break;
        case Ask::VERIFY:
            narrator.send(gpu->verify(receive_versions(narrator)));
            break;
        case Ask::COST:
            narrator.send(gpu->cost());
            break;
        case Ask::QUIT:
            return 0;
        default:
            throw_errno(EPROTO, "the narrator asked the gpu for something else");
        }
    }
}

} // namespace pfn::demo
