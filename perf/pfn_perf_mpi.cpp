// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
//
// pfn-perf-mpi-ranks: latency and bandwidth of MPI between two ranks, with buffers in
// host memory and in device memory by turns. pfn-perf-mpi starts it.
#include "common/vram.hpp"
#include "record.hpp"

#include <CLI/CLI.hpp>
#include <mpi.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <iostream>
#include <string>
#include <vector>

namespace pfn {
namespace {

constexpr std::size_t MAX_SIZE = 1 << 20;
constexpr int WINDOW = 8; ///< messages on their way when bandwidth is measured

/// Memory that messages are sent from and received in.
struct Memory {
    std::string name;
    Mapping mapping;
    MPI_Win window = MPI_WIN_NULL;
};

std::vector<Memory> memories(const VramDevice& vram) {
    std::vector<Memory> all;
    all.push_back({"host", Mapping::anonymous(MAX_SIZE)});
    all.push_back({"pfn-vram", vram.alloc({.size = MAX_SIZE}).map()});
    all.push_back({"pfn-fragmented", vram.alloc({.size = MAX_SIZE,
                                                 .chunk = page_size(),
                                                 .placement = PFN_VRAM_PLACEMENT_SYSTEM})
                                         .map()});
    for (Memory& memory : all) {
        std::ranges::fill(memory.mapping.bytes(), std::byte{1});
        MPI_Win_create(memory.mapping.bytes().data(), MAX_SIZE, 1, MPI_INFO_NULL, MPI_COMM_WORLD,
                       &memory.window);
    }
    return all;
}

class Ranks {
  public:
    Ranks() { MPI_Comm_rank(MPI_COMM_WORLD, &rank_); }
    [[nodiscard]] int rank() const { return rank_; }

    /// Microseconds that a message takes one way, of @p count there and back.
    [[nodiscard]] double latency_us(const Memory& memory, int size, int count) const {
        auto* const data = memory.mapping.bytes().data();
        MPI_Barrier(MPI_COMM_WORLD);
        const double start = MPI_Wtime();
        for (int i = 0; i < count; ++i) {
            if (rank_ == 0)
                MPI_Send(data, size, MPI_BYTE, 1, 0, MPI_COMM_WORLD);
            MPI_Recv(data, size, MPI_BYTE, 1 - rank_, 0, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
            if (rank_ == 1)
                MPI_Send(data, size, MPI_BYTE, 0, 0, MPI_COMM_WORLD);
        }
        return (MPI_Wtime() - start) * 1e6 / (2 * count);
    }

    /// MiB/s from rank 0 to rank 1, WINDOW messages at a time.
    [[nodiscard]] double bandwidth_mib(const Memory& memory, int size, int count) const {
        auto* const data = memory.mapping.bytes().data();
        std::array<MPI_Request, WINDOW> requests{};
        MPI_Barrier(MPI_COMM_WORLD);
        const double start = MPI_Wtime();
        for (int i = 0; i < count; ++i) {
            for (MPI_Request& request : requests) {
                if (rank_ == 0)
                    MPI_Isend(data, size, MPI_BYTE, 1, 1, MPI_COMM_WORLD, &request);
                else
                    MPI_Irecv(data, size, MPI_BYTE, 0, 1, MPI_COMM_WORLD, &request);
            }
            MPI_Waitall(WINDOW, requests.data(), MPI_STATUSES_IGNORE);
        }
        // The end is when rank 1 has everything.
        MPI_Barrier(MPI_COMM_WORLD);
        return mib_per_s(size, count * WINDOW, start);
    }

    /// MiB/s that rank 0 puts into rank 1's window.
    [[nodiscard]] double put_mib(const Memory& memory, int size, int count) const {
        auto* const data = memory.mapping.bytes().data();
        MPI_Win_fence(0, memory.window);
        const double start = MPI_Wtime();
        for (int i = 0; rank_ == 0 && i < count * WINDOW; ++i)
            MPI_Put(data, size, MPI_BYTE, 1, 0, size, MPI_BYTE, memory.window);
        MPI_Win_fence(0, memory.window);
        return mib_per_s(size, count * WINDOW, start);
    }

  private:
    static double mib_per_s(int size, int count, double start) {
        return static_cast<double>(size) * count / (1 << 20) / (MPI_Wtime() - start);
    }
    int rank_ = 0;
};

struct Metric {
    const char* name;
    const char* unit;
    perf::Better better;
    std::vector<int> sizes;
    double (Ranks::*measure)(const Memory&, int, int) const;
};

int run(int argc, char** argv) {
    CLI::App app("MPI: latency and bandwidth of device memory against host memory");
    bool quick = false;
    std::string json;
    std::string mpi = "mpich";
    app.add_flag("--quick", quick, "few rounds: whether it works, not how fast it is");
    app.add_option("--json", json, "write all samples to this file");
    app.add_option("--mpi", mpi, "what to call the MPI in the record");
    CLI11_PARSE(app, argc, argv);

    const Metric metrics[] = {
        {"mpi_latency", "us", perf::Better::LOWER, {8, 4096, 65536, 1 << 20}, &Ranks::latency_us},
        {"mpi_bandwidth",
         "MiB/s",
         perf::Better::HIGHER,
         {4096, 65536, 1 << 20},
         &Ranks::bandwidth_mib},
        {"mpi_put", "MiB/s", perf::Better::HIGHER, {4096, 65536, 1 << 20}, &Ranks::put_mib},
    };
    const Ranks ranks;
    const VramDevice vram;
    std::vector<Memory> all = memories(vram);
    perf::Record record("mpi");
    for (const Metric& metric : metrics) {
        for (const int size : metric.sizes) {
            perf::Measurement& row =
                record.add({.metric = metric.name,
                            .unit = metric.unit,
                            .better = metric.better,
                            .params = {{"size", std::int64_t{size}}, {"mpi", mpi}},
                            .baseline = "host",
                            .variants = {}});
            // As many bytes for each size, within reason.
            const int count = quick ? 1 : std::clamp((1 << 20) / size, 2, 50);
            const auto sample = [&](std::size_t way) {
                return (ranks.*metric.measure)(all[way], size, count);
            };
            for (std::size_t way = 0; way < all.size(); ++way)
                sample(way); // connections and registrations are there after that
            perf::by_turns(quick ? 2 : 15, all.size(),
                           [&](std::size_t way) { row.add(all[way].name, sample(way)); });
        }
    }
    for (Memory& memory : all)
        MPI_Win_free(&memory.window);
    if (ranks.rank() == 0) {
        record.print(std::cout);
        record.write_json(json);
    }
    return 0;
}

} // namespace
} // namespace pfn

int main(int argc, char** argv) {
    MPI_Init(&argc, &argv);
    try {
        const int status = pfn::run(argc, argv);
        MPI_Finalize();
        return status;
    } catch (const std::exception& e) {
        std::cerr << "pfn-perf-mpi: " << e.what() << '\n';
        MPI_Abort(MPI_COMM_WORLD, 1);
        return 1;
    }
}
