// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
//
// The exporter by itself: /dev/pfn_vramN without any importer.
#include "common/process.hpp"
#include "support/rdma_test.hpp"

#include <fcntl.h>
#include <linux/dma-buf.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#include <csignal>
#include <cstring>
#include <thread>

namespace pfn {
namespace {

using namespace std::chrono_literals;

constexpr std::uint32_t VRAM = PFN_VRAM_PLACEMENT_VRAM;
constexpr std::uint32_t SYSTEM = PFN_VRAM_PLACEMENT_SYSTEM;

class VramTest : public testing::Test {
  protected:
    /// All is given back, if not at once: a copy's memory goes a moment after its fence.
    void TearDown() override {
        const VramDevice fresh;
        const auto deadline = std::chrono::steady_clock::now() + PATIENCE;
        for (auto now = fresh.info(); now.buffers > 0 || now.vram_free < now.vram_size;
             now = fresh.info()) {
            ASSERT_LT(std::chrono::steady_clock::now(), deadline)
                << now.buffers << " buffers and " << now.vram_size - now.vram_free
                << " bytes are left";
            std::this_thread::sleep_for(1ms);
        }
    }

    /// errno of an ALLOC with exactly these arguments.
    [[nodiscard]] int alloc_errno(const pfn_vram_alloc& arg) const {
        pfn_vram_alloc copy = arg;
        if (::ioctl(vram.fd(), PFN_VRAM_IOC_ALLOC, &copy) < 0)
            return errno;
        const Fd fd(copy.fd);
        return 0;
    }

    /// Arguments of an ALLOC that succeeds.
    [[nodiscard]] pfn_vram_alloc good() const {
        return {.size = 4 * page,
                .chunk = 0,
                .placement = VRAM,
                .caps = PFN_VRAM_CAP_ALL,
                .fd_flags = O_RDWR | O_CLOEXEC,
                .fd = -1,
                .reserved = 0};
    }

