// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
#include "common/pattern.hpp"
#include "mpi/checks.hpp"

#include <mpi.h>

#include <algorithm>
#include <format>

namespace pfn::mpi {
namespace {

constexpr int ROWS = 100;
constexpr int ROW = 2048;  ///< bytes
constexpr int LEFT = 100;  ///< the column where the part begins that is sent
constexpr int WIDTH = 901; ///< bytes of a row that are sent
constexpr std::size_t SIZE = std::size_t{ROWS} * ROW;

/// A type that is freed at the end.
class Datatype {
  public:
    /// The middle of a matrix of bytes.
    static Datatype columns() {
        MPI_Datatype type = MPI_DATATYPE_NULL;
        MPI_Type_vector(ROWS, WIDTH, ROW, MPI_BYTE, &type);
        return Datatype(type);
    }
    ~Datatype() { MPI_Type_free(&type_); }
    Datatype(const Datatype&) = delete;
    Datatype& operator=(const Datatype&) = delete;
    [[nodiscard]] MPI_Datatype get() const { return type_; }

  private:
    explicit Datatype(MPI_Datatype type) : type_(type) { MPI_Type_commit(&type_); }
    MPI_Datatype type_;
};

/// Does each row have the sender's bytes in the middle, and its own around them?
bool only_columns_arrived(std::span<const std::byte> bytes, std::uint64_t sent, std::uint64_t own) {
    for (std::size_t at = 0; at < SIZE; at += ROW) {
        const auto row = bytes.subspan(at, ROW);
        if (find_mismatch(row.first(LEFT), own, at) ||
            find_mismatch(row.subspan(LEFT, WIDTH), sent, at + LEFT) ||
            find_mismatch(row.subspan(LEFT + WIDTH), own, at + LEFT + WIDTH))
            return false;
    }
    return true;
}

/// The same, sent with holes and received without.
bool packed(std::span<const std::byte> bytes, std::uint64_t sent) {
    for (std::size_t row = 0; row < ROWS; ++row) {
        if (find_mismatch(bytes.subspan(row * WIDTH, WIDTH), sent, row * ROW + LEFT))
            return false;
    }
    return true;
}

} // namespace

void datatypes(World& world, const VramDevice& vram) {
    const Datatype columns = Datatype::columns();
    for (const Kind& kind : KINDS) {
        const Buffer buffer(vram, kind, SIZE);
        Mover mover(vram, buffer);
        fill_pattern(buffer.bytes(), static_cast<std::uint64_t>(world.rank()));
        if (world.rank() == 0) {
            MPI_Send(buffer.data() + LEFT, 1, columns.get(), 1, 1, MPI_COMM_WORLD);
            MPI_Send(buffer.data() + LEFT, 1, columns.get(), 1, 2, MPI_COMM_WORLD);
        } else {
            MPI_Recv(buffer.data() + LEFT, 1, columns.get(), 0, 1, MPI_COMM_WORLD,
                     MPI_STATUS_IGNORE);
            world.expect(only_columns_arrived(buffer.bytes(), 0, 1), "columns to columns");
            MPI_Recv(buffer.data(), ROWS * WIDTH, MPI_BYTE, 0, 2, MPI_COMM_WORLD,
                     MPI_STATUS_IGNORE);
            world.expect(packed(buffer.bytes(), 0), "columns to a packed buffer");
        }
        const auto moves = world.sum(mover.stop());
        world.verdict(std::format("a part of a matrix, {}", kind.name),
                      std::format("{} moves", moves));
    }
}

} // namespace pfn::mpi
