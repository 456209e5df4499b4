// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
//
// A soft-RoCE device that nobody else sees the network of, for machines without one.
#pragma once

#include <string>

namespace pfn::tools {

/// While it exists this process is in a network namespace of its own, with a dummy
/// network device in there and a soft-RoCE device on that. All of it goes with the
/// process at the latest, however that ends. Needs root. Throws Problem.
class OwnDevice {
  public:
    OwnDevice();
    ~OwnDevice();
    OwnDevice(const OwnDevice&) = delete;
    OwnDevice& operator=(const OwnDevice&) = delete;

    /// Of the RDMA device.
    [[nodiscard]] const std::string& name() const { return name_; }

  private:
    std::string name_;
};

} // namespace pfn::tools
