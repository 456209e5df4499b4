// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
#include "mpi/world.hpp"

#include "support/rdma_tool.hpp"

#include <mpi.h>
#include <unistd.h>

#include <iostream>
#include <set>

namespace pfn::mpi {
namespace {

/// MRs of this process that are of dma-bufs.
std::vector<Json> own_mrs() {
    std::vector<Json> own;
    for (const Json& mr : rdma("-dd resource show mr")) {
        if (mr.value("pid", 0) == ::getpid() && mr.contains("drv_dmabuf"))
            own.push_back(mr);
    }
    return own;
}

} // namespace

World::World(int* argc, char*** argv) {
    int level = 0;
    MPI_Init_thread(argc, argv, MPI_THREAD_FUNNELED, &level);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank_);
    int size = 0;
    MPI_Comm_size(MPI_COMM_WORLD, &size);
    if (size != 2) {
        std::cerr << "pfn-mpi-test: to be started with two ranks\n";
        MPI_Abort(MPI_COMM_WORLD, 2);
    }
}

World::~World() {
    MPI_Finalize();
}

void World::barrier() const {
    MPI_Barrier(MPI_COMM_WORLD);
}

void World::expect(bool right, const std::string& what) {
    if (right)
        return;
    wrong_++;
    std::cout << "rank " << rank_ << ": " << what << '\n' << std::flush;
}

void World::verdict(const std::string& name, const std::string& note) {
    const bool good = sum(static_cast<std::uint64_t>(wrong_)) == 0;
    wrong_ = 0;
    (good ? passed_ : failed_)++;
    if (rank_ == 0)
        std::cout << (good ? "PASS  " : "FAIL  ") << name
                  << (note.empty() ? "" : "  [" + note + "]") << '\n'
                  << std::flush;
}

std::uint64_t World::sum(std::uint64_t value) const {
    std::uint64_t all = 0;
    MPI_Allreduce(&value, &all, 1, MPI_UINT64_T, MPI_SUM, MPI_COMM_WORLD);
    return all;
}

Buffer::Buffer(const VramDevice& vram, const Kind& kind, std::uint64_t size)
    : dmabuf_(vram.alloc(
          {.size = size, .chunk = kind.fragmented ? page_size() : 0, .placement = kind.placement})),
      mapping_(dmabuf_.map()) {}

Mrs mrs_on(std::uint64_t number) {
    Mrs mrs;
    std::set<std::pair<std::string, std::uint64_t>> keys;
    for (const Json& mr : own_mrs()) {
        if (mr.at("drv_dmabuf") != number)
            continue;
        mrs.count++;
        mrs.lent += mr.at("drv_backend") == "pfn";
        keys.emplace(mr.at("ifname"), mr.at("mrn"));
    }
    if (keys.empty())
        return mrs;
    for (const Json& mr : rdma("statistic show mr")) {
        if (!keys.contains({mr.at("ifname"), mr.at("mrn")}))
            continue;
        mrs.read += mr.at("bytes_read").get<std::uint64_t>();
        mrs.written += mr.at("bytes_written").get<std::uint64_t>();
        mrs.faults += mr.at("page_faults").get<std::uint64_t>();
    }
    return mrs;
}

std::size_t dmabufs_with_mrs() {
    std::set<std::uint64_t> numbers;
    for (const Json& mr : own_mrs())
        numbers.insert(mr.at("drv_dmabuf").get<std::uint64_t>());
    return numbers.size();
}

std::uint64_t packets_sent() {
    std::uint64_t sum = 0;
    for (const Json& link : rdma("statistic show link"))
        sum += link.value("sent_pkts", std::uint64_t{0});
    return sum;
}

Mover::Mover(const VramDevice& vram, const Buffer& buffer)
    : thread_([this, &vram, fd = buffer.dmabuf().fd()](const std::stop_token& stop) {
          try {
              for (unsigned i = 0; !stop.stop_requested(); ++i) {
                  vram.move(fd, i % 2 ? PFN_VRAM_PLACEMENT_VRAM : PFN_VRAM_PLACEMENT_SYSTEM,
                            i % 3 ? 0 : page_size());
                  moves_.fetch_add(1);
              }
          } catch (...) {
              error_ = std::current_exception();
          }
      }) {}

unsigned Mover::stop() {
    thread_.request_stop();
    thread_.join();
    if (error_)
        std::rethrow_exception(error_);
    return moves_.load();
}

} // namespace pfn::mpi
