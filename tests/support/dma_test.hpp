// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
//
// What tests of DMA start from: the edu device with its driver, buffers of VRAM,
// and an eye on the IOMMU's faults.
#pragma once

#include "common/edu.hpp"
#include "common/error.hpp"
#include "common/pattern.hpp"
#include "common/vram.hpp"
#include "support/modules.hpp"
#include "support/rdma_test.hpp"

#include <gtest/gtest.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

namespace pfn {

/// The guest has a translating IOMMU (./lab run --iommu).
bool guest_has_iommu();
/// How edu may reach the VRAM in this guest: "host", "switch" or "none", see
/// docs/lab.md. Without a BAR as VRAM it makes no difference.
std::string guest_p2p();

/// The kernel's log from now on.
class KernelLog {
  public:
    KernelLog();
    /// Lines since the last call, or since construction.
    [[nodiscard]] std::vector<std::string> read() const;

  private:
    Fd fd_;
};

/// Lines in @p log in which the IOMMU tells of edu's faults, since its last read.
/// Waits until there is one, or for @p patience.
std::size_t iommu_faults(const KernelLog& log,
                         std::chrono::milliseconds patience = std::chrono::milliseconds(0));

/// The module pfn_edu, loaded as long as this lives.
class EduModule {
  public:
    explicit EduModule(unsigned dma_bits = 64);
    ~EduModule();
    EduModule(const EduModule&) = delete;
    EduModule& operator=(const EduModule&) = delete;
};

/// The way to a buffer, as far as this guest has one.
enum class Reach {
    YES,    ///< DMA arrives
    NO,     ///< mapping is refused
    FAULTS, ///< mapped by bus addresses, which QEMU's IOMMU does not let pass
};

class DmaTest : public testing::Test {
  protected:
    void SetUp() override;
    void TearDown() override;

    /// Is the VRAM of this guest a PCI BAR?
    [[nodiscard]] bool has_bar() const { return vram.info().backend == PFN_VRAM_BACKEND_BAR; }
    /// A buffer there is memory of another PCI device.
    [[nodiscard]] bool is_peer(std::uint32_t placement) const {
        return placement == PFN_VRAM_PLACEMENT_VRAM && has_bar();
    }
    [[nodiscard]] Reach reach(std::uint32_t placement) const;
    /// The bus that a buffer there has to be mapped by.
    [[nodiscard]] pfn_edu_bus expected_bus(std::uint32_t placement) const;

    /// iommu_faults() since the last call.
    std::size_t faults(std::chrono::milliseconds patience = std::chrono::milliseconds(0)) {
        return iommu_faults(*log_, patience);
    }
    /// DMA that the IOMMU must stop, and tell of. Tried again if nothing is in the
    /// log: the kernel is silent for 5 s after a few faults.
    void expect_fault(const std::function<void()>& dma);

    /// Write the pattern of @p seed to [@p offset, + @p length) of an import by
    /// DMA, with the help of a buffer in system memory.
    void store_pattern(std::uint32_t id, std::uint64_t offset, std::uint32_t length,
                       std::uint64_t seed);
    /// Read by DMA what is there; must be the pattern of @p seed.
    void expect_pattern(std::uint32_t id, std::uint64_t offset, std::uint32_t length,
                        std::uint64_t seed);

    VramDevice vram;
    std::optional<EduModule> module;
    std::optional<EduDevice> edu;
    std::optional<ModuleParameter> knobs;

  private:
    void make_staging();
    std::optional<KernelLog> log_;
    DmaBuf staging_;
    Mapping staging_cpu_;
    std::uint32_t staging_id_ = 0;
};

} // namespace pfn
