// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
#pragma once

#include "common/error.hpp"
#include "common/fd.hpp"

#include <gtest/gtest.h>

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <fstream>
#include <string>

namespace pfn {

/// Makes calls of a kernel function begin slowly as long as it lives: probes there
/// note where it was called from, again and again, which takes a millisecond or so
/// under emulation. Widens a window between two statements, one of which is a call,
/// without a hook in the kernel's code.
class SlowFunction {
  public:
    /// @p name: "module:function".
    explicit SlowFunction(const std::string& name) {
        bool told = true;
        for (int i = 0; i < PROBES && told; ++i)
            told = tell("kprobe_events", "p:" + probe(i) + " " + name) &&
                   tell("events/" + probe(i) + "/trigger", "stacktrace");
        if (told && tell("events/pfn_slow/enable", "1"))
            return;
        const int error = errno;
        (void)stop();
        throw_errno(error, "a probe at " + name);
    }
    ~SlowFunction() {
        if (!stop())
            ADD_FAILURE() << "a probe is left";
    }
    /// How often it has been called since.
    [[nodiscard]] static unsigned long calls() {
        std::ifstream profile(PATH + "kprobe_profile"); // "NAME HITS MISSES" a line
        for (std::string name, hits, misses; profile >> name >> hits >> misses;) {
            if (name == "at0")
                return std::stoul(hits);
        }
        return 0;
    }
    SlowFunction(const SlowFunction&) = delete;
    SlowFunction& operator=(const SlowFunction&) = delete;

  private:
    static constexpr int PROBES = 20;
    inline static const std::string PATH = "/sys/kernel/tracing/";

    static std::string probe(int i) { return "pfn_slow/at" + std::to_string(i); }

    /// As the shell's ">>": nothing there is truncated.
    static bool tell(const std::string& file, const std::string& what) {
        const Fd fd(::open((PATH + file).c_str(), O_WRONLY | O_APPEND | O_CLOEXEC));
        return fd && ::write(fd.get(), what.data(), what.size()) >= 0;
    }

    static bool stop() {
        bool all = tell("events/pfn_slow/enable", "0");
        for (int i = 0; i < PROBES; ++i) {
            all &= tell("events/" + probe(i) + "/trigger", "!stacktrace");
            all &= tell("kprobe_events", "-:" + probe(i));
        }
        return all;
    }
};

} // namespace pfn
