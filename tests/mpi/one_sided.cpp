// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
#include "common/pattern.hpp"
#include "mpi/checks.hpp"
#include "support/rdma_tool.hpp"

#include <mpi.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <format>

namespace pfn::mpi {
namespace {

constexpr std::size_t SIZE = 64 * KIB;

/// A window on all of a buffer.
class Window {
  public:
    explicit Window(const Buffer& buffer) {
        MPI_Win_create(buffer.data(), static_cast<MPI_Aint>(buffer.bytes().size()), 1,
                       MPI_INFO_NULL, MPI_COMM_WORLD, &window_);
    }
    ~Window() { MPI_Win_free(&window_); }
    Window(const Window&) = delete;
    Window& operator=(const Window&) = delete;

    [[nodiscard]] MPI_Win get() const { return window_; }
    void fence(int assertion = 0) const { MPI_Win_fence(assertion, window_); }

  private:
    MPI_Win window_ = MPI_WIN_NULL;
};

/// Each rank puts a pattern into the other's window and gets it back from there.
void put_and_get(World& world, const Window& window, const Buffer& target, const Buffer& local) {
    const auto mine = 30 + static_cast<std::uint64_t>(world.rank());
    const auto peers = 30 + static_cast<std::uint64_t>(world.peer());
    fill_pattern(local.bytes(), mine);
    window.fence();
    MPI_Put(local.data(), SIZE, MPI_BYTE, world.peer(), 0, SIZE, MPI_BYTE, window.get());
    window.fence();
    world.expect(!find_mismatch(target.bytes(), peers), "put");
    std::ranges::fill(local.bytes(), std::byte{0});
    window.fence();
    MPI_Get(local.data(), SIZE, MPI_BYTE, world.peer(), 0, SIZE, MPI_BYTE, window.get());
    window.fence();
    world.expect(!find_mismatch(local.bytes(), mine), "get");
}

/// Both ranks add to the same numbers of rank 0.
void accumulate(World& world, const Window& window, const Buffer& target, const Buffer& local) {
    constexpr std::size_t COUNT = 4096;
    constexpr int ROUNDS = 3;
    const std::span<double> sums(reinterpret_cast<double*>(target.data()), COUNT);
    const std::span<double> mine(reinterpret_cast<double*>(local.data()), COUNT);
    std::ranges::fill(sums, 0.0);
    for (std::size_t i = 0; i < COUNT; ++i)
        mine[i] = static_cast<double>(i) + 0.25 * world.rank();
    window.fence();
    for (int i = 0; i < ROUNDS; ++i)
        MPI_Accumulate(mine.data(), COUNT, MPI_DOUBLE, 0, 0, COUNT, MPI_DOUBLE, MPI_SUM,
                       window.get());
    window.fence();
    if (world.rank() != 0)
        return;
    for (std::size_t i = 0; i < COUNT; ++i) {
        if (sums[i] != ROUNDS * (2 * static_cast<double>(i) + 0.25)) {
            world.expect(false, std::format("accumulate, at {}", i));
            return;
        }
    }
}

/// Both ranks draw numbers from a counter of rank 0 at the same time; each is given out
/// once. Where they draw to is device memory, too.
void draw_numbers(World& world, const Window& window, const Buffer& target, const Buffer& local) {
    constexpr std::size_t EACH = 20;
    auto* const drawn = reinterpret_cast<std::int64_t*>(local.data());
    const std::int64_t one = 1;
    std::memset(target.data(), 0, sizeof(std::int64_t));
    window.fence(MPI_MODE_NOSUCCEED);
    MPI_Win_lock_all(0, window.get());
    for (std::size_t i = 0; i < EACH; ++i) {
        MPI_Fetch_and_op(&one, &drawn[i], MPI_INT64_T, 0, 0, MPI_SUM, window.get());
        MPI_Win_flush(0, window.get());
    }
    MPI_Win_unlock_all(window.get());
    std::array<std::int64_t, EACH> mine{};
    std::array<std::int64_t, 2 * EACH> all{};
    std::ranges::copy_n(drawn, EACH, mine.begin());
    MPI_Allgather(mine.data(), EACH, MPI_INT64_T, all.data(), EACH, MPI_INT64_T, MPI_COMM_WORLD);
    std::ranges::sort(all);
    for (std::size_t i = 0; i < all.size(); ++i)
        world.expect(all[i] == static_cast<std::int64_t>(i), std::format("number {}", i));
}

} // namespace

void one_sided(World& world, const VramDevice& vram) {
    for (const Kind& kind : KINDS) {
        const Buffer target(vram, kind, SIZE);
        const Buffer local(vram, kind, SIZE);
        const Window window(target);
        Mover mover(vram, target);
        put_and_get(world, window, target, local);
        accumulate(world, window, target, local);
        draw_numbers(world, window, target, local);
        const auto moves = world.sum(mover.stop());
        const Mrs mrs = mrs_on(inode(target.dmabuf().fd()));
        const auto bytes = world.sum(mrs.written + mrs.read);
        world.expect(mrs.count == mrs.lent, "an MR whose backend is not pfn");
        world.verdict(std::format("put, get, accumulate, fetch_and_op, {}", kind.name),
                      std::format("{} moves, window's MRs: {} bytes", moves, bytes));
    }
}

} // namespace pfn::mpi
