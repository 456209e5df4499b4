// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
//
// What people who debug can see: rdma resource, rdma statistic, tracepoints, the
// exporter's debugfs, and why a registration was refused.
#include "common/files.hpp"
#include "support/mover.hpp"
#include "support/rdma_test.hpp"
#include "support/rdma_tool.hpp"

#include <sys/mman.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <memory>
#include <stop_token>
#include <string>
#include <thread>

namespace pfn {
namespace {

/// The one MR of @p device in what @p arguments list, which must be alone.
Json only_mr(const std::string& arguments, const std::string& device) {
    Json found;
    int count = 0;
    for (const Json& mr : rdma(arguments)) {
        if (mr.at("ifname") == device) {
            found = mr;
            count++;
        }
    }
    EXPECT_EQ(1, count) << arguments << " shows other MRs";
    return found;
}

class Observe : public RdmaTest {};

TEST_F(Observe, ResourceShowsWhatAnMrIsAndHowItIs) {
    const DeviceMemory device(vram, gpu.pd, {.size = 1 * MIB, .chunk = page_chunk()});
    Json mr = only_mr("-dd resource show mr", GPU_DEVICE);
    EXPECT_EQ("dynamic", mr.at("drv_mode"));
    EXPECT_EQ("present", mr.at("drv_state"));
    EXPECT_EQ("pfn", mr.at("drv_backend"));
    EXPECT_EQ("exporter lends ranges", mr.at("drv_reason"));
    EXPECT_EQ("pfn_vram", mr.at("drv_exporter"));
    EXPECT_EQ(1 * MIB / page_size(), mr.at("drv_ranges"));
    EXPECT_EQ(query_mr(device.mr).metadata_bytes, mr.at("drv_metadata_bytes"));
    EXPECT_EQ(inode(device.buffer.fd()), mr.at("drv_dmabuf"));
    EXPECT_EQ(1 * MIB, mr.at("mrlen"));

    vram.move(device.buffer.fd(), PFN_VRAM_PLACEMENT_SYSTEM);
    mr = only_mr("-dd resource show mr", GPU_DEVICE);
    EXPECT_EQ("absent", mr.at("drv_state"));
    EXPECT_EQ(0, mr.at("drv_ranges"));

    vram.revoke(device.buffer.fd());
    mr = only_mr("-dd resource show mr", GPU_DEVICE);
    EXPECT_EQ("revoked", mr.at("drv_state"));
}

// Rule: B5
TEST_F(Observe, ResourceShowsWhyThereIsABridge) {
    const DeviceMemory device(gpu.pd, foreign_buffer(Exporter::SYSTEM_HEAP, 64 * KIB));
    const Json mr = only_mr("-dd resource show mr", GPU_DEVICE);
    EXPECT_EQ("pinned", mr.at("drv_mode"));
    EXPECT_EQ("present", mr.at("drv_state"));
    EXPECT_EQ("vmap", mr.at("drv_backend"));
    EXPECT_EQ("exporter lends no ranges, maps for the kernel", mr.at("drv_reason"));
    EXPECT_EQ("system", mr.at("drv_exporter"));
    EXPECT_EQ(0, mr.at("drv_ranges"));
    EXPECT_EQ(inode(device.buffer.fd()), mr.at("drv_dmabuf"));
}

TEST_F(Observe, ResourceShowsModeAndOffset) {
    const DmaBuf buffer = vram.alloc({.size = 4 * page_size()});
    for (const auto& [mode, name] :
         {std::pair{PFN_MR_MODE_PINNED, "pinned"}, std::pair{PFN_MR_MODE_REVOCABLE, "revocable"},
          std::pair{PFN_MR_MODE_DYNAMIC, "dynamic"}}) {
        const ModeMr mr(gpu.pd, mode, buffer.fd(), page_size(), page_size(), 0);
        const Json shown = only_mr("-dd resource show mr", GPU_DEVICE);
        EXPECT_EQ(name, shown.at("drv_mode"));
        EXPECT_EQ(page_size(), shown.at("drv_offset"));
        EXPECT_EQ(page_size(), mr.query().offset);
    }
}

TEST_F(Observe, ResourceShowsMrsByAddressAsWhatTheyAre) {
    const DmaBuf buffer = vram.alloc({.size = 4 * page_size()});
    const Mapping cpu = buffer.map();
    const Mr mr = Mr::host(gpu.pd, cpu.bytes().subspan(page_size() + 5, page_size()));
    const Json shown = only_mr("-dd resource show mr", GPU_DEVICE);
    EXPECT_EQ("dynamic", shown.at("drv_mode"));
    EXPECT_EQ("present", shown.at("drv_state"));
    EXPECT_EQ("pfn", shown.at("drv_backend"));
    EXPECT_EQ("pfn_vram", shown.at("drv_exporter"));
    EXPECT_EQ(inode(buffer.fd()), shown.at("drv_dmabuf"));
    EXPECT_EQ(page_size() + 5, shown.at("drv_offset"));
    EXPECT_EQ(page_size(), shown.at("mrlen"));
    EXPECT_EQ(0, only_mr("statistic show mr", GPU_DEVICE).at("page_faults"));
}

TEST_F(Observe, HostMrsShowNothingOfTheSort) {
    const HostMemory host(gpu.pd, page_size());
    const Json mr = only_mr("-dd resource show mr", GPU_DEVICE);
    EXPECT_FALSE(mr.contains("drv_mode"));
    EXPECT_FALSE(only_mr("statistic show mr", GPU_DEVICE).contains("page_faults"));
}

TEST_F(Observe, StatisticCountsFaultsInvalidationsPrefetchesAndBytes) {
    const DeviceMemory device(vram, gpu.pd, {.size = 64 * KIB});
    const HostMemory local(peer.pd, 64 * KIB);
    reconnect({.ack_timeout = 20}); // a READ that is sent again counts again
    write(local.sge(0, 64 * KIB), device.remote());
    vram.move(device.buffer.fd(), PFN_VRAM_PLACEMENT_SYSTEM);
    read(local.sge(0, 4 * KIB), device.remote());
    vram.move(device.buffer.fd(), PFN_VRAM_PLACEMENT_VRAM);
    advise(gpu.pd, IBV_ADVISE_MR_ADVICE_PREFETCH, IBV_ADVISE_MR_FLAG_FLUSH,
           device.sge(0, 64 * KIB));

    const Json mr = only_mr("statistic show mr", GPU_DEVICE);
    EXPECT_EQ(1, mr.at("page_faults"));
    EXPECT_EQ(2, mr.at("page_invalidations"));
    EXPECT_EQ(1, mr.at("page_prefetch"));
    EXPECT_EQ(64 * KIB, mr.at("bytes_written"));
    EXPECT_EQ(4 * KIB, mr.at("bytes_read"));
}

TEST_F(Observe, StateAndCountersAreOfOneMoment) {
    constexpr int EACH = 300; // of both states: with two CPUs that is a thousand moves or so
    const DeviceMemory device(vram, gpu.pd, {.size = 64 * KIB});
    const HostMemory local(peer.pd, 8);
    Mover mover(vram, device.buffer.fd());
    int error = 0;
    std::jthread prefetcher([&](const std::stop_token& stop) {
        error = errno_of([&] {
            while (!stop.stop_requested())
                advise(gpu.pd, IBV_ADVISE_MR_ADVICE_PREFETCH, IBV_ADVISE_MR_FLAG_FLUSH,
                       device.sge(0, 64 * KIB));
        });
    });

    int present = 0;
    int absent = 0;
    const auto deadline = std::chrono::steady_clock::now() + PATIENCE;
    while (present < EACH || absent < EACH) {
        ASSERT_LT(std::chrono::steady_clock::now(), deadline)
            << present << " times present, " << absent << " times absent";
        const auto info = query_mr(device.mr);
        const bool is_present = info.state == PFN_MR_STATE_PRESENT;
        ++(is_present ? present : absent);
        // Mapped when registered, and each time after that for one of two reasons.
        ASSERT_EQ(info.generation, 1 + info.faults + info.prefetches);
        ASSERT_EQ(info.generation, info.invalidations + is_present);
        write(local.sge(0, 8), device.remote());
    }
    prefetcher.request_stop();
    prefetcher.join();
    EXPECT_EQ(Errno{0}, Errno{error});
    mover.stop();
}

TEST_F(Observe, DebugfsOfTheExporterShowsBuffersAndImporters) {
    const DeviceMemory device(vram, gpu.pd, {.size = 1 * MIB, .caps = PFN_VRAM_CAP_MOVE});
    const std::string path = "/sys/kernel/debug/pfn_vram/pfn_vram0/buffers";
    const std::string id = "dmabuf " + std::to_string(inode(device.buffer.fd())) + ": ";
    std::string text = read_file(path);
    EXPECT_NE(std::string::npos,
              text.find(id + "1048576 bytes, vram, 1 ranges, generation 0, can move\n"
                             "  importer rxe_gpu: dynamic, mapped\n"))
        << text;
    vram.move(device.buffer.fd(), PFN_VRAM_PLACEMENT_SYSTEM, page_chunk());
    text = read_file(path);
    EXPECT_NE(std::string::npos,
              text.find(id + "1048576 bytes, system, 256 ranges, generation 1, can move\n"
                             "  importer rxe_gpu: dynamic, not mapped\n"))
        << text;
}

/// Records the events of ib_umem_pfn as long as it lives.
class Trace {
  public:
    Trace() {
        write_file(DIR + "/trace", "");
        write_file(ENABLE, "1");
    }
    ~Trace() {
        try {
            write_file(ENABLE, "0");
        } catch (const std::exception& e) {
            ADD_FAILURE() << e.what();
        }
    }
    Trace(const Trace&) = delete;
    Trace& operator=(const Trace&) = delete;

