// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
//
// Data-parallel training in a nutshell: N processes, each with gradients in the memory of
// its "GPU", which all need the sum of all of them. They form a ring, and write to each
// other's device memory with RDMA, while its driver moves it. README.md maps it onto NCCL.
//
//   main        this file: options; starts the ranks, and says how they fare
//   rank        a process with its memory
//   allreduce   the collective
//   gradients   what is reduced
#include "common/ring.hpp"
#include "common/text.hpp"
#include "common/vram.hpp"
#include "ring_allreduce/rank.hpp"

#include <CLI/CLI.hpp>

#include <algorithm>
#include <print>
#include <utility>

namespace {

constexpr unsigned MOST_RANKS = 16; // twice the steps must fit into a queue, pfn::Qp::DEPTH

using Ring = std::deque<pfn::Child>;

Ring start(const pfn::Options& options) {
    Ring ring;
    for (unsigned rank = 0; rank < options.ranks; ++rank)
        ring.push_back(pfn::Child::fork(
            [&](pfn::Channel& parent) { return pfn::run_rank(rank, options, parent); }));
    pfn::introduce(ring);
    return ring;
}

/// One all-reduce. Returns the longest time of all ranks, and all wrong elements.
pfn::RoundResult reduce(Ring& ring, pfn::Round round) {
    for (pfn::Child& child : ring)
        child.channel().send(round);
    for (pfn::Child& child : ring)
        (void)child.channel().recv<bool>();
    for (pfn::Child& child : ring)
        child.channel().send(true);
    pfn::RoundResult all;
    for (pfn::Child& child : ring) {
        const auto result = child.channel().recv<pfn::RoundResult>();
        all.seconds = std::max(all.seconds, result.seconds);
        all.wrong += result.wrong;
    }
    return all;
}

/// Let all go. Returns their moves and faults.
pfn::RankResult finish(Ring& ring) {
    pfn::RankResult all;
    for (pfn::Child& child : ring)
        child.channel().send(pfn::Round{0});
    for (pfn::Child& child : ring) {
        const auto result = child.channel().recv<pfn::RankResult>();
        all.moves += result.moves;
        all.faults += result.faults;
    }
    for (pfn::Child& child : ring) {
        child.channel().send(true);
        if (child.wait(pfn::PATIENCE) != pfn::Exit{})
            throw std::runtime_error("a rank did not end well");
    }
    return all;
}

int run(pfn::Options options) {
    if (options.elements < options.ranks)
        throw std::runtime_error("--elements: there must be one for each rank");
    if (options.rdma.empty())
        options.rdma = pfn::supported_devices();
    Ring ring = start(options);

    const auto bytes = static_cast<double>(options.elements * sizeof(float));
    // What each link carries: the measure that does not depend on the number of ranks.
    const double share = 2.0 * (options.ranks - 1) / options.ranks;
    std::println("{} ranks, {} of gradients in the device memory of each", options.ranks,
                 pfn::bytes_text(bytes));
    std::println("round       time    algorithm          bus     wrong");
    std::uint64_t wrong = 0;
    for (pfn::Round round = 1; round <= options.rounds; ++round) {
        const auto [seconds, bad] = reduce(ring, round);
        std::println("{:>5} {:>10} {:>10}/s {:>10}/s {:>9}", round, pfn::time_text(seconds * 1e9),
                     pfn::bytes_text(bytes / seconds), pfn::bytes_text(bytes / seconds * share),
                     bad);
        wrong += bad;
    }
    const auto [moves, faults] = finish(ring);
    std::println("the memory was moved {} times, the MRs faulted {} times", moves, faults);
    std::println("{}", wrong == 0 ? "every sum is the CPU's, bit by bit" : "there are wrong sums");
    return wrong == 0 ? 0 : 1;
}

int parse_and_run(int argc, char** argv) {
    pfn::Options options;
    options.device = pfn::VramDevice::DEFAULT_PATH;
    CLI::App app("Ranks reduce gradients that are in device memory, over RDMA.", "ring_allreduce");
    app.add_option("--ranks", options.ranks, "processes")
        ->check(CLI::Range(2U, MOST_RANKS))
        ->capture_default_str();
    app.add_option("--elements", options.elements, "floats to reduce")
        ->check(CLI::Range(std::size_t{2}, std::size_t{256} << 20))
        ->capture_default_str();
    app.add_option("--rounds", options.rounds, "all-reduces")
        ->check(CLI::Range(1, 1000))
        ->capture_default_str();
    app.add_option("--move-ms", options.move_ms,
                   "pause between two moves of a rank's memory; 0: it stays")
        ->check(CLI::Range(0, 1000))
        ->capture_default_str();
    app.add_option("--rdma", options.rdma,
                   "RDMA devices, which ranks have in turns (default: all with pfn MRs)")
        ->delimiter(',');
    app.add_option("--device", options.device, "device that has the memory")->capture_default_str();
    CLI11_PARSE(app, argc, argv);
    return run(std::move(options));
}

} // namespace

int main(int argc, char** argv) {
    return pfn::or_complain(argv[0], [&] { return parse_and_run(argc, argv); });
}
