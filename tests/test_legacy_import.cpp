// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
//
// The other direction: importers of the kernel that know nothing of physical
// ranges get what they are used to from pfn_vram. vivid, a camera without
// hardware, captures into buffers of ours: one device through a scatterlist
// (videobuf2's dma-contig), one through a kernel mapping (vmalloc).
#include "support/rdma_test.hpp"
#include "support/vivid.hpp"

#include <linux/videodev2.h>
#include <poll.h>
#include <sys/ioctl.h>

#include <algorithm>
#include <bit>
#include <chrono>
#include <string>
#include <string_view>
#include <vector>

namespace pfn {
namespace {

constexpr std::uint32_t VRAM = PFN_VRAM_PLACEMENT_VRAM;
constexpr std::uint32_t SYSTEM = PFN_VRAM_PLACEMENT_SYSTEM;

/// A video capture device that fills buffers of somebody else.
class Camera {
  public:
    static constexpr std::uint32_t WIDTH = 320;
    static constexpr std::uint32_t HEIGHT = 180;

    explicit Camera(std::string_view bus) : fd_(open_camera(bus)) {
        v4l2_format format{};
        format.type = V4L2_BUF_TYPE_VIDEO_CAPTURE;
        format.fmt.pix.width = WIDTH;
        format.fmt.pix.height = HEIGHT;
        format.fmt.pix.pixelformat = V4L2_PIX_FMT_YUYV;
        call(VIDIOC_S_FMT, &format, "VIDIOC_S_FMT");
        image_ = format.fmt.pix.sizeimage;
        request(1);
    }

    /// Bytes of a picture.
    [[nodiscard]] std::uint64_t image_bytes() const { return image_; }

    /// Hand the buffer over. Throws std::system_error.
    void queue(const DmaBuf& buffer) {
        v4l2_buffer arg = plane();
        arg.m.fd = buffer.fd();
        arg.length = static_cast<std::uint32_t>(buffer.size());
        call(VIDIOC_QBUF, &arg, "VIDIOC_QBUF");
    }

    /// Let the camera run until the buffer that is queued holds a picture.
    void capture() {
        int type = V4L2_BUF_TYPE_VIDEO_CAPTURE;
        call(VIDIOC_STREAMON, &type, "VIDIOC_STREAMON");
        pollfd wait{.fd = fd_.get(), .events = POLLIN, .revents = 0};
        const auto ms = std::chrono::duration_cast<std::chrono::milliseconds>(PATIENCE).count();
        if (::poll(&wait, 1, static_cast<int>(ms)) != 1)
            throw Timeout("no picture");
        v4l2_buffer arg = plane();
        call(VIDIOC_DQBUF, &arg, "VIDIOC_DQBUF");
        EXPECT_EQ(0U, arg.flags & V4L2_BUF_FLAG_ERROR);
        EXPECT_EQ(image_, arg.bytesused);
        call(VIDIOC_STREAMOFF, &type, "VIDIOC_STREAMOFF");
    }

    /// Forget the buffers: the camera detaches from them.
    void forget() {
        request(0);
        request(1);
    }

  private:
    static v4l2_buffer plane() {
        v4l2_buffer arg{};
        arg.type = V4L2_BUF_TYPE_VIDEO_CAPTURE;
        arg.memory = V4L2_MEMORY_DMABUF;
        return arg;
    }
    void request(std::uint32_t count) {
        v4l2_requestbuffers arg{};
        arg.count = count;
        arg.type = V4L2_BUF_TYPE_VIDEO_CAPTURE;
        arg.memory = V4L2_MEMORY_DMABUF;
        call(VIDIOC_REQBUFS, &arg, "VIDIOC_REQBUFS");
    }
    void call(unsigned long request, void* arg, const char* what) {
        if (::ioctl(fd_.get(), request, arg) < 0)
            throw_errno(what);
    }

    Fd fd_;
    std::uint64_t image_ = 0;
};

/// How a camera imports.
struct Import {
    const char* name;
    std::string_view bus;
    bool scatterlist;
};

void PrintTo(const Import& import, std::ostream* out) {
    *out << import.name;
}

class LegacyImport : public RdmaTest, public testing::WithParamInterface<Import> {
  protected:
    void SetUp() override {
        RdmaTest::SetUp();
        if (!load_vivid())
            GTEST_SKIP() << "this kernel has no vivid";
    }

    /// A buffer large enough for a picture, in one piece.
    [[nodiscard]] DmaBuf buffer_for(const Camera& camera, std::uint32_t placement) const {
        return vram.alloc({.size = std::bit_ceil(camera.image_bytes()), .placement = placement});
    }

