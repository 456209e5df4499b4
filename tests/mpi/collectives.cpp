// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
#include "common/pattern.hpp"
#include "mpi/checks.hpp"

#include <mpi.h>

#include <algorithm>
#include <format>

namespace pfn::mpi {
namespace {

constexpr std::size_t SIZE = 128 * KIB;

std::span<float> floats(const Buffer& buffer) {
    return {reinterpret_cast<float*>(buffer.data()), buffer.bytes().size() / sizeof(float)};
}

/// What rank @p rank has at index @p i. Sums of two are exact.
float summand(int rank, std::size_t i) {
    return static_cast<float>(i % 1024) + 0.5F * static_cast<float>(rank);
}

void broadcast(World& world, const Buffer& buffer) {
    for (int root = 0; root < 2; ++root) {
        const auto seed = 10 + static_cast<std::uint64_t>(root);
        fill_pattern(buffer.bytes(), world.rank() == root ? seed : 0);
        MPI_Bcast(buffer.data(), SIZE, MPI_BYTE, root, MPI_COMM_WORLD);
        world.expect(!find_mismatch(buffer.bytes(), seed), std::format("bcast from {}", root));
    }
}

void all_reduce(World& world, const Buffer& in, const Buffer& out) {
    const auto mine = floats(in);
    const auto right = [](std::span<const float> result) {
        for (std::size_t i = 0; i < result.size(); ++i) {
            if (result[i] != summand(0, i) + summand(1, i))
                return false;
        }
        return true;
    };
    for (std::size_t i = 0; i < mine.size(); ++i)
        mine[i] = summand(world.rank(), i);
    std::ranges::fill(out.bytes(), std::byte{0});
    MPI_Allreduce(in.data(), out.data(), static_cast<int>(mine.size()), MPI_FLOAT, MPI_SUM,
                  MPI_COMM_WORLD);
    world.expect(right(floats(out)), "all-reduce");
    MPI_Allreduce(MPI_IN_PLACE, in.data(), static_cast<int>(mine.size()), MPI_FLOAT, MPI_SUM,
                  MPI_COMM_WORLD);
    world.expect(right(floats(in)), "all-reduce in place");
}

void all_to_all(World& world, const Buffer& in, const Buffer& out) {
    constexpr std::size_t HALF = SIZE / 2;
    fill_pattern(in.bytes(), 20 + static_cast<std::uint64_t>(world.rank()));
    std::ranges::fill(out.bytes(), std::byte{0});
    MPI_Alltoall(in.data(), HALF, MPI_BYTE, out.data(), HALF, MPI_BYTE, MPI_COMM_WORLD);
    for (std::size_t from = 0; from < 2; ++from) {
        const auto position = static_cast<std::uint64_t>(world.rank()) * HALF;
        world.expect(!find_mismatch(out.bytes().subspan(from * HALF, HALF), 20 + from, position),
                     std::format("all-to-all, from {}", from));
    }
}

} // namespace

void collectives(World& world, const VramDevice& vram) {
    for (const Kind& kind : KINDS) {
        const Buffer in(vram, kind, SIZE);
        const Buffer out(vram, kind, SIZE);
        Mover mover(vram, in);
        for (int i = 0; i < 50; ++i) {
            broadcast(world, out);
            all_reduce(world, in, out);
            all_to_all(world, in, out);
            if (world.sum(mover.moves()) > 0)
                break;
        }
        const auto moves = world.sum(mover.stop());
        world.expect(moves > 0, "nothing has moved");
        world.verdict(std::format("bcast, allreduce, alltoall, {}", kind.name),
                      std::format("{} moves", moves));
    }
}

} // namespace pfn::mpi
