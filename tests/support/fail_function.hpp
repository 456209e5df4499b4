// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
//
// A kernel function that fails without having done anything: the fault injection
// called fail_function, which the debug kernel has.
#pragma once

#include "common/error.hpp"
#include "support/setting.hpp"

#include <filesystem>
#include <fstream>
#include <string>

namespace pfn {

/// Lets every call of a kernel function fail, whoever makes it, as long as this lives.
class FailFunction {
  public:
    /// Can this kernel do that?
    static bool available() { return std::filesystem::exists(DIRECTORY); }

    /// @p function must be one that its source allows (ALLOW_ERROR_INJECTION).
    FailFunction(std::string function, int error) : function_(std::move(function)) {
        write(DIRECTORY + "inject", function_);
        // As the kernel sees it, unsigned: it refuses a minus.
        write(DIRECTORY + function_ + "/retval",
              std::to_string(static_cast<unsigned long long>(-static_cast<long long>(error))));
    }
    ~FailFunction() { std::ofstream(DIRECTORY + "inject") << "!" << function_; }
    FailFunction(const FailFunction&) = delete;
    FailFunction& operator=(const FailFunction&) = delete;

  private:
    static void write(const std::string& path, const std::string& value) {
        std::ofstream out(path);
        out << value << std::flush;
        if (!out)
            throw_errno("write to " + path);
    }

    inline static const std::string DIRECTORY = "/sys/kernel/debug/fail_function/";
    std::string function_;
    Setting verbose_{DIRECTORY + "verbose", "0"};
    Setting interval_{DIRECTORY + "interval", "1"};
    Setting times_{DIRECTORY + "times", "-1"};
    Setting probability_{DIRECTORY + "probability", "100"};
};

} // namespace pfn
