// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
//
// A module's parameter that is switched on and off while something is measured.
#pragma once

#include "common/files.hpp"

#include <exception>
#include <string>

namespace pfn::perf {

/// As it was before at the end. Throws std::system_error.
class Parameter {
  public:
    Parameter(const std::string& module, const std::string& name)
        : path_("/sys/module/" + module + "/parameters/" + name), before_(read_file(path_)) {}
    ~Parameter() {
        try {
            write_file(path_, before_);
        } catch (const std::exception&) { // nobody is left to tell
        }
    }
    Parameter(const Parameter&) = delete;
    Parameter& operator=(const Parameter&) = delete;

    void set(bool on) const { write_file(path_, on ? "1" : "0"); }

  private:
    std::string path_;
    std::string before_;
};

} // namespace pfn::perf
