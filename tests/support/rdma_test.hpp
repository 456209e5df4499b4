// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
//
// What tests that do RDMA start from: the guest's two soft-RoCE devices, one
// queue pair on each, connected.
#pragma once

#include "common/endpoint.hpp"
#include "common/error.hpp"
#include "common/pattern.hpp"
#include "common/verbs.hpp"
#include "common/vram.hpp"
#include "support/foreign.hpp"
#include "support/raw_uverbs.hpp"

#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <ostream>
#include <span>
#include <vector>

namespace pfn {

inline constexpr const char* GPU_DEVICE = "rxe_gpu";
inline constexpr const char* PEER_DEVICE = "rxe_peer";

inline constexpr std::uint64_t KIB = 1024;
inline constexpr std::uint64_t MIB = 1024 * KIB;

/// Memory of this process and its MR.
struct HostMemory {
    HostMemory(const Pd& pd, std::size_t size, unsigned access = FULL_ACCESS)
        : memory(Mapping::anonymous(size)), mr(Mr::host(pd, memory.bytes(), access)) {}

    [[nodiscard]] std::span<std::byte> bytes() const { return memory.bytes(); }
    [[nodiscard]] ibv_sge sge(std::size_t offset, std::size_t length) const {
        return {.addr = memory.address() + offset,
                .length = static_cast<std::uint32_t>(length),
                .lkey = mr.lkey()};
    }
    [[nodiscard]] Remote remote(std::size_t offset = 0) const {
        return {.address = memory.address() + offset, .rkey = mr.rkey()};
    }
    /// The 8-byte word at @p offset.
    [[nodiscard]] std::uint64_t word(std::size_t offset = 0) const;

    Mapping memory;
    Mr mr;
};

/// How to allocate and register a buffer of device memory.
struct BufferCase {
    const char* name;
    std::uint32_t placement;
    bool fragmented;                        ///< every page a range of its own
    Exporter exporter = Exporter::PFN_VRAM; ///< of another one, nothing of the above counts

    [[nodiscard]] constexpr bool foreign() const { return exporter != Exporter::PFN_VRAM; }
};

inline void PrintTo(const BufferCase& c, std::ostream* out) {
    *out << c.name;
}

inline constexpr BufferCase BUFFER_CASES[] = {
    {"VramContiguous", PFN_VRAM_PLACEMENT_VRAM, false},
    {"VramFragmented", PFN_VRAM_PLACEMENT_VRAM, true},
    {"SystemContiguous", PFN_VRAM_PLACEMENT_SYSTEM, false},
    {"SystemFragmented", PFN_VRAM_PLACEMENT_SYSTEM, true},
};

/// Buffers of exporters that know nothing of this project.
inline constexpr BufferCase FOREIGN_CASES[] = {
    {"SystemHeap", PFN_VRAM_PLACEMENT_SYSTEM, false, Exporter::SYSTEM_HEAP},
    {"Udmabuf", PFN_VRAM_PLACEMENT_SYSTEM, false, Exporter::UDMABUF},
    {"UdmabufOfHugePages", PFN_VRAM_PLACEMENT_SYSTEM, false, Exporter::UDMABUF_HUGE},
    {"Vgem", PFN_VRAM_PLACEMENT_SYSTEM, false, Exporter::VGEM},
};

/// Name of a parametrised test after its buffer.
inline std::string case_name(const testing::TestParamInfo<BufferCase>& info) {
    return info.param.name;
}

/// A buffer of device memory, a CPU mapping of it, and an MR on all of it whose
/// addresses start at 0.
struct DeviceMemory {
    DeviceMemory(const Pd& pd, DmaBuf dmabuf, unsigned access = FULL_ACCESS)
        : buffer(std::move(dmabuf)), cpu(buffer.map()),
          mr(Mr::dmabuf(pd, buffer.fd(), 0, buffer.size(), 0, access)) {}
    DeviceMemory(const VramDevice& vram, const Pd& pd, const BufferSpec& spec,
                 unsigned access = FULL_ACCESS)
        : DeviceMemory(pd, vram.alloc(spec), access) {}

    [[nodiscard]] std::span<std::byte> bytes() const { return cpu.bytes(); }
    [[nodiscard]] ibv_sge sge(std::uint64_t offset, std::size_t length) const {
        return {.addr = offset, .length = static_cast<std::uint32_t>(length), .lkey = mr.lkey()};
    }
    [[nodiscard]] Remote remote(std::uint64_t offset = 0) const {
        return {.address = offset, .rkey = mr.rkey()};
    }

    DmaBuf buffer;
    Mapping cpu;
    Mr mr;
};

/// Two endpoints, `gpu` and `peer`, connected, and device memory at hand.
class RdmaTest : public testing::Test {
  protected:
    void SetUp() override;

    /// Chunk that makes every page a range of its own.
    static std::uint64_t page_chunk() { return page_size(); }

    /// Write @p length bytes from @p local into @p remote and expect success.
    void write(const ibv_sge& local, Remote remote);
    /// Read from @p remote into @p local and expect success.
    void read(const ibv_sge& local, Remote remote);
    /// Like the two above, from the gpu's side.
    ibv_wc_status complete(Endpoint& endpoint);

    /// New queue pairs in place of broken ones. (rxe can move a queue pair to the
    /// error state some time after its completion, so resetting one is a race.)
    void reconnect(const QpSpec& spec = {});

    VramDevice vram;
    Endpoint gpu{GPU_DEVICE};
    Endpoint peer{PEER_DEVICE};
};

/// All of @p data is the pattern of @p seed at @p position.
testing::AssertionResult has_pattern(std::span<const std::byte> data, std::uint64_t seed,
                                     std::uint64_t position = 0);

/// All of @p data, whole words, is zero.
bool all_zero(std::span<const std::byte> data);

/// An errno that GoogleTest prints by name.
struct Errno {
    int value;
    bool operator==(const Errno&) const = default;
};

inline void PrintTo(const Errno& e, std::ostream* out) {
    *out << (e.value == 0 ? "success" : strerrorname_np(e.value));
}

} // namespace pfn

/// End a test that is about moving, revoking or inspecting the buffer if it is one of
/// FOREIGN_CASES: no ioctl makes their exporters do that.
#define SKIP_IF_FOREIGN()                                                                          \
    if (GetParam().foreign())                                                                      \
    GTEST_SKIP() << GetParam().name << " cannot be told to move or to revoke"

/// @p step must fail with the errno @p expected, or succeed if that is 0.
#define EXPECT_ERRNO(expected, step)                                                               \
    EXPECT_EQ(::pfn::Errno{expected}, ::pfn::Errno{::pfn::errno_of([&] { (void)(step); })})
#define ASSERT_ERRNO(expected, step)                                                               \
    ASSERT_EQ(::pfn::Errno{expected}, ::pfn::Errno{::pfn::errno_of([&] { (void)(step); })})
