// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
#include "tools/devices.hpp"

#include "common/verbs.hpp"
#include "common/vram.hpp"

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <memory>
#include <span>
#include <system_error>
#include <utility>

namespace pfn::tools {
namespace {

struct DeviceListDelete {
    void operator()(ibv_device** list) const noexcept { ibv_free_device_list(list); }
};

bool port_is_active(ibv_context* context) {
    ibv_port_attr port{};
    return ibv_query_port(context, 1, &port) == 0 && port.state == IBV_PORT_ACTIVE;
}

/// Programs find out like this, too: a provider that can will look at the descriptor.
bool has_dmabuf_verb(const Pd& pd) {
    const int no_descriptor = -1;
    errno = 0;
    ibv_mr* mr =
        ibv_reg_dmabuf_mr(pd.get(), 0, page_size(), 0, no_descriptor, IBV_ACCESS_LOCAL_WRITE);
    if (mr)
        ibv_dereg_mr(mr);
    return errno == EBADF;
}

/// What only an open device tells. It may be gone again by now.
void look_inside(RdmaDevice& result) try {
    const Context context(result.name);
    result.active = port_is_active(context.get());
    pfndv_device_attr attr{};
    if (pfndv_query_device(context.get(), &attr, sizeof(attr)) == 0)
        result.supports = attr;
    else
        result.reason = pfndv_last_reason();
    result.plain_verb = has_dmabuf_verb(Pd(context.get()));
} catch (const std::system_error& e) {
    result.supports.reset();
    result.reason = e.what();
}

RdmaDevice look_at(ibv_device* device) {
    RdmaDevice result;
    result.name = ibv_get_device_name(device);
    result.node = std::string("/dev/infiniband/") + device->dev_name;
    if (!pfndv_is_supported(device)) {
        result.may_open = errno != EACCES && errno != EPERM;
        result.reason = pfndv_last_reason();
        return result;
    }
    look_inside(result);
    return result;
}

} // namespace

std::vector<RdmaDevice> rdma_devices() {
    int count = 0;
    const std::unique_ptr<ibv_device*, DeviceListDelete> list(ibv_get_device_list(&count));
    std::vector<RdmaDevice> result;
    if (!list) // no ib_uverbs, say
        return result;
    for (ibv_device* device : std::span(list.get(), static_cast<std::size_t>(count)))
        result.push_back(look_at(device));
    return result;
}

std::vector<std::string> vram_nodes() {
    std::vector<std::string> result;
    std::error_code ignored;
    for (const auto& entry : std::filesystem::directory_iterator("/dev", ignored)) {
        const std::string name = entry.path().filename();
        if (name.starts_with("pfn_vram"))
            result.push_back(entry.path());
    }
    // By number: 2 comes before 10.
    std::ranges::sort(result, {}, [](const std::string& s) { return std::pair(s.size(), s); });
    return result;
}

std::vector<std::string> names(std::uint32_t mask, const char* (*name)(std::uint32_t)) {
    std::vector<std::string> result;
    for (std::uint32_t i = 0; i < 32; ++i) {
        if ((mask & 1U << i) != 0)
            result.emplace_back(name(i));
    }
    return result;
}

std::string join(const std::vector<std::string>& words) {
    std::string result;
    for (const std::string& word : words)
        result += (result.empty() ? "" : ", ") + word;
    return result;
}

} // namespace pfn::tools
