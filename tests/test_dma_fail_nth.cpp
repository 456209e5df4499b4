// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
//
// Every allocation on the way to DMA addresses fails once: nothing stays mapped,
// nothing leaks (./lab test --kernel debug dma_fail_nth).
#include "support/dma_test.hpp"
#include "support/fail_nth.hpp"

#include <memory>
#include <optional>

namespace pfn {
namespace {

// What mapping allocates without an IOMMU is for the kernel's DMA debugging, which
// gives up for good when that fails.
constexpr const char* NO_DIRECT = "only with an IOMMU, as mapping allocates nothing without one";

class DmaFailNth : public FailNthSweep, public testing::WithParamInterface<BufferCase> {
  protected:
    void SetUp() override {
        FailNthSweep::SetUp();
        if (IsSkipped())
            return;
        if (GetParam().placement == PFN_VRAM_PLACEMENT_VRAM &&
            vram.info().backend == PFN_VRAM_BACKEND_BAR && guest_p2p() == "none")
            GTEST_SKIP() << "no way to the BAR in this guest";
        log.emplace();
        module = std::make_unique<EduModule>();
        edu = std::make_unique<EduDevice>();
    }
    void TearDown() override {
        edu.reset();
        module.reset();
        if (log) {
            EXPECT_EQ(0U, iommu_faults(*log)) << "faults that no test has asked for";
        }
        FailNthSweep::TearDown();
    }

    [[nodiscard]] DmaBuf alloc() const {
        return vram.alloc({.size = SIZE,
                           .chunk = GetParam().fragmented ? page_size() : 0,
                           .placement = GetParam().placement});
    }

    std::optional<KernelLog> log;
    std::unique_ptr<EduModule> module;
    std::unique_ptr<EduDevice> edu;
};

INSTANTIATE_TEST_SUITE_P(Buffers, DmaFailNth, testing::ValuesIn(BUFFER_CASES), case_name);

TEST_P(DmaFailNth, Import) {
    DmaBuf buffer;
    std::uint32_t id = 0;
    report(
        "import",
        sweep(
            [&] {
                if (id != 0)
                    edu->release(id);
                id = 0;
                buffer = {};
                buffer = alloc();
            },
            [&] { id = edu->import(buffer.fd(), 0, SIZE); },
            [&](int error) { EXPECT_EQ(error ? 0U : 1U, vram.buf_info(buffer.fd()).attachments); }),
        4);
}

TEST_P(DmaFailNth, Map) {
    if (!guest_has_iommu())
        GTEST_SKIP() << NO_DIRECT;
    const DmaBuf buffer = alloc();
    const auto id = edu->import(buffer.fd(), 0, SIZE);
    report("map",
           sweep([&] { edu->unmap(id); }, [&] { edu->map(id); },
                 [&](int error) {
                     EXPECT_EQ(error != 0, edu->query(id).bus == PFN_EDU_UNMAPPED);
                     // Whatever happened, the next one is as good as new.
                     if (error) {
                         edu->map(id);
                     }
                     // QEMU sends a bus address to the IOMMU, too, which knows nothing of it.
                     if (edu->query(id).bus != PFN_EDU_P2P_BUS)
                         edu->fetch(id, SIZE - 64, 64);
                 }),
           0);
}

TEST_P(DmaFailNth, MapAfterAMove) {
    if (!guest_has_iommu())
        GTEST_SKIP() << NO_DIRECT;
    const DmaBuf buffer = alloc();
    const auto id = edu->import(buffer.fd(), 0, SIZE);
    report("map after a move",
           sweep(
               [&] {
                   edu->map(id);
                   vram.move(buffer.fd(), GetParam().placement,
                             GetParam().fragmented ? page_size() : 0);
               },
               [&] { edu->map(id); },
               [&](int error) { EXPECT_EQ(error != 0, edu->query(id).bus == PFN_EDU_UNMAPPED); }));
}

TEST_P(DmaFailNth, Compare) {
    if (!guest_has_iommu())
        GTEST_SKIP() << NO_DIRECT;
    const ModuleParameter knobs("pfn_edu/test_knobs", "Y");
    const DmaBuf buffer = alloc();
    report("scatterlist",
           sweep([] {},
                 [&] {
                     // One that fails is a result; what remains of it is not.
                     const auto c = edu->compare(buffer.fd(), buffer.fd(), 1);
                     if (c.sg.error != 0 || c.pfn.error != 0)
                         throw_errno(-std::min(c.sg.error, c.pfn.error), "compare");
                 },
                 [&](int) { EXPECT_EQ(0U, vram.buf_info(buffer.fd()).attachments); }));
}

} // namespace
} // namespace pfn
