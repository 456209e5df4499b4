// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
#include "pfn_demo/cost.hpp"

#include "common/meminfo.hpp"

#include <algorithm>
#include <chrono>
#include <functional>
#include <vector>

namespace pfn::demo {
namespace {

constexpr int TIME_ROUNDS = 31;

/// Enough MRs to see a few hundred bytes each in /proc/meminfo, which counts in
/// pages, and not so many that ordinary MRs of large memory take for ever.
std::size_t mrs_for_slab(std::uint64_t size) {
    return std::clamp<std::uint64_t>((std::uint64_t{4} << 30U) / size, 64, 1024);
}

double median(std::vector<double> values) {
    std::ranges::sort(values);
    return values[values.size() / 2];
}

/// A way to register the memory.
struct Kind {
    std::function<Mr()> make;
    std::vector<double> times; ///< nanoseconds
    std::vector<Mr> kept;      ///< MRs made to be weighed
    double slab = 0;           ///< bytes per MR
};

void measure_time(Kind& kind) {
    const auto start = std::chrono::steady_clock::now();
    const Mr mr = kind.make();
    kind.times.push_back(
        std::chrono::duration<double, std::nano>(std::chrono::steady_clock::now() - start).count());
}

/// Make @p count MRs more and keep them.
void make_and_keep(Kind& kind, std::size_t count) {
    kind.kept.reserve(kind.kept.size() + count);
    for (std::size_t i = 0; i < count; ++i)
        kind.kept.push_back(kind.make());
}

void measure_slab(Kind& kind, std::size_t count) {
    const auto before = read_meminfo().slab_unreclaimable;
    make_and_keep(kind, count);
    const auto after = read_meminfo().slab_unreclaimable;
    kind.slab = std::max(static_cast<double>(after) - static_cast<double>(before), 0.0) /
                static_cast<double>(count);
}

CostRow row(const Kind& kind, std::uint64_t ranges, std::uint64_t own_bytes) {
    return {.ranges = ranges,
            .slab_bytes = kind.slab,
            .own_bytes = own_bytes,
            .register_ns = median(kind.times)};
}

} // namespace

Cost measure_cost(const VramDevice& vram, const Pd& pd, std::uint64_t size) {
    const Mapping ordinary = Mapping::anonymous(size);
    std::ranges::fill(ordinary.bytes(), std::byte{1}); // every page present
    const auto system_memory = [&](std::uint64_t chunk) {
        return vram.alloc({.size = size, .chunk = chunk, .placement = PFN_VRAM_PLACEMENT_SYSTEM});
    };
    const DmaBuf contiguous = system_memory(0);
    const DmaBuf fragmented = system_memory(page_size());

    Kind host{.make = [&] { return Mr::host(pd, ordinary.bytes()); }, .times = {}, .kept = {}};
    Kind one{.make = [&] { return Mr::dmabuf(pd, contiguous.fd(), 0, size, 0); },
             .times = {},
             .kept = {}};
    Kind many{.make = [&] { return Mr::dmabuf(pd, fragmented.fd(), 0, size, 0); },
              .times = {},
              .kept = {}};
    // The first loan of a buffer is checked and shared by all that follow.
    for (int i = 0; i < TIME_ROUNDS; ++i) {
        for (Kind* kind : {&host, &one, &many})
            measure_time(*kind);
    }
    // Slabs keep room for objects that were freed before. Fill that up, and let
    // all MRs live until the last kind is weighed, so that each needs new room.
    const std::size_t count = mrs_for_slab(size);
    for (Kind* kind : {&host, &one, &many})
        make_and_keep(*kind, count / 2);
    for (Kind* kind : {&host, &one, &many})
        measure_slab(*kind, count);

    const auto one_info = one.make().query();
    const auto many_info = many.make().query();
    return {.host = row(host, size / page_size(), 0),
            .contiguous = row(one, one_info.ranges, one_info.metadata_bytes),
            .fragmented = row(many, many_info.ranges, many_info.metadata_bytes)};
}

} // namespace pfn::demo
