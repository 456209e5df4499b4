// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
//
// pfn-perf-reg: what it costs to register memory and to deregister it: time, and
// kernel memory, of the importer and of the exporter apart. Memory of this process, by
// ibv_reg_mr(), pinned or paged on demand, against a dma-buf of the same size, in long
// ranges and in single pages, imported by its ranges, or by a kernel mapping (vmap) as
// proposals for rxe have done it; then device memory that no machine has.
//
// Needs rdma_rxe, pfn_vram and root; for the synthetic memory also pfn_edu, with
// test_knobs=1, and a BAR.
#include "parameter.hpp"
#include "suite.hpp"
#include "trace.hpp"
#include "transparent.hpp"

#include "common/edu.hpp"
#include "common/verbs.hpp"
#include "common/vram.hpp"

#include <sys/mman.h>

#include <algorithm>
#include <filesystem>
#include <format>
#include <functional>
#include <string>
#include <utility>
#include <vector>

namespace pfn::perf {
namespace {

/// Populated memory of this process; @p advice as for madvise().
Mapping populated(std::uint64_t size, int advice) {
    Mapping memory = Mapping::anonymous(size);
    ::madvise(memory.bytes().data(), size, advice); // the kernel may have no huge pages
    for (std::size_t at = 0; at < size; at += page_size())
        memory.bytes()[at] = std::byte{1};
    return memory;
}

/// What a way to register takes, in measurements that have a variant of its name.
struct Cost {
    Measurement& reg;   ///< microseconds
    Measurement& dereg; ///< microseconds
    Measurement& bytes; ///< of kernel memory that the MR keeps

    void add(const std::string& variant, std::size_t calls, const std::function<Mr()>& make) const {
        std::vector<Mr> mrs(calls);
        const auto n = static_cast<double>(calls);
        reg.add(variant, time_us([&] { std::ranges::generate(mrs, make); }) / n);
        dereg.add(variant, time_us([&] { mrs.clear(); }) / n);
    }
};

class Registration {
    static constexpr std::size_t MANY = 64; ///< MRs of which each takes very little

  public:
    Registration(Record& record, bool quick)
        : record_(record), quick_(quick), context_("rxe_gpu"), pd_(context_.get()) {}

    void real_memory() {
        std::vector<std::uint64_t> sizes{4 * KIB, 1 * MIB, 64 * MIB};
        if (!quick_)
            sizes = {4 * KIB, 64 * KIB, 1 * MIB, 16 * MIB, 256 * MIB, 1 * GIB};
        for (const auto size : sizes)
            real_memory(size);
    }

    void synthetic_memory() {
        if (!std::filesystem::exists(EduDevice::DEFAULT_PATH) ||
            vram_.info().backend != PFN_VRAM_BACKEND_BAR) {
            progress("no synthetic memory: that needs pfn_edu and a BAR");
            return;
        }
        const EduDevice edu;
        const DmaBuf like = vram_.alloc({.size = page_size()});
        // Single pages up to where the list is as long as it may be.
        synthetic_memory(edu, like, 1);
        synthetic_memory(edu, like, quick_ ? 4096 : 1 << 20);
    }

    void transparent() { measure_transparent(record_, pd_, vram_, quick_); }

  private:
    Measurement& begin(const char* metric, const char* unit, std::uint64_t size,
                       const char* baseline = "host") {
        return record_.add({.metric = metric,
                            .unit = unit,
                            .params = {{"size", static_cast<std::int64_t>(size)}},
                            .baseline = baseline,
                            .variants = {}});
    }

    void real_memory(std::uint64_t size) {
        progress(std::format("registering {}", size_name(size)));
        const Cost cost{.reg = begin("reg", "us", size),
                        .dereg = begin("dereg", "us", size),
                        .bytes = begin("importer_bytes", "B", size)};
        Measurement& exporter = begin("exporter_bytes", "B", size, "");

        const Mapping memory = populated(size, MADV_NORMAL);
        const Mapping pages = populated(size, MADV_NOHUGEPAGE);
        const unsigned paging = FULL_ACCESS | IBV_ACCESS_ON_DEMAND;
        std::vector<std::function<void()>> ways{
            [&] { of_process(cost, "host", memory, FULL_ACCESS); },
            [&] { of_process(cost, "host-pages", pages, FULL_ACCESS); },
            [&] { of_process(cost, "odp", memory, paging); },
        };
        for (const Import& import : IMPORTS)
            ways.emplace_back([&] { of_device(cost, exporter, import, size); });
        by_turns(quick_ ? 3 : 7, ways.size(), [&](std::size_t i) { ways[i](); });
        for (const Import& import : IMPORTS)
            first_bytes(cost.bytes, import, size);
    }

    void of_process(const Cost& cost, const std::string& variant, const Mapping& memory,
                    unsigned access) {
        const auto make = [&] { return Mr::host(pd_, memory.bytes(), access); };
        const std::uint64_t size = memory.bytes().size();
        const std::size_t calls = std::clamp<std::uint64_t>(64 * MIB / size, 1, MANY);
        cost.add(variant, calls, make);
        cost.bytes.add(variant, kept(calls, make));
    }

