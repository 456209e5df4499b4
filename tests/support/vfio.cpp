// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
#include "support/vfio.hpp"

#include "common/error.hpp"
#include "common/files.hpp"
#include "support/modules.hpp"

#include <fcntl.h>
#include <linux/pci_regs.h>
#include <linux/vfio.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <utility>

namespace pfn {
namespace {

const std::string DEVICES = "/sys/bus/pci/devices/";

void unbind(const std::string& device) {
    const std::string driver = DEVICES + device + "/driver";
    if (std::filesystem::exists(driver))
        write_file(driver + "/unbind", device);
}

Fd open_or_throw(const std::string& path) {
    Fd fd(::open(path.c_str(), O_RDWR | O_CLOEXEC));
    if (!fd)
        throw_errno("open " + path);
    return fd;
}

} // namespace

std::optional<std::string> VfioBinding::obstacle(const std::string& device) {
    if (!std::filesystem::exists(DEVICES + device + "/iommu_group"))
        return "no IOMMU here: ./lab run --iommu";
    try {
        load_module("vfio-pci");
        load_module("vfio_iommu_type1");
    } catch (const std::exception& e) {
        return std::string("no vfio-pci: ") + e.what();
    }
    return {};
}

VfioBinding::VfioBinding(std::string device) : device_(std::move(device)) {
    unbind(device_);
    write_file(DEVICES + device_ + "/driver_override", "vfio-pci");
    write_file("/sys/bus/pci/drivers_probe", device_);
}

VfioBinding::~VfioBinding() {
    // What fails here is missed by the next test, which says so.
    try {
        unbind(device_);
        write_file(DEVICES + device_ + "/driver_override", "\n");
        write_file("/sys/bus/pci/drivers_probe", device_);
    } catch (const std::exception&) {
        return;
    }
}

VfioDevice::VfioDevice(const std::string& device) : container_(open_or_throw("/dev/vfio/vfio")) {
    const auto group = std::filesystem::read_symlink(DEVICES + device + "/iommu_group");
    group_ = open_or_throw("/dev/vfio/" + group.filename().string());
    int container = container_.get();
    if (::ioctl(group_.get(), VFIO_GROUP_SET_CONTAINER, &container) < 0)
        throw_errno("VFIO_GROUP_SET_CONTAINER");
    if (::ioctl(container_.get(), VFIO_SET_IOMMU, VFIO_TYPE1v2_IOMMU) < 0)
        throw_errno("VFIO_SET_IOMMU");
    device_ = Fd(::ioctl(group_.get(), VFIO_GROUP_GET_DEVICE_FD, device.c_str()));
    if (!device_)
        throw_errno("VFIO_GROUP_GET_DEVICE_FD");
    enable_memory(true);
}

std::uint64_t VfioDevice::region_offset(unsigned index) const {
    vfio_region_info info{};
    info.argsz = sizeof(info);
    info.index = index;
    if (::ioctl(device_.get(), VFIO_DEVICE_GET_REGION_INFO, &info) < 0)
        throw_errno("VFIO_DEVICE_GET_REGION_INFO");
    return info.offset;
}

DmaBuf VfioDevice::dmabuf(unsigned bar, const std::vector<Range>& ranges) const {
    // Two structs, each of which ends in an array: words, then.
    std::vector<std::uint64_t> words(
        (sizeof(vfio_device_feature) + sizeof(vfio_device_feature_dma_buf)) / 8 +
        2 * ranges.size());
    auto* feature = reinterpret_cast<vfio_device_feature*>(words.data());
    feature->argsz = static_cast<std::uint32_t>(words.size() * 8);
    feature->flags = VFIO_DEVICE_FEATURE_GET | VFIO_DEVICE_FEATURE_DMA_BUF;
    auto* arg = reinterpret_cast<vfio_device_feature_dma_buf*>(feature->data);
    arg->region_index = bar;
    arg->open_flags = O_RDWR | O_CLOEXEC;
    arg->nr_ranges = static_cast<std::uint32_t>(ranges.size());
    std::uint64_t size = 0;
    auto* out = reinterpret_cast<std::uint64_t*>(arg + 1);
    for (const Range& range : ranges) {
        *out++ = range.offset;
        *out++ = range.length;
        size += range.length;
    }
    Fd fd(::ioctl(device_.get(), VFIO_DEVICE_FEATURE, feature));
    if (!fd)
        throw_errno("VFIO_DEVICE_FEATURE_DMA_BUF");
    return {std::move(fd), size};
}

Mapping VfioDevice::map(unsigned bar, Range range) const {
    return {device_.get(), static_cast<std::size_t>(range.length), Mapping::PROT_DEFAULT,
            Mapping::SHARED, region_offset(bar) + range.offset};
}

void VfioDevice::enable_memory(bool on) const {
    const auto where =
        static_cast<off_t>(region_offset(VFIO_PCI_CONFIG_REGION_INDEX) + PCI_COMMAND);
    std::uint16_t command = 0;
    if (::pread(device_.get(), &command, sizeof(command), where) != sizeof(command))
        throw_errno("read of the command register");
    command = static_cast<std::uint16_t>(on ? command | PCI_COMMAND_MEMORY
                                            : command & ~PCI_COMMAND_MEMORY);
    if (::pwrite(device_.get(), &command, sizeof(command), where) != sizeof(command))
        throw_errno("write of the command register");
}

void VfioDevice::reset() const {
    if (::ioctl(device_.get(), VFIO_DEVICE_RESET) < 0)
        throw_errno("VFIO_DEVICE_RESET");
}

} // namespace pfn
