// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
//
// MPI libraries keep registrations and find them again by address. Here another buffer
// comes to the address of one that has been registered and freed, again and again; a
// registration that is used although its buffer has gone shows as data from, or data
// that goes to, the old one.
#include "common/error.hpp"
#include "common/pattern.hpp"
#include "mpi/checks.hpp"
#include "support/rdma_tool.hpp"

#include <mpi.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <format>
#include <functional>
#include <utility>

namespace pfn::mpi {
namespace {

constexpr std::size_t SIZE = 128 * KIB; ///< large enough to go without copies
constexpr int PROT = PROT_READ | PROT_WRITE;

/// Addresses that are this process's, for one buffer after the other.
class Place {
  public:
    Place() : place_(Mapping::anonymous(SIZE)) {}
    [[nodiscard]] std::byte* data() const { return place_.bytes().data(); }
    [[nodiscard]] std::span<std::byte> bytes() const { return place_.bytes(); }

  private:
    Mapping place_;
};

void check(bool right, const char* what) {
    if (!right)
        throw_errno(what);
}

/// A way to have other memory at an address.
struct Way {
    const char* name;
    void (*replace)(std::byte* at, int fd);
};

/// By the C library's functions, which MPI libraries patch to learn of it.
const Way SEEN[] = {
    {"munmap, then mmap",
     [](std::byte* at, int fd) {
         check(::munmap(at, SIZE) == 0, "munmap");
         check(::mmap(at, SIZE, PROT, MAP_SHARED | MAP_FIXED_NOREPLACE, fd, 0) == at, "mmap");
     }},
    {"mmap over it",
     [](std::byte* at, int fd) {
         check(::mmap(at, SIZE, PROT, MAP_SHARED | MAP_FIXED, fd, 0) == at, "mmap");
     }},
    {"munmap in two halves, then mmap",
     [](std::byte* at, int fd) {
         check(::munmap(at + SIZE / 2, SIZE / 2) == 0, "munmap");
         check(::munmap(at, SIZE / 2) == 0, "munmap");
         check(::mmap(at, SIZE, PROT, MAP_SHARED | MAP_FIXED_NOREPLACE, fd, 0) == at, "mmap");
     }},
    {"mremap away, then mmap",
     [](std::byte* at, int fd) {
         const Mapping elsewhere = Mapping::anonymous(SIZE);
         check(::mremap(at, SIZE, SIZE, MREMAP_MAYMOVE | MREMAP_FIXED, elsewhere.bytes().data()) !=
                   MAP_FAILED,
               "mremap");
         check(::mmap(at, SIZE, PROT, MAP_SHARED | MAP_FIXED_NOREPLACE, fd, 0) == at, "mmap");
     }},
};

/// By means that libraries do not look at, be it device memory or not.
const Way UNSEEN[] = {
    {"mremap over it",
     [](std::byte* at, int fd) {
         void* const from = ::mmap(nullptr, SIZE, PROT, MAP_SHARED, fd, 0);
         check(from != MAP_FAILED, "mmap");
         check(::mremap(from, SIZE, SIZE, MREMAP_MAYMOVE | MREMAP_FIXED, at) == at, "mremap");
     }},
    {"system calls, without the C library",
     [](std::byte* at, int fd) {
         check(::syscall(SYS_munmap, at, SIZE) == 0, "munmap");
         check(::syscall(SYS_mmap, at, SIZE, PROT, MAP_SHARED | MAP_FIXED, fd, 0) ==
                   reinterpret_cast<long>(at),
               "mmap");
     }},
};

/// Send from the new buffer and receive into it. Is it this one that both meet?
bool is_served(const World& world, const Place& place, std::uint64_t seed) {
    const auto bytes = place.bytes();
    bool right = true;
    for (int from = 0; from < 2; ++from) {
        fill_pattern(bytes, world.rank() == from ? seed : seed + 1);
        if (world.rank() == from) {
            MPI_Send(bytes.data(), SIZE, MPI_BYTE, world.peer(), 1, MPI_COMM_WORLD);
        } else {
            MPI_Recv(bytes.data(), SIZE, MPI_BYTE, from, 1, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
            right = right && !find_mismatch(bytes, seed);
        }
        seed += 2;
    }
    return right;
}

using NewMemory = std::function<DmaBuf()>;

/// What has come of some rounds, on both ranks together.
struct Outcome {
    std::uint64_t stale = 0; ///< rounds in which old memory was met
    std::uint64_t moved = 0; ///< bytes of the last round that the new buffers' MRs moved
};

Outcome replace_and_use(const World& world, const Way& way, unsigned rounds,
                        const NewMemory& memory) {
    const Place place;
    std::uint64_t stale = 0;
    Mrs mrs;
    for (unsigned i = 0; i < rounds; ++i) {
        DmaBuf buffer = memory();
        const auto number = inode(buffer.fd());
        way.replace(place.data(), buffer.fd());
        buffer.close(); // the mapping has it, and MRs may
        stale += !is_served(world, place, 1000 + 4 * i);
        if (i == rounds - 1)
            mrs = mrs_on(number);
    }
    return {.stale = world.sum(stale), .moved = world.sum(mrs.read + mrs.written)};
}

/// Host memory that can be mapped in the same ways.
DmaBuf memfd() {
    Fd fd(::memfd_create("mpi", MFD_CLOEXEC));
    check(fd.get() >= 0, "memfd_create");
    check(::ftruncate(fd.get(), SIZE) == 0, "ftruncate");
    return {std::move(fd), SIZE};
}

} // namespace

void reuse(World& world, const VramDevice& vram) {
    constexpr unsigned ROUNDS = 6;
    const std::size_t before = dmabufs_with_mrs(); // of who was here before
    for (const Way& way : SEEN) {
        for (const Kind& kind : {KINDS[0], KINDS[3]}) {
            const auto outcome = replace_and_use(world, way, ROUNDS, [&] {
                return vram.alloc({.size = SIZE,
                                   .chunk = kind.fragmented ? page_size() : 0,
                                   .placement = kind.placement});
            });
            world.expect(outcome.stale == 0,
                         std::format("{} rounds met an old buffer", outcome.stale));
            // At least the last message, read on one side and written on the other. Before
            // that there may have been another MR, with fewer rights.
            world.expect(outcome.moved >= 2 * SIZE, "the buffers were not registered");
            world.verdict(std::format("{}, {}", way.name, kind.name),
                          std::format("{} buffers at one address", 2 * ROUNDS));
        }
    }
    world.expect(dmabufs_with_mrs() <= before + 1, "old buffers are still registered");
    world.verdict("nothing keeps the buffers that were freed");
}

void unseen_reuse(World& world, const VramDevice& vram) {
    constexpr unsigned ROUNDS = 4;
    for (const Way& way : UNSEEN) {
        const auto device =
            replace_and_use(world, way, ROUNDS, [&] { return vram.alloc({.size = SIZE}); });
        const auto host = replace_and_use(world, way, ROUNDS, memfd);
        world.expect(device.stale == 0, std::format("{} rounds met an old buffer", device.stale));
        world.verdict(
            std::format("{}: old device memory was met in {} rounds, old host memory in {}",
                        way.name, device.stale, host.stale));
    }
}

} // namespace pfn::mpi
