// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
#include "common/pattern.hpp"
#include "mpi/checks.hpp"
#include "support/rdma_tool.hpp"

#include <mpi.h>

#include <algorithm>
#include <array>
#include <format>

namespace pfn::mpi {
namespace {

constexpr int TAG = 7;
constexpr std::size_t BUFFER = 512 * KIB;

/// One message from @p from to the other rank. Each uses its own @p bytes.
void message(const World& world, int from, std::span<std::byte> bytes) {
    const int size = static_cast<int>(bytes.size());
    if (world.rank() == from)
        MPI_Send(bytes.data(), size, MPI_BYTE, world.peer(), TAG, MPI_COMM_WORLD);
    else
        MPI_Recv(bytes.data(), size, MPI_BYTE, from, TAG, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
}

/// A message to and fro, of a pattern that only rank 0 has in the beginning.
void there_and_back(World& world, std::span<std::byte> bytes, std::uint64_t seed) {
    fill_pattern(bytes, world.rank() == 0 ? seed : seed + 1);
    message(world, 0, bytes);
    world.expect(!find_mismatch(bytes, seed), std::format("{} bytes to rank 1", bytes.size()));
    fill_pattern(bytes, world.rank() == 1 ? seed + 2 : seed);
    message(world, 1, bytes);
    world.expect(!find_mismatch(bytes, seed + 2), std::format("{} bytes back", bytes.size()));
}

/// Eight messages each way at the same time, at odd places of the buffer.
void many_at_once(World& world, const Buffer& buffer, std::uint64_t seed) {
    constexpr std::size_t COUNT = 8;
    const std::size_t slot = buffer.bytes().size() / (2 * COUNT);
    const std::size_t size = slot - 100;
    std::array<MPI_Request, 2 * COUNT> requests{};
    fill_pattern(buffer.bytes(), seed + static_cast<std::uint64_t>(world.rank()));
    for (std::size_t i = 0; i < COUNT; ++i) {
        std::byte* const in = buffer.data() + (2 * i + 1) * slot + 1;
        MPI_Irecv(in, static_cast<int>(size), MPI_BYTE, world.peer(), static_cast<int>(i),
                  MPI_COMM_WORLD, &requests[2 * i]);
        MPI_Isend(buffer.data() + 2 * i * slot + 3, static_cast<int>(size), MPI_BYTE, world.peer(),
                  static_cast<int>(i), MPI_COMM_WORLD, &requests[2 * i + 1]);
    }
    MPI_Waitall(2 * COUNT, requests.data(), MPI_STATUSES_IGNORE);
    for (std::size_t i = 0; i < COUNT; ++i) {
        const auto in = buffer.bytes().subspan((2 * i + 1) * slot + 1, size);
        world.expect(
            !find_mismatch(in, seed + static_cast<std::uint64_t>(world.peer()), 2 * i * slot + 3),
            std::format("message {} of many", i));
    }
}

} // namespace

void point_to_point(World& world, const VramDevice& vram) {
    for (const Kind& kind : KINDS) {
        const Buffer buffer(vram, kind, BUFFER);
        std::uint64_t seed = 1;
        for (const std::size_t size :
             {std::size_t{1}, std::size_t{1000}, 16 * KIB, 64 * KIB + 1, BUFFER}) {
            there_and_back(world, buffer.bytes().first(size), seed);
            seed += 3;
        }
        many_at_once(world, buffer, seed);
        world.verdict(std::format("messages of 1 B to 512 KiB, {}", kind.name));
    }
    const Buffer buffer(vram, VRAM, BUFFER);
    Mover mover(vram, buffer);
    // Six, and more only if nothing has moved yet.
    for (std::uint64_t i = 0; i < 6 || (world.sum(mover.moves()) == 0 && i < 100); ++i)
        there_and_back(world, buffer.bytes().first(i % 2 ? BUFFER : 50000), 100 + 3 * i);
    many_at_once(world, buffer, 200);
    const auto moves = world.sum(mover.stop());
    world.expect(moves > 0, "nothing has moved");
    world.verdict("messages, buffers move", std::format("{} moves", moves));
}

void zero_copy(World& world, const VramDevice& vram) {
    constexpr std::uint64_t ROUNDS = 2;
    for (const std::size_t size : {1 * KIB, 8 * KIB, 1 * MIB}) {
        const Buffer buffer(vram, VRAM, size < page_size() ? page_size() : size);
        const auto number = inode(buffer.dmabuf().fd());
        const std::uint64_t bytes = 2 * ROUNDS * size;
        // The first ones may take another way, until there is a connection.
        there_and_back(world, buffer.bytes().first(size), 1);
        world.barrier();
        const Mrs before = mrs_on(number);
        const std::uint64_t packets_before = packets_sent();
        world.barrier();
        for (std::uint64_t i = 0; i < ROUNDS; ++i)
            there_and_back(world, buffer.bytes().first(size), 10 + i);
        world.barrier();
        const Mrs mrs = mrs_on(number);
        const std::uint64_t packets = packets_sent() - packets_before;
        const auto count = world.sum(mrs.count);
        const auto read = world.sum(mrs.read - before.read);
        const auto written = world.sum(mrs.written - before.written);
        world.expect(mrs.count == mrs.lent, "an MR whose backend is not pfn");
        world.expect(packets * 4096 >= bytes, "fewer packets than RDMA needs");
        if (size == 1 * MIB)
            world.expect(read >= bytes && written >= bytes,
                         "not all of it by RDMA, without copies");
        world.verdict(std::format("{} messages of {} B, {} packets", 2 * ROUNDS, size, packets),
                      std::format("{} MRs of the buffers, backend pfn; {} % read from them, "
                                  "{} % written to them",
                                  count, 100 * read / bytes, 100 * written / bytes));
    }
}

} // namespace pfn::mpi
