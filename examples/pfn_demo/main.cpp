// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
//
// pfn_demo: memory that is registered for RDMA by its physical ranges, and used
// from afar while it moves.
//
//   main        this file
//   options     the command line
//   story       the parent: tells two processes what to do and says what happens
//   protocol    what they say to each other
//   gpu, peer   the two processes, each in a network namespace of its own
//   connection  librdmacm
//   traffic     what the peer writes, reads and adds
//   cost        what registering costs
#include "pfn_demo/options.hpp"
#include "pfn_demo/story.hpp"

#include <cstdio>
#include <exception>
#include <print>

int main(int argc, char** argv) {
    try {
        const auto parsed = pfn::demo::parse_options(argc, argv);
        if (!parsed.options) {
            std::print(parsed.status == 0 ? stdout : stderr, "{}", parsed.message);
            return parsed.status;
        }
        return pfn::demo::tell_story(*parsed.options);
    } catch (const std::exception& e) {
        (void)std::fprintf(stderr, "pfn_demo: %s\n", e.what());
        return 1;
    }
}
