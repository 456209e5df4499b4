// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
#include "common/text.hpp"

#ifdef __x86_64__
#include <cpuid.h>
#endif

#include <array>
#include <cstring>
#include <format>

namespace pfn {

std::string bytes_text(double bytes) {
    if (bytes < 1024)
        return std::format("{:.0f} B", bytes);
    if (bytes < 1024.0 * 1024)
        return std::format("{:.1f} KiB", bytes / 1024);
    if (bytes < 1024.0 * 1024 * 1024)
        return std::format("{:.1f} MiB", bytes / (1024.0 * 1024));
    return std::format("{:.1f} GiB", bytes / (1024.0 * 1024 * 1024));
}

std::string time_text(double nanoseconds) {
    if (nanoseconds < 1e3)
        return std::format("{:.0f} ns", nanoseconds);
    if (nanoseconds < 1e6)
        return std::format("{:.1f} us", nanoseconds / 1e3);
    if (nanoseconds < 1e9)
        return std::format("{:.1f} ms", nanoseconds / 1e6);
    return std::format("{:.1f} s", nanoseconds / 1e9);
}

std::string count_text(std::uint64_t count, const std::string& singular) {
    return std::format("{} {}{}", count, singular, count == 1 ? "" : "s");
}

std::string machine_kind() {
#ifdef __x86_64__
    unsigned eax = 0;
    std::array<unsigned, 3> name{}; // ebx, ecx, edx
    unsigned features = 0;
    unsigned unused = 0;
    __get_cpuid(1, &eax, &unused, &features, &unused);
    if ((features & (1U << 31U)) == 0)
        return "real CPU";
    __cpuid(0x40000000, eax, name[0], name[1], name[2]);
    std::array<char, sizeof(name) + 1> vendor{};
    std::memcpy(vendor.data(), name.data(), sizeof(name));
    const std::string hypervisor = vendor.data();
    if (hypervisor == "TCGTCGTCGTCG")
        return "emulated CPU (QEMU TCG)";
    if (hypervisor == "KVMKVMKVM")
        return "virtual CPU (KVM)";
    return "virtual CPU (" + hypervisor + ")";
#else
    return "not an x86 CPU";
#endif
}

} // namespace pfn
