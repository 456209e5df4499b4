// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
//
// pfn-perf-bw: bandwidth.
#include "perftest_suite.hpp"

namespace {

using pfn::perf::PerftestCase;

constexpr std::uint64_t KIB = 1024;
constexpr std::uint64_t MIB = 1024 * KIB;

/// As perftest rounds a small bandwidth to nothing, it is the rate that is taken.
double mib_per_second(const std::string& report, const PerftestCase& c) {
    if (c.size >= 4 * KIB)
        return pfn::perf::number_of(report, "BW_average");
    return pfn::perf::number_of(report, "MsgRate") * 1e6 * static_cast<double>(c.size) /
           static_cast<double>(MIB);
}

} // namespace

int main(int argc, char** argv) {
    return pfn::perf::perftest_main(
        {.name = "bw",
         .unit = "MiB/s",
         .better = pfn::perf::Better::HIGHER,
         .full = {{"ib_write_bw", 2, 2000},
                  {"ib_write_bw", 64, 2000},
                  {"ib_write_bw", 4 * KIB, 2000},
                  {"ib_write_bw", 64 * KIB, 400},
                  {"ib_write_bw", 1 * MIB, 25},
                  {"ib_write_bw", 8 * MIB, 5},
                  {"ib_read_bw", 2, 2000},
                  {"ib_read_bw", 4 * KIB, 2000},
                  {"ib_read_bw", 64 * KIB, 400},
                  {"ib_read_bw", 1 * MIB, 25},
                  {"ib_read_bw", 8 * MIB, 5},
                  {"ib_send_bw", 2, 2000},
                  {"ib_send_bw", 4 * KIB, 2000},
                  {"ib_send_bw", 64 * KIB, 400},
                  {"ib_send_bw", 1 * MIB, 25},
                  {"ib_send_bw", 8 * MIB, 5},
                  {"ib_atomic_bw", 8, 2000}},
         .quick = {{"ib_write_bw", 64 * KIB, 200}, {"ib_read_bw", 64 * KIB, 200}},
         .result = mib_per_second},
        argc, argv);
}