    /// A way to import a dma-buf.
    struct Import {
        const char* variant;
        bool in_pages;
        bool mapped; ///< for the kernel, instead of lending its ranges
    };
    static constexpr Import IMPORTS[] = {
        {.variant = "pfn", .in_pages = false, .mapped = false},
        {.variant = "pfn-pages", .in_pages = true, .mapped = false},
        {.variant = "vmap", .in_pages = false, .mapped = true},
        {.variant = "vmap-pages", .in_pages = true, .mapped = true},
    };

    DmaBuf alloc(const Import& import, std::uint64_t size) const {
        return vram_.alloc({.size = size,
                            .chunk = import.in_pages ? page_size() : 0,
                            .placement = PFN_VRAM_PLACEMENT_SYSTEM});
    }

    /// What a buffer's first MR has done, all that follow share.
    void of_device(const Cost& cost, Measurement& exporter, const Import& import,
                   std::uint64_t size) {
        const std::string variant = import.variant;
        const DmaBuf buffer = alloc(import, size);
        const auto make = [&] { return Mr::dmabuf(pd_, buffer.fd(), 0, size, 0); };
        bridge_.set(import.mapped);
        cost.add(variant + "-first", 1, make);
        cost.add(variant, MANY, make);
        cost.bytes.add(variant, kept(MANY, make));
        bridge_.set(false);
        exporter.add(variant, static_cast<double>(vram_.buf_info(buffer.fd()).metadata_bytes));
    }

    /// Of a first one, with what is shared later. Once: it is the same each time.
    void first_bytes(Measurement& bytes, const Import& import, std::uint64_t size) {
        const DmaBuf buffer = alloc(import, size);
        bridge_.set(import.mapped);
        bytes.add(std::string(import.variant) + "-first",
                  kept(1, [&] { return Mr::dmabuf(pd_, buffer.fd(), 0, size, 0); }));
        bridge_.set(false);
    }

    /// Bytes of kernel memory that an MR keeps, of @p calls: some share a node of an index.
    double kept(std::size_t calls, const std::function<Mr()>& make) {
        std::vector<Mr> mrs(calls);
        trace_.start();
        std::ranges::generate(mrs, make);
        trace_.stop();
        return static_cast<double>(trace_.kept().bytes()) / static_cast<double>(calls);
    }

    /// As a device's driver registers it: no CPU has to reach memory that is not there.
    void synthetic_memory(const EduDevice& edu, const DmaBuf& like, std::uint64_t ranges) {
        progress(std::format("importing synthetic memory of {} ranges", ranges));
        const auto begin_synthetic = [&](const char* metric, const char* unit) -> Measurement& {
            return record_.add({.metric = metric,
                                .unit = unit,
                                .params = {{"ranges", static_cast<std::int64_t>(ranges)}},
                                .baseline = "4 KiB",
                                .variants = {}});
        };
        Measurement& import = begin_synthetic("import_synthetic", "us");
        Measurement& release = begin_synthetic("release_synthetic", "us");
        Measurement& bytes = begin_synthetic("import_synthetic_bytes", "B");

        struct Way {
            std::string name;
            std::uint64_t size;
            EduDevice::Synthetic buffers;
            bool known = false;
        };
        std::vector<Way> ways;
        // The baseline is one page, whatever the others are made of.
        const auto add = [&](std::uint64_t n, std::uint64_t size) {
            ways.push_back({.name = size_name(size),
                            .size = size,
                            .buffers = edu.synthetic(like.fd(), n, size / n)});
        };
        add(1, 4 * KIB);
        for (const std::uint64_t size : {1 * GIB, 4 * GIB, 64 * GIB, 1 * TIB}) {
            if (size / ranges >= page_size())
                add(ranges, size);
        }
        by_turns(quick_ ? 5 : 21, ways.size(), [&](std::size_t i) {
            Way& way = ways[i];
            const int fd = way.buffers.ranges.get();
            if (!way.known) { // the first has the list checked
                import.add(way.name + "-first",
                           time_us([&] { edu.release(edu.import(fd, 0, way.size)); }));
                way.known = true;
            }
            constexpr unsigned CALLS = 16;
            std::vector<std::uint32_t> ids(CALLS);
            import.add(way.name,
                       time_us([&] {
                           std::ranges::generate(ids, [&] { return edu.import(fd, 0, way.size); });
                       }) / CALLS);
            release.add(way.name, time_us([&] {
                                      std::ranges::for_each(ids, [&](auto id) { edu.release(id); });
                                  }) / CALLS);
            trace_.start();
            const auto id = edu.import(fd, 0, way.size);
            trace_.stop();
            bytes.add(way.name, static_cast<double>(trace_.kept().bytes()));
            edu.release(id);
        });
    }

    Record& record_;
    bool quick_;
    Context context_;
    Pd pd_;
    VramDevice vram_;
    Trace trace_;
    Parameter bridge_{"dma_buf_pfn", "test_bridge_lenders"};
};

void measure(Record& record, bool quick) {
    Registration registration(record, quick);
    registration.real_memory();
    registration.synthetic_memory();
    registration.transparent();
}

} // namespace
} // namespace pfn::perf

int main(int argc, char** argv) {
    return pfn::perf::suite_main(argc, argv,
                                 {.name = "reg",
                                  .what = "What it costs to register memory, and to deregister it",
                                  .measure = pfn::perf::measure});
}
