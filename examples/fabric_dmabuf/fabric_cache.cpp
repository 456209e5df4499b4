// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
//
// libfabric keeps registrations by address, and must notice when there is something else at
// an address. Device memory comes and goes at one and the same address here; a peer writes
// to what is registered there, and the CPU looks which buffer it went to.
//
//   FI_MR_CACHE_MONITOR=disabled fabric_cache       without the cache; also: userfaultfd
#include "common/pattern.hpp"
#include "common/verbs.hpp"
#include "common/vram.hpp"
#include "fabric_dmabuf/pair.hpp"

#include <sys/mman.h>

#include <print>
#include <stdexcept>
#include <string>

namespace {

using pfn::fabric::Endpoint;
using pfn::fabric::Memory;
using pfn::fabric::Target;
using pfn::fabric::verdict;

constexpr std::size_t SIZE = 2 << 20;
/// Together larger than the device memory of the lab: what the cache forgets is freed.
constexpr unsigned ROUNDS = 40;
constexpr std::size_t DATA = 64 << 10; ///< bytes at the beginning that are written and compared

/// What the gpu asks the peer for: to write the pattern @p seed; 0 is the end.
struct Request {
    Target target;
    std::uint64_t seed = 0;
};

/// A range of addresses in which buffers are mapped, one after the other.
class Place {
  public:
    /// Show @p buffer. The one before is unmapped first, or else replaced in one go.
    void show(const pfn::DmaBuf& buffer, bool unmap_first) {
        if (unmap_first)
            ::munmap(start_, SIZE);
        void* at =
            ::mmap(start_, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, buffer.fd(), 0);
        if (at == MAP_FAILED)
            pfn::throw_errno("mmap");
    }
    [[nodiscard]] std::span<std::byte> bytes() const {
        return {static_cast<std::byte*>(start_), SIZE};
    }

  private:
    // Whose address it is until the first buffer comes.
    pfn::Mapping reserved_ = pfn::Mapping::anonymous(SIZE);
    void* start_ = reserved_.bytes().data();
};

/// Has the peer write to registered memory; returns the peer's error, "" if there is none.
std::string have_written(const pfn::Channel& peer, std::span<std::byte> memory, std::uint64_t key,
                         std::uint64_t seed) {
    peer.send(Request{{reinterpret_cast<std::uint64_t>(memory.data()), key}, seed});
    const auto error = peer.recv_bytes(pfn::PATIENCE);
    return {reinterpret_cast<const char*>(error.data()), error.size() - 1}; // without the 0
}

/// A buffer, and a mapping of it elsewhere that libfabric knows nothing of.
struct Buffer {
    explicit Buffer(const pfn::VramDevice& device)
        : dmabuf(device.alloc({.size = SIZE})), elsewhere(dmabuf.map()) {}
    [[nodiscard]] std::span<std::byte> data() const { return elsewhere.bytes().first(DATA); }
    pfn::DmaBuf dmabuf;
    pfn::Mapping elsewhere;
};

struct Counts {
    unsigned stale = 0;  ///< writes that were not where they should be
    unsigned cached = 0; ///< registrations that were there already
};

/// One buffer after the other at @p place. Returns the last of them.
Buffer replace_buffers(const Endpoint& end, const pfn::Channel& peer, const pfn::VramDevice& device,
                       Place& place, Counts& counts) {
    Buffer old(device);
    pfn::fill_pattern(old.data(), 0);
    place.show(old.dmabuf, false);
    for (unsigned round = 1; round <= ROUNDS; ++round) {
        Buffer fresh(device);
        place.show(fresh.dmabuf, round % 2 == 0);
        std::uint64_t key = 0;
        {
            const Memory memory = end.register_memory(place.bytes());
            key = memory.key();
            if (const auto error = have_written(peer, place.bytes(), key, round); !error.empty())
                throw std::runtime_error("write: " + error);
        } // given back: the cache keeps it
        if (pfn::find_mismatch(fresh.data(), round) || pfn::find_mismatch(old.data(), round - 1))
            ++counts.stale;
        // The same address, with the same buffer: this is what the cache is for.
        counts.cached += end.register_memory(place.bytes()).key() == key ? 1 : 0;
        old = std::move(fresh);
    }
    return old;
}

int gpu(const Endpoint& end, const pfn::Channel& peer) {
    const pfn::VramDevice device;
    Place place;
    Counts counts;
    const Buffer last = replace_buffers(end, peer, device, place, counts);
    std::println("{} buffers at one address, {} of {} registrations of the same one cached", ROUNDS,
                 counts.cached, ROUNDS);
    bool fine = verdict("every write went to the buffer that was there", counts.stale == 0);

    // The driver takes the memory back, and gives the buffer other memory. The address is
    // what it was, so no monitor notices; the cached MR is dead, and stays so.
    device.revoke(last.dmabuf.fd());
    device.restore(last.dmabuf.fd());
    const Memory memory = end.register_memory(place.bytes());
    const std::string error = have_written(peer, place.bytes(), memory.key(), ROUNDS + 1);
    std::println("revoked and restored: a write {}", error.empty() ? "works" : "fails: " + error);
    const bool there = !pfn::find_mismatch(last.data(), ROUNDS + 1);
    fine &= verdict("and the data is there if it works", there == error.empty());
    peer.send(Request{});
    return fine ? 0 : 1;
}

int peer(const Endpoint& end, const pfn::Channel& gpu) {
    const auto mapping = pfn::Mapping::anonymous(DATA);
    const Memory memory = end.register_memory(mapping.bytes());
    for (;;) {
        const auto request = gpu.recv<Request>();
        if (request.seed == 0)
            return 0;
        pfn::fill_pattern(mapping.bytes(), request.seed);
        end.write(mapping.bytes(), memory, request.target);
        const std::string error = end.wait();
        gpu.send_bytes(std::as_bytes(std::span(error.c_str(), error.size() + 1)));
    }
}

} // namespace

int main(int argc, char** argv) {
    return pfn::fabric::run_pair(argc, argv, "libfabric's cache of registrations, and dma-bufs.",
                                 gpu, peer);
}