    std::uint64_t page = page_size();
    VramDevice vram;
};

class Device : public VramTest {};

TEST_F(Device, InfoMakesSense) {
    const auto info = vram.info();
    EXPECT_TRUE(info.backend == PFN_VRAM_BACKEND_BAR || info.backend == PFN_VRAM_BACKEND_RAM)
        << info.backend;
    EXPECT_GT(info.vram_size, 0U);
    EXPECT_LE(info.vram_free, info.vram_size);
    EXPECT_EQ(0U, info.vram_size % page);
    EXPECT_EQ(0U, info.reserved[0]);
    EXPECT_EQ(0U, info.reserved[1]);
}

TEST_F(Device, BusNameOnlyWithPci) {
    const auto info = vram.info();
    const std::string bus(info.bus_name, ::strnlen(info.bus_name, sizeof(info.bus_name)));
    EXPECT_EQ(info.backend == PFN_VRAM_BACKEND_BAR, !bus.empty()) << bus;
}

TEST_F(Device, UnknownIoctlIsENOTTY) {
    EXPECT_EQ(-1, ::ioctl(vram.fd(), _IO(PFN_VRAM_IOC_MAGIC, 99)));
    EXPECT_EQ(ENOTTY, errno);
}

TEST_F(Device, BadPointerIsEFAULT) {
    EXPECT_EQ(-1, ::ioctl(vram.fd(), PFN_VRAM_IOC_DEV_INFO, nullptr));
    EXPECT_EQ(EFAULT, errno);
}

TEST_F(Device, BadPointerInAllocLosesNothing) {
    const auto before = vram.info();
    EXPECT_EQ(-1, ::ioctl(vram.fd(), PFN_VRAM_IOC_ALLOC, nullptr));
    EXPECT_EQ(EFAULT, errno);
    EXPECT_EQ(before.vram_free, vram.info().vram_free);
}

class Alloc : public VramTest {};

TEST_F(Alloc, GoodArgumentsWork) {
    EXPECT_EQ(0, alloc_errno(good()));
}

TEST_F(Alloc, SizeZeroIsEINVAL) {
    auto arg = good();
    arg.size = 0;
    EXPECT_EQ(EINVAL, alloc_errno(arg));
}

TEST_F(Alloc, SizeNotOfWholePagesIsEINVAL) {
    auto arg = good();
    for (const std::uint64_t size : {std::uint64_t{1}, page - 1, page + 1, 4 * page + 8}) {
        arg.size = size;
        EXPECT_EQ(EINVAL, alloc_errno(arg)) << size;
    }
}

TEST_F(Alloc, AbsurdSizeFailsCleanly) {
    for (const std::uint32_t placement : {VRAM, SYSTEM}) {
        auto arg = good();
        arg.placement = placement;
        for (const std::uint64_t size : {~std::uint64_t{0}, ~std::uint64_t{0} - page + 1,
                                         std::uint64_t{1} << 63U, std::uint64_t{1} << 52U}) {
            arg.size = size;
            EXPECT_NE(0, alloc_errno(arg)) << size;
        }
    }
}

TEST_F(Alloc, ChunkNotAPowerOfTwoIsEINVAL) {
    auto arg = good();
    arg.chunk = 3 * page;
    EXPECT_EQ(EINVAL, alloc_errno(arg));
}

TEST_F(Alloc, ChunkBelowAPageIsEINVAL) {
    auto arg = good();
    arg.chunk = page / 2;
    EXPECT_EQ(EINVAL, alloc_errno(arg));
}

TEST_F(Alloc, UnknownPlacementIsEINVAL) {
    auto arg = good();
    for (const std::uint32_t placement : {0U, 3U, ~0U}) {
        arg.placement = placement;
        EXPECT_EQ(EINVAL, alloc_errno(arg)) << placement;
    }
}

TEST_F(Alloc, UnknownCapsAreEINVAL) {
    auto arg = good();
    arg.caps = PFN_VRAM_CAP_ALL + 1;
    EXPECT_EQ(EINVAL, alloc_errno(arg));
}

TEST_F(Alloc, UnknownFdFlagsAreEINVAL) {
    auto arg = good();
    for (const std::uint32_t flags : {O_WRONLY, O_APPEND | O_RDWR, O_NONBLOCK | O_RDWR, O_CREAT}) {
        arg.fd_flags = flags;
        EXPECT_EQ(EINVAL, alloc_errno(arg)) << std::oct << flags;
    }
}

TEST_F(Alloc, ReservedFieldIsEINVAL) {
    auto arg = good();
    arg.reserved = 1;
    EXPECT_EQ(EINVAL, alloc_errno(arg));
}

TEST_F(Alloc, CloexecIsHonoured) {
    const auto with = vram.alloc({.size = page, .fd_flags = O_RDWR | O_CLOEXEC});
    EXPECT_EQ(FD_CLOEXEC, ::fcntl(with.fd(), F_GETFD));
    const auto without = vram.alloc({.size = page, .fd_flags = O_RDWR});
    EXPECT_EQ(0, ::fcntl(without.fd(), F_GETFD));
}

TEST_F(Alloc, DmaBufTellsItsSize) {
    const auto buffer = vram.alloc({.size = 3 * page});
    EXPECT_EQ(static_cast<off_t>(3 * page), ::lseek(buffer.fd(), 0, SEEK_END));
}

TEST_F(Alloc, EveryKindOfBufferIsZeroed) {
    for (const BufferCase& c : BUFFER_CASES) {
        { // leave something behind first
            const auto buffer = vram.alloc({.size = 16 * page, .placement = c.placement});
            const auto cpu = buffer.map();
            fill_pattern(cpu.bytes(), 1);
        }
        const auto buffer = vram.alloc(
            {.size = 16 * page, .chunk = c.fragmented ? page : 0, .placement = c.placement});
        const auto cpu = buffer.map();
        EXPECT_TRUE(all_zero(cpu.bytes())) << c.name;
    }
}

TEST_F(Alloc, ContiguousVramIsOneRange) {
    const auto buffer = vram.alloc({.size = 64 * page});
    EXPECT_EQ(1U, vram.buf_info(buffer.fd()).ranges);
}

TEST_F(Alloc, ChunkSaysHowManyRanges) {
    for (const std::uint32_t placement : {VRAM, SYSTEM}) {
        const auto pages = vram.alloc({.size = 10 * page, .chunk = page, .placement = placement});
        EXPECT_EQ(10U, vram.buf_info(pages.fd()).ranges);
        // the last range may be shorter
        const auto fours =
            vram.alloc({.size = 10 * page, .chunk = 4 * page, .placement = placement});
        EXPECT_EQ(3U, vram.buf_info(fours.fd()).ranges);
    }
}

TEST_F(Alloc, TooMuchVramIsENOSPCAndLosesNothing) {
    const auto before = vram.info();
    auto arg = good();
    arg.size = before.vram_size + page;
    EXPECT_EQ(ENOSPC, alloc_errno(arg));
    arg.chunk = page;
    EXPECT_EQ(ENOSPC, alloc_errno(arg));
    EXPECT_EQ(before.vram_free, vram.info().vram_free);
    EXPECT_EQ(before.buffers, vram.info().buffers);
}

TEST_F(Alloc, AllVramCanBeUsedAndComesBack) {
    const auto before = vram.info();
    {
        const auto all = vram.alloc({.size = before.vram_free, .chunk = page});
        EXPECT_EQ(0U, vram.info().vram_free);
        EXPECT_EQ(ENOSPC, alloc_errno(good()));
    }
    EXPECT_EQ(before.vram_free, vram.info().vram_free);
}

TEST_F(Alloc, ThousandBuffersComeAndGo) {
    const auto before = vram.info();
    for (int i = 0; i < 1000; ++i) {
        const auto buffer = vram.alloc({.size = (1 + i % 7) * page, .chunk = i % 2 ? page : 0});
        ASSERT_EQ(before.buffers + 1, vram.info().buffers);
    }
    EXPECT_EQ(before.vram_free, vram.info().vram_free);
    EXPECT_EQ(before.buffers, vram.info().buffers);
}

TEST_F(Alloc, BufferOutlivesTheDeviceNode) {
    auto buffer = vram.alloc({.size = page});
    const auto free = vram.info().vram_free;
    vram.close();
    const auto cpu = buffer.map();
    fill_pattern(cpu.bytes(), 5);
    EXPECT_TRUE(has_pattern(cpu.bytes(), 5));
    buffer.close();
    // The mapping still holds it.
    EXPECT_EQ(free, VramDevice().info().vram_free);
}

class BufferInfo : public VramTest {};

TEST_F(BufferInfo, TellsWhatWasAskedFor) {
    const auto buffer = vram.alloc({.size = 8 * page,
                                    .chunk = 2 * page,
                                    .placement = SYSTEM,
                                    .caps = PFN_VRAM_CAP_MOVE | PFN_VRAM_CAP_PIN});
    const auto info = vram.buf_info(buffer.fd());
    EXPECT_EQ(SYSTEM, info.placement);
    EXPECT_EQ(PFN_VRAM_CAP_MOVE | PFN_VRAM_CAP_PIN, info.caps);
    EXPECT_EQ(0U, info.flags);
    EXPECT_EQ(8 * page, info.size);
    EXPECT_EQ(4U, info.ranges);
    EXPECT_EQ(0U, info.attachments);
    EXPECT_GT(info.metadata_bytes, 0U);
}

TEST_F(BufferInfo, WrongDescriptors) {
    EXPECT_ERRNO(EBADF, vram.buf_info(-1));
    const Fd null(::open("/dev/null", O_RDWR | O_CLOEXEC));
    EXPECT_ERRNO(EINVAL, vram.buf_info(null.get()));
    EXPECT_ERRNO(EINVAL, vram.buf_info(vram.fd()));
}

TEST_F(BufferInfo, OtherExportersDmaBufIsEINVAL) {
    const DmaBuf foreign = foreign_buffer(Exporter::UDMABUF, page);
    EXPECT_ERRNO(EINVAL, vram.buf_info(foreign.fd()));
    EXPECT_ERRNO(EINVAL, vram.move(foreign.fd(), SYSTEM));
    EXPECT_ERRNO(EINVAL, vram.revoke(foreign.fd()));
}

class MoveAlone : public VramTest {
  protected:
    /// Allocate with a pattern, move, and expect the pattern where it was.
    void move_and_check(std::uint32_t from, std::uint32_t to, std::uint64_t chunk_before,
                        std::uint64_t chunk_after) {
        const auto buffer =
            vram.alloc({.size = 9 * page, .chunk = chunk_before, .placement = from});
        const auto cpu = buffer.map();
        fill_pattern(cpu.bytes(), 11);
        vram.move(buffer.fd(), to, chunk_after);
        EXPECT_TRUE(has_pattern(cpu.bytes(), 11)) << from << " to " << to;
        const auto info = vram.buf_info(buffer.fd());
        EXPECT_EQ(to, info.placement);
        if (chunk_after != 0) {
            EXPECT_EQ((9 * page + chunk_after - 1) / chunk_after, info.ranges);
        }
    }
};

TEST_F(MoveAlone, DataSurvivesEveryKindOfMove) {
    for (const std::uint32_t from : {VRAM, SYSTEM}) {
        for (const std::uint32_t to : {VRAM, SYSTEM}) {
            for (const std::uint64_t before : {std::uint64_t{0}, page, 4 * page}) {
                for (const std::uint64_t after : {std::uint64_t{0}, page, 2 * page})
                    move_and_check(from, to, before, after);
            }
        }
    }
}

TEST_F(MoveAlone, GenerationGrowsByOne) {
    const auto buffer = vram.alloc({.size = page});
    const auto before = vram.buf_info(buffer.fd()).generation;
    vram.move(buffer.fd(), SYSTEM);
    EXPECT_EQ(before + 1, vram.buf_info(buffer.fd()).generation);
    vram.move(buffer.fd(), SYSTEM); // a move like any other
    EXPECT_EQ(before + 2, vram.buf_info(buffer.fd()).generation);
}

TEST_F(MoveAlone, OutOfVramGivesItBack) {
    const auto before = vram.info();
    const auto buffer = vram.alloc({.size = 32 * page});
    EXPECT_EQ(before.vram_free - 32 * page, vram.info().vram_free);
    vram.move(buffer.fd(), SYSTEM);
    EXPECT_EQ(before.vram_free, vram.info().vram_free);
    vram.move(buffer.fd(), VRAM);
    EXPECT_EQ(before.vram_free - 32 * page, vram.info().vram_free);
}

TEST_F(MoveAlone, IntoFullVramIsENOSPCAndChangesNothing) {
    const auto buffer = vram.alloc({.size = 4 * page, .placement = SYSTEM});
    const auto cpu = buffer.map();
    fill_pattern(cpu.bytes(), 12);
    const auto all = vram.alloc({.size = vram.info().vram_free, .chunk = page});
    const auto before = vram.buf_info(buffer.fd());
    EXPECT_ERRNO(ENOSPC, vram.move(buffer.fd(), VRAM));
    const auto after = vram.buf_info(buffer.fd());
    EXPECT_EQ(SYSTEM, after.placement);
    EXPECT_EQ(before.generation, after.generation);
    EXPECT_TRUE(has_pattern(cpu.bytes(), 12));
}

// Rule: E1
TEST_F(MoveAlone, WithoutTheCapIsEOPNOTSUPP) {
    const auto buffer = vram.alloc({.size = page, .caps = PFN_VRAM_CAP_PIN | PFN_VRAM_CAP_REVOKE});
    EXPECT_ERRNO(EOPNOTSUPP, vram.move(buffer.fd(), SYSTEM));
}

TEST_F(MoveAlone, BadArgumentsAreEINVAL) {
    const auto buffer = vram.alloc({.size = 4 * page});
    EXPECT_ERRNO(EINVAL, vram.move(buffer.fd(), 0));
    EXPECT_ERRNO(EINVAL, vram.move(buffer.fd(), 3));
    EXPECT_ERRNO(EINVAL, vram.move(buffer.fd(), SYSTEM, 3 * page));
    EXPECT_ERRNO(EINVAL, vram.move(buffer.fd(), SYSTEM, page / 2));
    EXPECT_ERRNO(EINVAL, vram.move(buffer.fd(), SYSTEM, 0, 2));
    pfn_vram_move arg{};
    arg.fd = buffer.fd();
    arg.placement = SYSTEM;
    arg.reserved = 1;
    EXPECT_EQ(-1, ::ioctl(vram.fd(), PFN_VRAM_IOC_MOVE, &arg));
    EXPECT_EQ(EINVAL, errno);
    EXPECT_EQ(VRAM, vram.buf_info(buffer.fd()).placement);
}

TEST_F(MoveAlone, WrongDescriptors) {
    EXPECT_ERRNO(EBADF, vram.move(-1, SYSTEM));
    const Fd null(::open("/dev/null", O_RDWR | O_CLOEXEC));
    EXPECT_ERRNO(EINVAL, vram.move(null.get(), SYSTEM));
}

TEST_F(MoveAlone, ReportsHowLongItTook) {
    const auto buffer = vram.alloc({.size = 256 * page});
    const auto times = vram.move(buffer.fd(), SYSTEM);
    EXPECT_GT(times.copy_ns, 0U);
    EXPECT_LT(times.quiesce_ns, 10'000'000'000U);
}

TEST_F(MoveAlone, AsyncArrivesAndIsWaitedFor) {
    const auto buffer = vram.alloc({.size = 256 * page});
    const auto cpu = buffer.map();
    for (std::uint64_t round = 0; round < 20; ++round) {
        fill_pattern(cpu.bytes(), round);
        const auto times =
            vram.move(buffer.fd(), round % 2 ? VRAM : SYSTEM, 0, PFN_VRAM_MOVE_ASYNC);
        EXPECT_EQ(0U, times.copy_ns);
        // A CPU access must wait for the data by itself.
        ASSERT_TRUE(has_pattern(cpu.bytes(), round)) << "round " << round;
        buffer.wait_idle(PATIENCE);
        EXPECT_EQ(0U, vram.buf_info(buffer.fd()).flags & PFN_VRAM_BUF_MOVING);
    }
}

TEST_F(MoveAlone, AsyncMovesFollowEachOther) {
    const auto buffer = vram.alloc({.size = 64 * page});
    const auto cpu = buffer.map();
    fill_pattern(cpu.bytes(), 21);
    for (int i = 0; i < 10; ++i)
        vram.move(buffer.fd(), i % 2 ? VRAM : SYSTEM, i % 3 ? page : 0, PFN_VRAM_MOVE_ASYNC);
    EXPECT_TRUE(has_pattern(cpu.bytes(), 21));
}

TEST_F(MoveAlone, BufferClosedDuringAsyncMoveLosesNothing) {
    const auto before = vram.info();
    for (int i = 0; i < 20; ++i) {
        auto buffer = vram.alloc({.size = 64 * page});
        vram.move(buffer.fd(), SYSTEM, 0, PFN_VRAM_MOVE_ASYNC);
    }
    const auto deadline = std::chrono::steady_clock::now() + PATIENCE;
    while (vram.info().vram_free != before.vram_free) {
        ASSERT_TRUE(std::chrono::steady_clock::now() < deadline) << "VRAM did not come back";
        std::this_thread::sleep_for(1ms);
    }
}

class Mmap : public VramTest {};

TEST_F(Mmap, TwoMappingsShowTheSameBytes) {
    const auto buffer = vram.alloc({.size = 4 * page});
    const auto a = buffer.map();
    const auto b = buffer.map();
    fill_pattern(a.bytes(), 31);
    EXPECT_TRUE(has_pattern(b.bytes(), 31));
}

TEST_F(Mmap, PartAtAnOffset) {
    const auto buffer = vram.alloc({.size = 8 * page, .chunk = page});
    const auto all = buffer.map();
    fill_pattern(all.bytes(), 32);
    const Mapping part(buffer.fd(), 2 * page, PROT_READ, MAP_SHARED, 3 * page);
    EXPECT_TRUE(has_pattern(part.bytes(), 32, 3 * page));
}

TEST_F(Mmap, BeyondTheEndIsRefused) {
    const auto buffer = vram.alloc({.size = 4 * page});
    EXPECT_ERRNO(EINVAL, Mapping(buffer.fd(), 5 * page));
    EXPECT_ERRNO(EINVAL, Mapping(buffer.fd(), page, PROT_READ, MAP_SHARED, 4 * page));
    EXPECT_ERRNO(EINVAL, Mapping(buffer.fd(), 2 * page, PROT_READ, MAP_SHARED, 3 * page));
}

// Rule: L2
TEST_F(Mmap, PrivateWritableIsRefused) {
    const auto buffer = vram.alloc({.size = page});
    EXPECT_ERRNO(EINVAL, Mapping(buffer.fd(), page, PROT_READ | PROT_WRITE, MAP_PRIVATE));
}

TEST_F(Mmap, ReadOnlyDescriptorMapsForReadingOnly) {
    const auto buffer = vram.alloc({.size = page, .fd_flags = O_RDONLY | O_CLOEXEC});
    const Mapping read(buffer.fd(), page, PROT_READ);
    EXPECT_EQ(std::byte{0}, read.bytes()[0]);
    EXPECT_ERRNO(EACCES, Mapping(buffer.fd(), page, PROT_READ | PROT_WRITE));
    EXPECT_EQ(-1, ::mprotect(read.bytes().data(), page, PROT_READ | PROT_WRITE));
    EXPECT_EQ(EACCES, errno);
}

TEST_F(Mmap, SurvivesTheDescriptor) {
    auto buffer = vram.alloc({.size = 4 * page});
    const auto cpu = buffer.map();
    buffer.close();
    fill_pattern(cpu.bytes(), 33);
    EXPECT_TRUE(has_pattern(cpu.bytes(), 33));
}

// Rule: L2
TEST_F(Mmap, CpuWritesWhileTheBufferMovesAreKept) {
    const auto buffer = vram.alloc({.size = 64 * page});
    auto mover = Child::fork([&](Channel& parent) {
        const VramDevice device;
        for (unsigned i = 0; !parent.ready(); ++i)
            device.move(buffer.fd(), i % 2 ? VRAM : SYSTEM, i % 3 ? page : 0);
        return 0;
    });
    const auto cpu = buffer.map();
    std::uint64_t seed = 100;
    do {
        fill_pattern(cpu.bytes(), seed);
        ASSERT_TRUE(has_pattern(cpu.bytes(), seed)) << "after " << seed - 100 << " rounds";
        ++seed;
    } while (vram.buf_info(buffer.fd()).generation < 50);
    mover.channel().send(1);
    EXPECT_EQ((Exit{.status = 0, .signal = 0}), mover.wait(PATIENCE));
}

TEST_F(Mmap, DmaBufSyncWorks) {
    const auto buffer = vram.alloc({.size = page});
    for (const std::uint64_t flags :
         {DMA_BUF_SYNC_START | DMA_BUF_SYNC_RW, DMA_BUF_SYNC_END | DMA_BUF_SYNC_RW}) {
        dma_buf_sync sync{.flags = flags};
        EXPECT_EQ(0, ::ioctl(buffer.fd(), DMA_BUF_IOCTL_SYNC, &sync)) << std::strerror(errno);
    }
}

class RevokeAlone : public VramTest {};

TEST_F(RevokeAlone, InfoSaysSo) {
    const auto buffer = vram.alloc({.size = 4 * page});
    const auto before = vram.buf_info(buffer.fd());
    vram.revoke(buffer.fd());
    const auto info = vram.buf_info(buffer.fd());
    EXPECT_EQ(PFN_VRAM_BUF_REVOKED, info.flags & PFN_VRAM_BUF_REVOKED);
    EXPECT_EQ(0U, info.placement);
    EXPECT_EQ(before.generation + 1, info.generation);
    EXPECT_EQ(4 * page, info.size);
}

TEST_F(RevokeAlone, MemoryComesBackAtOnce) {
    const auto before = vram.info().vram_free;
    const auto buffer = vram.alloc({.size = 16 * page});
    vram.revoke(buffer.fd());
    EXPECT_EQ(before, vram.info().vram_free);
}

// Rule: E2
TEST_F(RevokeAlone, SecondRevokeAndMoveAreENODEV) {
    const auto buffer = vram.alloc({.size = page});
    vram.revoke(buffer.fd());
    EXPECT_ERRNO(ENODEV, vram.revoke(buffer.fd()));
    EXPECT_ERRNO(ENODEV, vram.move(buffer.fd(), SYSTEM));
}

// Rule: E2
TEST_F(RevokeAlone, WithoutTheCapIsEOPNOTSUPP) {
    const auto buffer = vram.alloc({.size = page, .caps = PFN_VRAM_CAP_PIN | PFN_VRAM_CAP_MOVE});
    EXPECT_ERRNO(EOPNOTSUPP, vram.revoke(buffer.fd()));
}

TEST_F(RevokeAlone, ReservedFieldAndWrongDescriptor) {
    const auto buffer = vram.alloc({.size = page});
    pfn_vram_revoke arg{.fd = buffer.fd(), .reserved = 1};
    EXPECT_EQ(-1, ::ioctl(vram.fd(), PFN_VRAM_IOC_REVOKE, &arg));
    EXPECT_EQ(EINVAL, errno);
    EXPECT_ERRNO(EBADF, vram.revoke(-1));
    EXPECT_EQ(0U, vram.buf_info(buffer.fd()).flags & PFN_VRAM_BUF_REVOKED);
}

// Rule: L2
TEST_F(RevokeAlone, CpuAccessIsSIGBUS) {
    const auto buffer = vram.alloc({.size = 4 * page});
    auto child = Child::fork([&](Channel& parent) {
        const auto cpu = buffer.map();
        auto& byte = reinterpret_cast<volatile unsigned char&>(cpu.bytes()[page]);
        byte = 1; // present before the revoke
        parent.send(1);
        (void)parent.recv<int>();
        byte = 2;
        return 0; // not reached
    });
    (void)child.channel().recv<int>();
    vram.revoke(buffer.fd());
    child.channel().send(1);
    EXPECT_EQ((Exit{.status = 0, .signal = SIGBUS}), child.wait(PATIENCE));
}

} // namespace
} // namespace pfn
