// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
//
// pfn-perf-lat: latency; of WRITE and SEND half of a round trip, of READ and atomics
// all of it.
#include "perftest_suite.hpp"

namespace {

constexpr std::uint64_t KIB = 1024;
constexpr std::uint64_t MIB = 1024 * KIB;

double median_us(const std::string& report, const pfn::perf::PerftestCase& /*any*/) {
    return pfn::perf::number_of(report, "t_typical");
}

} // namespace

int main(int argc, char** argv) {
    return pfn::perf::perftest_main(
        {.name = "lat",
         .unit = "us",
         .better = pfn::perf::Better::LOWER,
         .full = {{"ib_write_lat", 2, 1000},
                  {"ib_write_lat", 4 * KIB, 1000},
                  {"ib_write_lat", 64 * KIB, 200},
                  {"ib_write_lat", 1 * MIB, 20},
                  {"ib_write_lat", 8 * MIB, 5},
                  {"ib_read_lat", 2, 1000},
                  {"ib_read_lat", 4 * KIB, 1000},
                  {"ib_read_lat", 64 * KIB, 200},
                  {"ib_read_lat", 8 * MIB, 5},
                  {"ib_send_lat", 2, 1000},
                  {"ib_send_lat", 4 * KIB, 1000},
                  {"ib_send_lat", 64 * KIB, 200},
                  {"ib_send_lat", 8 * MIB, 5},
                  {"ib_atomic_lat", 8, 1000}},
         .quick = {{"ib_read_lat", 4 * KIB, 300}, {"ib_atomic_lat", 8, 300}},
         .result = median_us},
        argc, argv);
}