    [[nodiscard]] bool bar() const { return vram.info().backend == PFN_VRAM_BACKEND_BAR; }
    [[nodiscard]] bool pinned(const DmaBuf& buffer) const {
        return vram.buf_info(buffer.fd()).flags & PFN_VRAM_BUF_PINNED;
    }

    /// Capture a picture and look at it from everywhere.
    void capture_and_compare(Camera& camera, const DmaBuf& buffer, const Mr& mr) {
        const Mapping cpu = buffer.map();
        fill_pattern(cpu.bytes(), ++seed);
        camera.queue(buffer);
        EXPECT_TRUE(pinned(buffer));
        EXPECT_ERRNO(EBUSY, vram.move(buffer.fd(), SYSTEM));
        camera.capture();

        const HostMemory copy(peer.pd, buffer.size());
        for (std::uint64_t at = 0; at < buffer.size(); at += 64 * KIB) {
            const auto length = std::min(buffer.size() - at, 64 * KIB);
            read(copy.sge(at, length), {.address = at, .rkey = mr.rkey()});
        }
        const std::vector<std::byte> seen(cpu.bytes().begin(), cpu.bytes().end());
        EXPECT_TRUE(std::ranges::equal(copy.bytes(), seen)) << "CPU and RDMA see different things";
        // The picture is all new, and what is behind it untouched.
        const std::span bytes(seen);
        for (std::uint64_t at = 0; at + 64 <= camera.image_bytes(); at += 64)
            ASSERT_FALSE(has_pattern(bytes.subspan(at, 64), seed, at)) << "old bytes at " << at;
        EXPECT_TRUE(has_pattern(bytes.subspan(camera.image_bytes()), seed, camera.image_bytes()));
    }

    std::uint64_t seed = 0;
};

constexpr Import IMPORTS[] = {{"Scatterlist", CONTIGUOUS_CAMERA, true},
                              {"KernelMapping", VMALLOC_CAMERA, false}};

INSTANTIATE_TEST_SUITE_P(Vivid, LegacyImport, testing::ValuesIn(IMPORTS),
                         [](const auto& test) { return std::string(test.param.name); });

TEST_P(LegacyImport, CameraFillsSystemMemory) {
    Camera camera(GetParam().bus);
    const DmaBuf buffer = buffer_for(camera, SYSTEM);
    const auto mr = Mr::dmabuf(gpu.pd, buffer.fd(), 0, buffer.size(), 0);
    capture_and_compare(camera, buffer, mr);
    EXPECT_EQ(2U, vram.buf_info(buffer.fd()).attachments + (GetParam().scatterlist ? 0 : 1));
}

TEST_P(LegacyImport, CameraFillsVram) {
    Camera camera(GetParam().bus);
    const DmaBuf buffer = buffer_for(camera, VRAM);
    const auto mr = Mr::dmabuf(gpu.pd, buffer.fd(), 0, buffer.size(), 0);
    if (bar() && GetParam().scatterlist) {
        // A camera that is no PCI device cannot be a peer of one.
        EXPECT_ERRNO(EINVAL, camera.queue(buffer)); // videobuf2 has one errno for all
        EXPECT_FALSE(pinned(buffer));
        return;
    }
    if (bar())
        GTEST_SKIP() << "videobuf2 forgets that the mapping is of a BAR: BUG in dma_buf_vunmap()";
    capture_and_compare(camera, buffer, mr);
}

// Rule: L1
TEST_P(LegacyImport, BufferMovesBetweenPictures) {
    Camera camera(GetParam().bus);
    const DmaBuf buffer = buffer_for(camera, SYSTEM);
    const auto mr = Mr::dmabuf(gpu.pd, buffer.fd(), 0, buffer.size(), 0);
    for (int i = 0; i < 3; ++i) {
        capture_and_compare(camera, buffer, mr);
        camera.forget();
        EXPECT_EQ(1U, vram.buf_info(buffer.fd()).attachments);
        EXPECT_FALSE(pinned(buffer));
        vram.move(buffer.fd(), VRAM);
        vram.move(buffer.fd(), SYSTEM);
    }
}

// Rule: L1
TEST_P(LegacyImport, WhoCannotHoldStillIsNotImported) {
    if (!GetParam().scatterlist)
        GTEST_SKIP() << "dma_buf_vmap() has a WARN for exporters that refuse";
    Camera camera(GetParam().bus);
    const DmaBuf mover = vram.alloc({.size = std::bit_ceil(camera.image_bytes()),
                                     .placement = SYSTEM,
                                     .caps = PFN_VRAM_CAP_MOVE});
    EXPECT_NE(0, errno_of([&] { camera.queue(mover); }));
    EXPECT_ERRNO(0, vram.move(mover.fd(), SYSTEM));
    EXPECT_EQ(0U, vram.buf_info(mover.fd()).attachments);
}

} // namespace
} // namespace pfn
