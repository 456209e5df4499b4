// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
//
// How this library reports errors: exceptions. A step that fails in an example
// has one sensible handler, far up in main(); and a test that is about an errno
// asks errno_of(). What is *not* an error of the caller, a completion with a
// bad status above all, is an ordinary return value.
#pragma once

#include <cerrno>
#include <string>
#include <system_error>
#include <utility>

namespace pfn {

/// A wait has taken longer than it may.
class Timeout : public std::runtime_error {
  public:
    using std::runtime_error::runtime_error;
};

/// Throw std::system_error for @p err, a positive errno; @p what says which
/// step failed, in words for a person.
[[noreturn]] inline void throw_errno(int err, const std::string& what) {
    throw std::system_error(err, std::generic_category(), what);
}

/// As above with the errno of the system call that has just failed.
[[noreturn]] inline void throw_errno(const std::string& what) {
    throw_errno(errno, what);
}

/// Run @p step and return the errno it failed with, or 0 if it did not fail.
template<typename Step>
int errno_of(Step&& step) {
    try {
        std::forward<Step>(step)();
    } catch (const std::system_error& e) {
        return e.code().value();
    }
    return 0;
}

} // namespace pfn
