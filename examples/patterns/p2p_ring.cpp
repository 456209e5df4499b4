// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
//
// N processes, each with a buffer of device memory, in a ring, as collectives are made
// of. Data goes around it from device memory to device memory: no process copies a byte,
// or has it in its own memory. Each adds its number to a sum that travels along.
//
//   p2p_ring [PROCESSES [RDMA_DEVICE]]      4, the first
#include "common/pattern.hpp"
#include "common/ring.hpp"
#include "common/vram.hpp"

#include <cstdlib>
#include <deque>
#include <print>
#include <string>

namespace {

constexpr std::uint32_t SIZE = 64 << 10;
constexpr std::uint32_t SUM = 0;        ///< where in the buffer the sum is
constexpr std::uint32_t PAYLOAD = 4096; ///< and the data
constexpr std::uint64_t SEED = 7;
constexpr unsigned MOST = 8;

std::uint64_t& sum_in(const pfn::Mapping& cpu) {
    return *reinterpret_cast<std::uint64_t*>(cpu.bytes().data() + SUM);
}

/// What process number @p rank does. Returns its exit status.
int member(unsigned rank, const std::string& rdma, const pfn::Channel& parent) {
    pfn::RingMember ring(rdma);
    const pfn::VramDevice device;
    const pfn::DmaBuf buffer = device.alloc({.size = SIZE});
    const pfn::Mapping cpu = buffer.map();
    const pfn::Mr mr = pfn::Mr::dmabuf(ring.pd(), buffer.fd(), 0, SIZE, /*iova=*/0);
    ring.join(parent, mr.rkey(), 1);

    const auto pass_on = [&] {
        ring.write_right(1, ibv_sge{0, SIZE, mr.lkey()}, /*address=*/0, rank);
    };
    if (rank == 0) {
        pfn::fill_pattern(cpu.bytes().subspan(PAYLOAD), SEED);
        sum_in(cpu) = 0;
        pass_on();
    }
    // Number 0 has two completions: of what it sent first, and of what came around.
    bool arrived = false;
    while (!arrived)
        arrived = pfn::complete(ring.cq()).opcode == IBV_WC_RECV_RDMA_WITH_IMM;
    if (pfn::find_mismatch(cpu.bytes().subspan(PAYLOAD), SEED))
        throw std::runtime_error("the data is wrong when it gets to " + std::to_string(rank));
    sum_in(cpu) += rank;
    if (rank != 0) {
        pass_on();
        pfn::complete(ring.cq());
    }
    parent.send(sum_in(cpu));
    (void)parent.recv<bool>(); // nobody leaves before all have what they wait for
    return 0;
}

int run(std::span<char* const> arguments) {
    const std::string wanted = arguments.size() > 1 ? arguments[1] : "4";
    const auto processes = static_cast<unsigned>(std::strtoul(wanted.c_str(), nullptr, 10));
    if (processes < 2 || processes > MOST)
        throw std::runtime_error("a ring has 2 to " + std::to_string(MOST) + " processes");
    const std::string rdma = pfn::device_name(arguments, 2);

    std::deque<pfn::Child> ring;
    for (unsigned rank = 0; rank < processes; ++rank)
        ring.push_back(
            pfn::Child::fork([&](pfn::Channel& parent) { return member(rank, rdma, parent); }));
    pfn::introduce(ring);

    std::uint64_t sum = 0;
    for (unsigned i = 1; i <= processes; ++i) { // number 0 is the last to have it
        sum = ring[i % processes].channel().recv<std::uint64_t>();
        std::println("process {} has {} KiB, sum {}", i % processes, SIZE >> 10, sum);
    }
    bool fine = sum == processes * (processes - 1) / 2;
    for (pfn::Child& child : ring) {
        child.channel().send(true);
        fine &= child.wait(pfn::PATIENCE) == pfn::Exit{};
    }
    std::println("{}", fine ? "once around, nothing lost" : "something is wrong");
    return fine ? 0 : 1;
}

} // namespace

int main(int argc, char** argv) {
    return pfn::run_example(argc, argv, run);
}