    /// Is there a line with @p event and all of @p parts?
    [[nodiscard]] bool has(const std::string& event, const std::vector<std::string>& parts) const {
        std::ifstream in(DIR + "/trace");
        for (std::string line; std::getline(in, line);) {
            bool all = line.find(" " + event + ": ") != std::string::npos;
            for (const std::string& part : parts)
                all = all && line.find(part) != std::string::npos;
            if (all)
                return true;
        }
        return false;
    }

  private:
    inline static const std::string DIR = "/sys/kernel/tracing";
    inline static const std::string ENABLE = DIR + "/events/ib_umem_pfn/enable";
};

TEST_F(Observe, TracepointsTellTheLifeOfAnMr) {
    const Trace trace;
    const HostMemory local(peer.pd, 4 * KIB);
    std::string dmabuf;
    {
        const DeviceMemory device(vram, gpu.pd, {.size = 64 * KIB});
        dmabuf = "dmabuf=" + std::to_string(inode(device.buffer.fd())) + " ";
        EXPECT_TRUE(trace.has("ib_umem_pfn_map", {dmabuf, "length=65536", "ranges=1", "err=0"}));
        vram.move(device.buffer.fd(), PFN_VRAM_PLACEMENT_SYSTEM);
        EXPECT_TRUE(trace.has("ib_umem_pfn_invalidate", {dmabuf, "was present"}));
        write(local.sge(0, 4 * KIB), device.remote());
        EXPECT_TRUE(trace.has("ib_umem_pfn_fault", {dmabuf, "err=0"}));
        vram.move(device.buffer.fd(), PFN_VRAM_PLACEMENT_VRAM);
        advise(gpu.pd, IBV_ADVISE_MR_ADVICE_PREFETCH, IBV_ADVISE_MR_FLAG_FLUSH,
               device.sge(0, 4 * KIB));
        EXPECT_TRUE(trace.has("ib_umem_pfn_prefetch", {dmabuf, "err=0"}));
        vram.revoke(device.buffer.fd());
        EXPECT_TRUE(trace.has("ib_umem_pfn_revoke", {dmabuf, "was present"}));
        peer.qp.post_write(1, local.sge(0, 4 * KIB), device.remote());
        EXPECT_EQ(IBV_WC_REM_ACCESS_ERR, peer.cq.wait().status);
        EXPECT_TRUE(trace.has("ib_umem_pfn_access_error", {dmabuf, "write", "err=-19"}));
    }
    EXPECT_TRUE(trace.has("ib_umem_pfn_unmap", {dmabuf, "was revoked"}));
}

/// The kernel's words for why registering like this is refused; the errno must
/// be @p error.
std::string reason(int error, const Pd& pd, std::uint32_t mode, int fd, std::uint64_t length,
                   unsigned access = FULL_ACCESS, std::uint64_t iova = 0, int eventfd = -1) {
    try {
        const ModeMr mr(pd, mode, fd, 0, length, iova, access, eventfd);
    } catch (const RegistrationError& e) {
        EXPECT_EQ(Errno{error}, Errno{e.code().value()});
        return e.reason();
    }
    return "it was not refused";
}

// Rule: I8
TEST_F(Observe, RefusalsSayWhy) {
    const Trace trace;
    const std::uint64_t size = page_size();
    const DmaBuf any = vram.alloc({.size = size});
    const DmaBuf mover = vram.alloc({.size = size, .caps = PFN_VRAM_CAP_MOVE});
    const DmaBuf read_only = vram.alloc({.size = size, .fd_flags = O_RDONLY | O_CLOEXEC});
    const DmaBuf revoked = vram.alloc({.size = size});
    vram.revoke(revoked.fd());
    const Fd no_dmabuf(::open("/dev/null", O_RDWR | O_CLOEXEC));
    const Pd& pd = gpu.pd;

    EXPECT_EQ("the exporter may move or revoke the buffer and cannot pin it: no PINNED mode",
              reason(EOPNOTSUPP, pd, PFN_MR_MODE_PINNED, mover.fd(), size));
    EXPECT_EQ("the exporter may move the buffer and cannot pin it: no REVOCABLE mode",
              reason(EOPNOTSUPP, pd, PFN_MR_MODE_REVOCABLE, mover.fd(), size));
    EXPECT_EQ("there is no such mode", reason(EINVAL, pd, 17, any.fd(), size));
    EXPECT_EQ("the dma-buf was exported read-only, the access flags write",
              reason(EACCES, pd, 0, read_only.fd(), size));
    EXPECT_EQ("the exporter has revoked the buffer", reason(ENODEV, pd, 0, revoked.fd(), size));
    EXPECT_EQ("the file descriptor is not a dma-buf", reason(EINVAL, pd, 0, no_dmabuf.get(), size));
    EXPECT_EQ("the length is 0", reason(EINVAL, pd, 0, any.fd(), 0));
    EXPECT_EQ("the range ends beyond the end of the dma-buf",
              reason(EINVAL, pd, 0, any.fd(), size + 1));
    EXPECT_EQ("iova and length wrap around",
              reason(EINVAL, pd, 0, any.fd(), size, FULL_ACCESS, ~std::uint64_t{page_size() - 1}));
    EXPECT_EQ("the eventfd is not an open eventfd",
              reason(EINVAL, pd, 0, any.fd(), size, FULL_ACCESS, 0, no_dmabuf.get()));
    EXPECT_TRUE(trace.has("ib_umem_pfn_refuse", {"err=-22", "the length is 0"}));
    EXPECT_TRUE(trace.has("ib_umem_pfn_refuse", {"mode=1", "no PINNED mode"}));

    // Where an errno says it all, and where it succeeds, nothing is said.
    EXPECT_EQ("", reason(EBADF, pd, 0, -1, size));
    const ModeMr fine(pd, 0, any.fd(), 0, size, 0);
}

/// The kernel's words for why registering by address is refused.
std::string address_reason(int error, const Pd& pd, std::uint32_t mode, std::uint64_t address,
                           std::uint64_t length, unsigned access = FULL_ACCESS) {
    try {
        const auto mr = ModeMr::by_address(pd, mode, address, length, address, access);
    } catch (const RegistrationError& e) {
        EXPECT_EQ(Errno{error}, Errno{e.code().value()});
        return e.reason();
    }
    return "it was not refused";
}

// Rule: I8
TEST_F(Observe, RefusalsByAddressSayWhy) {
    const Trace trace;
    const std::uint64_t size = page_size();
    const DmaBuf buffer = vram.alloc({.size = 2 * size});
    const Mapping cpu = buffer.map();
    const Mapping readonly(buffer.fd(), size, PROT_READ);
    const DmaBuf mover = vram.alloc({.size = size, .caps = PFN_VRAM_CAP_MOVE});
    const Mapping moving = mover.map();
    const DmaBuf drm = foreign_buffer(Exporter::VGEM, 2 * size);
    const Mapping part(drm.fd(), size);
    const Pd& pd = gpu.pd;

    EXPECT_EQ("the range does not end in the mapping that it begins in",
              address_reason(EINVAL, pd, 0, cpu.address() + size, size + 1));
    EXPECT_EQ("the mapping forbids what the access flags ask for",
              address_reason(EACCES, pd, 0, readonly.address(), size));
    EXPECT_EQ("which part of the dma-buf is mapped is not known: map it all",
              address_reason(EOPNOTSUPP, pd, 0, part.address(), size));
    EXPECT_EQ("the exporter may move or revoke the buffer and cannot pin it: no PINNED mode",
              address_reason(EOPNOTSUPP, pd, PFN_MR_MODE_PINNED, moving.address(), size));
    EXPECT_EQ("the length is 0", address_reason(EINVAL, pd, 0, cpu.address(), 0));

    // Plain ibv_reg_mr() has no room for a reason.
    EXPECT_ERRNO(EINVAL, Mr::host(pd, {cpu.bytes().data(), 2 * size + 1}));
    EXPECT_TRUE(trace.has("ib_umem_pfn_refuse",
                          {"fd=-1", "length=8193", "err=-22", "does not end in the mapping"}));
}

} // namespace
} // namespace pfn
