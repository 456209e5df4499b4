// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
#include "trace.hpp"

#include "common/error.hpp"
#include "common/files.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <charconv>
#include <filesystem>
#include <format>
#include <optional>
#include <ranges>
#include <stdexcept>
#include <string_view>
#include <unordered_map>
#include <utility>

namespace pfn {
namespace {

// The memory events of a mapping of 1 GiB in single pages fit several times over.
constexpr const char* BUFFER_KIB = "8192";

// An interrupt's allocations are not this thread's: TRACE_FLAG_HARDIRQ, _SOFTIRQ.
constexpr const char* NO_INTERRUPTS = "!(common_flags & 24)";

/// The value of "NAME=VALUE" in a line, "" if there is none.
std::string_view field(std::string_view line, std::string_view name) {
    const auto at = line.find(std::format(" {}=", name));
    if (at == std::string_view::npos)
        return {};
    line.remove_prefix(at + name.size() + 2);
    return line.substr(0, line.find(' '));
}

std::uint64_t number(std::string_view text) {
    std::uint64_t value = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error != std::errc() || end != text.data() + text.size())
        throw std::runtime_error(std::format("the trace has '{}' for a number", text));
    return value;
}

/// The event's name: what comes before the first ": " behind the time stamp's.
std::string_view event_name(std::string_view line) {
    const auto stamp = line.find(": ");
    if (line.starts_with('#') || stamp == std::string_view::npos)
        return {};
    line.remove_prefix(stamp + 2);
    return line.substr(0, line.find(':'));
}

/// Events that were lost because the buffer was full.
std::uint64_t lost(const std::string& dir) {
    std::uint64_t sum = 0;
    for (const auto& cpu : std::filesystem::directory_iterator(dir + "/per_cpu")) {
        const std::string stats = read_file(cpu.path() / "stats");
        for (const auto line : std::views::split(stats, '\n')) {
            const std::string_view text(line);
            if (text.starts_with("overrun: ") || text.starts_with("dropped events: "))
                sum += number(text.substr(text.find(": ") + 2));
        }
    }
    return sum;
}

} // namespace

Trace::Instance::Instance(std::string where) : path(std::move(where)) {
    if (::mkdir(path.c_str(), 0700) < 0)
        throw_errno("mkdir " + path);
}

Trace::Instance::~Instance() {
    ::rmdir(path.c_str());
}

Trace::Trace() : instance_(std::format("/sys/kernel/tracing/instances/pfn-perf-{}", ::getpid())) {
    const std::string& dir = instance_.path;
    write_file(dir + "/tracing_on", "0");
    write_file(dir + "/buffer_size_kb", BUFFER_KIB);
    write_file(dir + "/trace_clock", "global"); // the order of events matters
    write_file(dir + "/set_event_pid", std::to_string(::gettid()));
    for (const char* event : {"kmem/kmalloc", "kmem/kfree", "kmem/kmem_cache_alloc",
                              "kmem/kmem_cache_free", "kmem/mm_page_alloc", "kmem/mm_page_free"}) {
        if (!enable(event))
            throw std::runtime_error(std::format("this kernel has no tracepoint {}", event));
    }
    knows_iotlb_ = enable("intel_iommu/qi_submit");
    const std::string on = dir + "/tracing_on";
    on_ = Fd(::open(on.c_str(), O_WRONLY | O_CLOEXEC));
    if (!on_)
        throw_errno("open " + on);
}

// Opening a file takes memory, so that one is open already.
void Trace::switch_to(const char* on) const {
    if (::write(on_.get(), on, 1) != 1)
        throw_errno("write to " + instance_.path + "/tracing_on");
}

bool Trace::enable(const std::string& event) const {
    const std::string dir = instance_.path + "/events/" + event;
    if (!std::filesystem::exists(dir))
        return false;
    write_file(dir + "/filter", NO_INTERRUPTS);
    write_file(dir + "/enable", "1");
    return true;
}

void Trace::start() {
    write_file(instance_.path + "/trace", ""); // forgets what there was
    switch_to("1");
}

void Trace::stop() {
    switch_to("0");
    if (const auto n = lost(instance_.path))
        throw std::runtime_error(std::format("{} events did not fit into the trace", n));
    text_ = read_file(instance_.path + "/trace");
}

KeptMemory Trace::kept() const {
    KeptMemory kept;
    // What there is, by its address (hashed by the kernel, but always to the same).
    std::unordered_map<std::string_view, std::uint64_t> objects;
    std::unordered_map<std::string_view, std::uint64_t> pages;
    for (const auto part : std::views::split(text_, '\n')) {
        const std::string_view line(part);
        const std::string_view event = event_name(line);
        if (event == "kmalloc" || event == "kmem_cache_alloc")
            objects[field(line, "ptr")] = number(field(line, "bytes_alloc"));
        else if (event == "kfree" || event == "kmem_cache_free")
            objects.erase(field(line, "ptr"));
        else if (event == "mm_page_alloc" && !line.contains("__GFP_COMP") &&
                 !line.contains("MOVABLE"))
            pages[field(line, "pfn")] = static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE))
                                        << number(field(line, "order"));
        else if (event == "mm_page_free")
            pages.erase(field(line, "pfn"));
    }
    for (const auto& [where, bytes] : objects)
        kept.objects += bytes;
    for (const auto& [where, bytes] : pages)
        kept.pages += bytes;
    return kept;
}

std::uint64_t Trace::iotlb_invalidations() const {
    std::uint64_t count = 0;
    for (const auto part : std::views::split(text_, '\n')) {
        const std::string_view line(part);
        // iotlb_inv, p_iotlb_inv, dev_tlb_inv, p_dev_tlb_inv
        count += event_name(line) == "qi_submit" && line.contains("tlb_inv ") ? 1U : 0U;
    }
    return count;
}

} // namespace pfn
