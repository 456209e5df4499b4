// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
#include "transparent.hpp"

#include "parameter.hpp"
#include "suite.hpp"

#include "common/error.hpp"

#include <sys/mman.h>

#include <algorithm>
#include <functional>
#include <string>
#include <thread>
#include <vector>

namespace pfn::perf {
namespace {

/// One of two ways to do the same.
struct Way {
    std::string name;
    bool transparent; ///< with the parameter on
    std::function<Mr()> reg;
};

/// Mappings beside those that are registered, so that there is something to search.
class Crowd {
  public:
    explicit Crowd(std::size_t count) : memory_(Mapping::anonymous(2 * count * page_size())) {
        for (std::size_t i = 0; i < count; ++i) {
            if (::mprotect(memory_.bytes().data() + 2 * i * page_size(), page_size(), PROT_READ))
                throw_errno("mprotect");
        }
    }

  private:
    Mapping memory_;
};

/// A thread that changes the address space all the time.
class Mapper {
  public:
    Mapper()
        : thread_([](const std::stop_token& stop) {
              while (!stop.stop_requested()) {
                  const Mapping memory = Mapping::anonymous(256 * KIB);
                  std::ranges::fill(memory.bytes(), std::byte{1});
              }
          }) {}

  private:
    std::jthread thread_;
};

class Transparent {
  public:
    Transparent(Record& record, const Pd& pd, const VramDevice& vram, bool quick)
        : record_(record), pd_(pd), vram_(vram), rounds_(quick ? 20 : 100) {}

    /// The cost of looking for a dma-buf where there is none.
    void ordinary(std::uint64_t size, const std::string& beside = "nothing") {
        const Mapping mapping = Mapping::anonymous(size);
        std::ranges::fill(mapping.bytes(), std::byte{1});
        const auto reg = [&] { return Mr::host(pd_, mapping.bytes()); };
        measure({.metric = "transparent_off_on",
                 .unit = "us",
                 .params = params(size, beside),
                 .baseline = "off",
                 .variants = {}},
                {{"off", false, reg}, {"on", true, reg}});
    }

    /// A dma-buf by address against by descriptor.
    void dmabuf(std::uint64_t size) {
        const DmaBuf buffer = vram_.alloc({.size = size, .placement = PFN_VRAM_PLACEMENT_SYSTEM});
        const Mapping mapping = buffer.map();
        measure({.metric = "transparent_dmabuf",
                 .unit = "us",
                 .params = params(size, "nothing"),
                 .baseline = "fd",
                 .variants = {}},
                {{"fd", true, [&] { return Mr::dmabuf(pd_, buffer.fd(), 0, size, 0); }},
                 {"address", true, [&] { return Mr::host(pd_, mapping.bytes()); }}});
    }

  private:
    static Params params(std::uint64_t size, const std::string& beside) {
        return {{"size", static_cast<std::int64_t>(size)}, {"beside", beside}};
    }

    /// Few calls in a sample: what others do in between shows.
    void measure(Measurement measurement, const std::vector<Way>& ways) {
        constexpr unsigned CALLS = 10;
        Measurement& m = record_.add(std::move(measurement));
        by_turns(rounds_, ways.size(), [&](std::size_t i) {
            const Way& way = ways[i];
            parameter_.set(way.transparent);
            (void)way.reg(); // caches know it then
            double us = 0;
            for (unsigned call = 0; call < CALLS; ++call) {
                Mr mr;
                us += time_us([&] { mr = way.reg(); });
            }
            m.add(way.name, us / CALLS);
        });
    }

    Record& record_;
    const Pd& pd_;
    const VramDevice& vram_;
    std::size_t rounds_;
    Parameter parameter_{"rdma_rxe", "transparent_dmabuf"};
};

} // namespace

void measure_transparent(Record& record, const Pd& pd, const VramDevice& vram, bool quick) {
    progress("transparent registration");
    Transparent measure(record, pd, vram, quick);
    for (const std::uint64_t size : {4 * KIB, 64 * KIB, 1 * MIB, 4 * MIB})
        measure.ordinary(size);
    {
        const Crowd crowd(10000);
        measure.ordinary(4 * KIB, "20000 mappings");
    }
    {
        const Mapper mapper;
        measure.ordinary(4 * KIB, "a thread that maps and unmaps");
    }
    for (const std::uint64_t size : {64 * KIB, 4 * MIB})
        measure.dmabuf(size);
}

} // namespace pfn::perf
