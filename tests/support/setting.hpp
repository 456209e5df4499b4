// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
#pragma once

#include <fstream>
#include <string>
#include <utility>

namespace pfn {

/// Sets a file of debugfs, and sets it back at the end.
class Setting {
  public:
    Setting(std::string path, const std::string& value) : path_(std::move(path)) {
        std::ifstream(path_) >> before_;
        write(value);
    }
    ~Setting() { write(before_); }
    Setting(const Setting&) = delete;
    Setting& operator=(const Setting&) = delete;

  private:
    void write(const std::string& value) const { std::ofstream(path_) << value; }
    std::string path_;
    std::string before_;
};

} // namespace pfn
