// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
//
// pfn-mpi-test SUBJECT...: an MPI program whose buffers are device memory. It knows of
// dma-bufs, since it allocates them; MPI is given pointers. Two ranks, on two hosts
// (guest-mpiexec). Prints a verdict a line; the exit status is 1 if one was bad.
#include "mpi/checks.hpp"
#include "support/debug_kernel.hpp"

#include <mpi.h>

#include <algorithm>
#include <exception>
#include <iostream>
#include <iterator>
#include <span>
#include <stdexcept>
#include <string>

namespace pfn::mpi {
namespace {

struct Subject {
    std::string name;
    void (*check)(World& world, const VramDevice& vram);
    /// Also on the debug kernel, which is slow: it asks more of the kernel than others.
    bool everywhere = false;
};

const Subject SUBJECTS[] = {
    {"point-to-point", point_to_point},
    {"zero-copy", zero_copy, true},
    {"collectives", collectives},
    {"datatypes", datatypes},
    {"one-sided", one_sided, true},
    {"reuse", reuse, true},
    {"unseen-reuse", unseen_reuse},
    {"revoked-idle", revoked_idle, true},
    {"errors-return", errors_return, true},
    {"revoked-source", revoked_source, true},
    {"revoked-target", revoked_target, true},
    {"revoked-small", revoked_small, true},
};

int run(World& world, std::span<char*> names) {
    const VramDevice vram;
    for (const std::string name : names) {
        const auto* const subject = std::ranges::find(SUBJECTS, name, &Subject::name);
        if (subject == std::end(SUBJECTS))
            throw std::invalid_argument("no subject '" + name + "'");
        if (subject->everywhere || !debug_kernel())
            subject->check(world, vram);
    }
    if (world.rank() == 0)
        std::cout << world.passed() << " passed, " << world.failed() << " failed\n" << std::flush;
    return world.failed() != 0;
}

} // namespace
} // namespace pfn::mpi

int main(int argc, char** argv) {
    pfn::mpi::World world(&argc, &argv);
    try {
        return pfn::mpi::run(world, std::span(argv, static_cast<std::size_t>(argc)).subspan(1));
    } catch (const std::exception& e) {
        std::cerr << "pfn-mpi-test: " << e.what() << '\n';
        MPI_Abort(MPI_COMM_WORLD, 1); // the other rank may wait for this one
        return 1;
    }
}
