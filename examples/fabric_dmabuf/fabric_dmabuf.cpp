// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
//
// Device memory under libfabric: the descriptor of a dma-buf, registered with FI_MR_DMABUF
// at the provider "verbs". Messages, RMA and atomics use it, while its driver moves it.
#include "common/evictor.hpp"
#include "common/pattern.hpp"
#include "common/vram.hpp"
#include "fabric_dmabuf/pair.hpp"

#include <algorithm>
#include <array>
#include <format>
#include <print>
#include <string>

namespace {

using pfn::fabric::Endpoint;
using pfn::fabric::Memory;
using pfn::fabric::Target;
using pfn::fabric::verdict;

constexpr std::size_t SIZE = 256 << 10; ///< of the buffer: data, then a page for the rest
constexpr std::size_t DATA = SIZE - 4096;
constexpr std::size_t COUNTER = DATA; ///< where the counter for atomics is
constexpr unsigned ROUNDS = 20;
/// Patterns of messages to the GPU and from it; those of RMA are the rounds.
constexpr std::uint64_t REQUEST = 1001;
constexpr std::uint64_t ANSWER = 1002;

std::uint64_t& counter_in(std::span<std::byte> memory) {
    return *reinterpret_cast<std::uint64_t*>(memory.subspan(COUNTER).data());
}

/// What the provider offers of it on 64-bit integers; rxe has fetch-and-add and
/// compare-and-swap, the other two are a write and a read.
std::string atomics_of(const Endpoint& end) {
    struct Atomic {
        const char* name;
        fi_op op;
        std::uint64_t flags;
    };
    constexpr std::array<Atomic, 6> all{{{"write", FI_ATOMIC_WRITE, 0},
                                         {"read", FI_ATOMIC_READ, FI_FETCH_ATOMIC},
                                         {"sum", FI_SUM, 0},
                                         {"fetch and sum", FI_SUM, FI_FETCH_ATOMIC},
                                         {"fetch and or", FI_BOR, FI_FETCH_ATOMIC},
                                         {"compare and swap", FI_CSWAP, FI_COMPARE_ATOMIC}}};
    std::string names;
    for (const Atomic& atomic : all) {
        if (end.has_atomic(atomic.op, atomic.flags))
            names += std::string(names.empty() ? "" : ", ") + atomic.name;
    }
    return names;
}

/// Messages: the peer sends into device memory, and receives from it.
bool answer_messages(const Endpoint& end, std::span<std::byte> data, const Memory& memory) {
    end.complete(); // the receive
    const bool fine = verdict("message into device memory", !pfn::find_mismatch(data, REQUEST));
    pfn::fill_pattern(data, ANSWER);
    end.send(data, memory);
    end.complete();
    return fine;
}

int gpu(const Endpoint& end, const pfn::Channel& peer) {
    const pfn::VramDevice device;
    const pfn::DmaBuf buffer = device.alloc({.size = SIZE});
    const pfn::Mapping cpu = buffer.map();
    const auto bytes = cpu.bytes();
    const auto data = bytes.first(DATA);
    // Addresses count from the base, as with the pointer that an allocator of a GPU gives
    // out. It has to be one that the CPU can use, too: libfabric sends a message of a few
    // bytes inline, which means that it reads them itself.
    const Memory memory = end.register_dmabuf(buffer.fd(), 0, SIZE, bytes.data());
    bool fine = verdict(std::format("FI_MR_DMABUF on {}", end.device()),
                        device.buf_info(buffer.fd()).attachments == 1);

    std::println("atomics of the provider: {}", atomics_of(end));

    end.receive(data, memory);
    peer.send(Target{reinterpret_cast<std::uint64_t>(bytes.data()), memory.key()});
    fine &= answer_messages(end, data, memory);

    const pfn::Evictor evictor(device, buffer.fd(), std::chrono::milliseconds(1));
    evictor.wait_for_more(0);
    peer.send(true); // it is moving
    (void)peer.recv<bool>();
    evictor.wait_for_more(1);
    fine &= verdict("the CPU sees the last write", !pfn::find_mismatch(data, ROUNDS));
    fine &= verdict("and the counter", counter_in(bytes) == 2UL * ROUNDS);
    std::println("the memory was moved {} times meanwhile", evictor.moves());
    return fine ? 0 : 1;
}

/// Write, read back, and count, in each round. Returns if all came back.
bool use_remotely(const Endpoint& end, std::span<std::byte> bytes, const Memory& memory,
                  Target target) {
    const auto data = bytes.first(DATA);
    const Target counter{target.address + COUNTER, target.key};
    std::uint64_t& before = counter_in(bytes);
    bool rma = true;
    bool atomics = true;
    for (unsigned round = 1; round <= ROUNDS; ++round) {
        pfn::fill_pattern(data, round);
        end.write(data, memory, target);
        end.complete();
        std::ranges::fill(data, std::byte{0});
        end.read(data, memory, target);
        end.complete();
        rma &= !pfn::find_mismatch(data, round);

        const std::uint64_t count = 2UL * (round - 1);
        end.fetch_add(before, memory, counter, 1);
        end.complete();
        atomics &= before == count;
        end.compare_swap(before, memory, counter, count + 1, count + 2);
        end.complete();
        atomics &= before == count + 1;
    }
    const bool fine = verdict("RMA writes and reads", rma);
    return verdict("fetch-and-add, compare-and-swap", atomics) && fine;
}

int peer(const Endpoint& end, const pfn::Channel& gpu) {
    const auto mapping = pfn::Mapping::anonymous(SIZE);
    const auto data = mapping.bytes().first(DATA);
    const Memory memory = end.register_memory(mapping.bytes());
    const auto target = gpu.recv<Target>();

    pfn::fill_pattern(data, REQUEST);
    end.send(data, memory);
    end.complete();
    end.receive(data, memory);
    end.complete();
    bool fine = verdict("message out of device memory", !pfn::find_mismatch(data, ANSWER));

    (void)gpu.recv<bool>();
    fine &= use_remotely(end, mapping.bytes(), memory, target);
    gpu.send(true);
    return fine ? 0 : 1;
}

} // namespace

int main(int argc, char** argv) {
    return pfn::fabric::run_pair(argc, argv, "libfabric on a dma-buf, by its descriptor.", gpu,
                                 peer);
}
