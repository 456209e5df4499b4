// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
//
// The exporter takes a buffer back while ranks exchange it. MPI has no word for that, so
// what ends, how, and on which rank is up to the library: tests/mpi/revoked runs these, one
// MPI program each, and looks at what became of it.
#include "common/pattern.hpp"
#include "mpi/checks.hpp"
#include "support/rdma_tool.hpp"

#include <mpi.h>

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <format>
#include <iostream>
#include <optional>
#include <span>
#include <stop_token>
#include <string>
#include <thread>

namespace pfn::mpi {
namespace {

constexpr std::size_t SIZE = 256 * KIB; ///< goes without copies
constexpr std::uint64_t SEED = 70;
constexpr unsigned BEFORE = 8;    ///< messages before the buffer is taken back
constexpr unsigned LIMIT = 20000; ///< messages that would all have to be in time

/// One line, at once: the process may be about to end.
void say(const World& world, const std::string& what) {
    std::cout << std::format("rank {}: {}\n", world.rank(), what) << std::flush;
}

std::string in_words(int error) {
    std::string text(MPI_MAX_ERROR_STRING, '\0');
    int length = 0;
    MPI_Error_string(error, text.data(), &length);
    return text.substr(0, static_cast<std::size_t>(length));
}

/// A message from rank 0 to rank 1, each with its own @p bytes. Is it right?
bool arrives(const World& world, std::span<std::byte> bytes, std::uint64_t seed) {
    const int size = static_cast<int>(bytes.size());
    fill_pattern(bytes, world.rank() == 0 ? seed : seed + 1);
    if (world.rank() == 0) {
        MPI_Send(bytes.data(), size, MPI_BYTE, 1, 0, MPI_COMM_WORLD);
        return true;
    }
    MPI_Recv(bytes.data(), size, MPI_BYTE, 0, 0, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
    return !find_mismatch(bytes, seed);
}

/// Takes a buffer back when some messages have gone, and gives its memory to somebody else.
class Revoker {
  public:
    Revoker(const World& world, const VramDevice& vram, const Buffer& buffer)
        : thread_([this, &world, &vram, &buffer](const std::stop_token& stop) {
              while (messages < BEFORE)
                  std::this_thread::sleep_for(std::chrono::milliseconds(1));
              vram.revoke(buffer.dmabuf().fd());
              revoked = true;
              heir_.emplace(vram, VRAM, SIZE);
              fill_pattern(heir_->bytes(), SEED + 1);
              say(world, "revoked");
              while (!stop.stop_requested() && !find_mismatch(heir_->bytes(), SEED + 1))
                  std::this_thread::sleep_for(std::chrono::milliseconds(10));
              if (find_mismatch(heir_->bytes(), SEED + 1))
                  say(world, "WRONG: somebody has written to the new owner's memory");
          }) {}

    std::atomic<unsigned> messages{0};
    std::atomic<bool> revoked{false};

  private:
    std::optional<Buffer> heir_;
    std::jthread thread_;
};

/// Rank 0 sends from one buffer, rank 1 receives into one, until it goes wrong. The one of
/// @p owner is taken back.
void stream(World& world, const VramDevice& vram, int owner, std::size_t size) {
    const Buffer buffer(vram, VRAM, SIZE);
    const auto bytes = buffer.bytes().first(size);
    if (world.rank() == 0)
        fill_pattern(bytes, SEED);
    world.barrier();
    std::optional<Revoker> revoker;
    if (world.rank() == owner)
        revoker.emplace(world, vram, buffer);
    for (unsigned i = 0; i < LIMIT; ++i) {
        const bool late = revoker && revoker->revoked;
        const int error =
            world.rank() == 0
                ? MPI_Send(bytes.data(), static_cast<int>(size), MPI_BYTE, 1, 0, MPI_COMM_WORLD)
                : MPI_Recv(bytes.data(), static_cast<int>(size), MPI_BYTE, 0, 0, MPI_COMM_WORLD,
                           MPI_STATUS_IGNORE);
        if (error != MPI_SUCCESS) {
            say(world, std::format("message {} returned: {}", i, in_words(error)));
            MPI_Abort(MPI_COMM_WORLD, 3); // the other one is not told
            return;
        }
        if (late)
            say(world, std::format("WRONG: message {} came through a revoked buffer", i));
        // What is left of a buffer that is gone cannot be looked at: that is a SIGBUS.
        if (world.rank() == 1 && owner == 0 && find_mismatch(bytes, SEED))
            say(world, std::format("WRONG: message {} is of somebody else", i));
        if (revoker)
            revoker->messages++;
    }
    say(world, "WRONG: nothing has failed");
}

} // namespace

void revoked_idle(World& world, const VramDevice& vram) {
    const Buffer used(vram, VRAM, SIZE);
    const DmaBuf taken = vram.alloc({.size = SIZE});
    Mapping mapping = taken.map();
    world.expect(arrives(world, used.bytes(), SEED), "a buffer");
    world.expect(arrives(world, mapping.bytes(), SEED + 2), "another one");
    world.barrier();
    const Mrs mrs = mrs_on(inode(taken.fd()));
    world.expect(mrs.count > 0 && mrs.lent == mrs.count, "not registered as device memory");
    vram.revoke(taken.fd()); // and both ranks still have their MRs of it
    world.expect(arrives(world, used.bytes(), SEED + 4), "the buffer that was left alone");
    world.verdict("a buffer is taken back, messages go on in another");

    vram.restore(taken.fd());
    mapping = {};
    mapping = taken.map();
    world.expect(arrives(world, mapping.bytes(), SEED + 6), "the buffer that has memory again");
    world.verdict("it has memory again, and is mapped anew");
}

void errors_return(World& /*world*/, const VramDevice& /*vram*/) {
    MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
}

void revoked_source(World& world, const VramDevice& vram) {
    stream(world, vram, 0, SIZE);
}

void revoked_target(World& world, const VramDevice& vram) {
    stream(world, vram, 1, SIZE);
}

void revoked_small(World& world, const VramDevice& vram) {
    stream(world, vram, 0, KIB);
}

} // namespace pfn::mpi
