// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
#include "support/dma_test.hpp"

#include "common/process.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <cstring>
#include <stdexcept>
#include <thread>

namespace pfn {
namespace {

using namespace std::chrono_literals;

std::string environment(const char* name) {
    const char* value = ::getenv(name); // NOLINT(concurrency-mt-unsafe)
    return value == nullptr ? "" : value;
}

} // namespace

bool guest_has_iommu() {
    return !environment("UMEM_PFN_IOMMU").empty();
}

std::string guest_p2p() {
    return environment("UMEM_PFN_P2P");
}

KernelLog::KernelLog() : fd_(::open("/dev/kmsg", O_RDONLY | O_NONBLOCK | O_CLOEXEC)) {
    if (!fd_)
        throw_errno("/dev/kmsg");
    if (::lseek(fd_.get(), 0, SEEK_END) < 0)
        throw_errno("seek in /dev/kmsg");
}

std::vector<std::string> KernelLog::read() const {
    std::vector<std::string> lines;
    std::array<char, 8192> record{};
    for (;;) {
        const ssize_t n = ::read(fd_.get(), record.data(), record.size());
        if (n > 0)
            lines.emplace_back(record.data(), static_cast<std::size_t>(n));
        else if (n < 0 && errno == EAGAIN)
            return lines;
        else if (n < 0 && errno != EPIPE) // that: some were overwritten
            throw_errno("read /dev/kmsg");
    }
}

std::size_t iommu_faults(const KernelLog& log, std::chrono::milliseconds patience) {
    const auto deadline = std::chrono::steady_clock::now() + patience;
    for (;;) {
        const auto count = std::ranges::count_if(log.read(), [](const std::string& line) {
            return line.contains("DMAR: [DMA") && line.contains("fault addr");
        });
        if (count > 0 || std::chrono::steady_clock::now() >= deadline)
            return static_cast<std::size_t>(count);
        std::this_thread::sleep_for(20ms);
    }
}

EduModule::EduModule(unsigned dma_bits) {
    if (run_program({"modprobe", "pfn_edu", "dma_bits=" + std::to_string(dma_bits)}, 60s) != Exit{})
        throw std::runtime_error("modprobe pfn_edu failed");
}

EduModule::~EduModule() {
    const int error = unload_module("pfn_edu");
    EXPECT_EQ(Errno{0}, Errno{error}) << "somebody still uses pfn_edu";
}

void DmaTest::SetUp() {
    log_.emplace();
    module.emplace();
    edu.emplace();
    knobs.emplace("pfn_edu/test_knobs", "Y");
}

void DmaTest::TearDown() {
    EXPECT_EQ(0U, faults()) << "faults that no test has asked for";
    edu.reset();
    knobs.reset();
    module.reset();
}

Reach DmaTest::reach(std::uint32_t placement) const {
    if (!is_peer(placement) || guest_p2p() == "host")
        return Reach::YES;
    if (guest_p2p() == "none")
        return Reach::NO;
    return guest_has_iommu() ? Reach::FAULTS : Reach::YES;
}

pfn_edu_bus DmaTest::expected_bus(std::uint32_t placement) const {
    if (is_peer(placement) && guest_p2p() == "switch")
        return PFN_EDU_P2P_BUS;
    return guest_has_iommu() ? PFN_EDU_IOVA : PFN_EDU_DIRECT;
}

void DmaTest::expect_fault(const std::function<void()>& dma) {
    EXPECT_EQ(0U, faults()) << "faults that no test has asked for";
    const auto deadline = std::chrono::steady_clock::now() + 30s;
    do {
        dma();
        if (faults(1s) != 0)
            return;
    } while (std::chrono::steady_clock::now() < deadline);
    ADD_FAILURE() << "the IOMMU let it pass";
}

void DmaTest::make_staging() {
    if (staging_id_ != 0)
        return;
    staging_ =
        vram.alloc({.size = PFN_EDU_MEM_SIZE, .placement = PFN_VRAM_PLACEMENT_SYSTEM, .caps = 0});
    staging_cpu_ = staging_.map();
    staging_id_ = edu->import(staging_.fd(), 0, staging_.size());
}

void DmaTest::store_pattern(std::uint32_t id, std::uint64_t offset, std::uint32_t length,
                            std::uint64_t seed) {
    make_staging();
    fill_pattern(staging_cpu_.bytes().first(length), seed, offset);
    edu->fetch(staging_id_, 0, length);
    edu->store(id, offset, length);
}

void DmaTest::expect_pattern(std::uint32_t id, std::uint64_t offset, std::uint32_t length,
                             std::uint64_t seed) {
    make_staging();
    edu->fetch(id, offset, length);
    std::ranges::fill(staging_cpu_.bytes(), std::byte{0xee});
    edu->store(staging_id_, 0, length);
    EXPECT_TRUE(has_pattern(staging_cpu_.bytes().first(length), seed, offset));
}

} // namespace pfn
