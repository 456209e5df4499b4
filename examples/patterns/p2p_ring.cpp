// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
//
// N processes, each with a buffer of device memory, in a ring, as collectives are made
// of. Data goes around it from device memory to device memory: no process copies a byte,
// or has it in its own memory. Each adds its number to a sum that travels along.
//
//   p2p_ring [PROCESSES [RDMA_DEVICE]]      4, the first
#include "common/pattern.hpp"
#include "common/process.hpp"
#include "common/vram.hpp"
#include "patterns/ends.hpp"

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

/// What neighbours have to know of a process.
struct Address {
    pfn::QpAddress from_left; ///< its queue pair for the process before it
    pfn::QpAddress to_right;  ///< and for the one behind it
    std::uint32_t rkey = 0;   ///< of its buffer, which begins at address 0
};
struct Neighbours {
    Address left;
    Address right;
};

std::uint64_t& sum_in(const pfn::Mapping& cpu) {
    return *reinterpret_cast<std::uint64_t*>(cpu.bytes().data() + SUM);
}

/// What process number @p rank does. Returns its exit status.
int member(unsigned rank, const std::string& rdma, const pfn::Channel& parent) {
    pfn::End self(rdma); // its queue pair is for the process before it
    const pfn::VramDevice device;
    const pfn::DmaBuf buffer = device.alloc({.size = SIZE});
    const pfn::Mapping cpu = buffer.map();
    const pfn::Mr mr = pfn::Mr::dmabuf(self.pd, buffer.fd(), 0, SIZE, /*iova=*/0);
    pfn::Qp to_right(self.context, self.pd, self.cq);

    // Everybody tells the parent, and learns of two others.
    parent.send(Address{self.qp.address(), to_right.address(), mr.rkey()});
    const auto neighbours = parent.recv<Neighbours>();
    self.qp.connect(neighbours.left.to_right);
    to_right.connect(neighbours.right.from_left);
    self.qp.post_recv(1, {}); // the immediate of a write takes a receive
    parent.send(true);
    (void)parent.recv<bool>(); // all are ready

    const auto pass_on = [&] {
        to_right.post_write_imm(2, ibv_sge{0, SIZE, mr.lkey()},
                                {.address = 0, .rkey = neighbours.right.rkey}, rank);
    };
    if (rank == 0) {
        pfn::fill_pattern(cpu.bytes().subspan(PAYLOAD), SEED);
        sum_in(cpu) = 0;
        pass_on();
    }
    // Number 0 has two completions: of what it sent first, and of what came around.
    bool arrived = false;
    while (!arrived)
        arrived = pfn::complete(self.cq).opcode == IBV_WC_RECV_RDMA_WITH_IMM;
    if (pfn::find_mismatch(cpu.bytes().subspan(PAYLOAD), SEED))
        throw std::runtime_error("the data is wrong when it gets to " + std::to_string(rank));
    sum_in(cpu) += rank;
    if (rank != 0) {
        pass_on();
        pfn::complete(self.cq);
    }
    parent.send(sum_in(cpu));
    (void)parent.recv<bool>(); // nobody leaves before all have what they wait for
    return 0;
}

/// Introduce them to each other, and let them go.
void introduce(std::deque<pfn::Child>& ring) {
    std::vector<Address> addresses;
    addresses.reserve(ring.size());
    for (pfn::Child& child : ring)
        addresses.push_back(child.channel().recv<Address>());
    const std::size_t n = ring.size();
    for (std::size_t i = 0; i < n; ++i)
        ring[i].channel().send(Neighbours{addresses[(i + n - 1) % n], addresses[(i + 1) % n]});
    for (pfn::Child& child : ring)
        (void)child.channel().recv<bool>();
    for (pfn::Child& child : ring)
        child.channel().send(true);
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
    introduce(ring);

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
