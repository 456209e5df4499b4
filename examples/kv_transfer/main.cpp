// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
//
// Disaggregated inference in a nutshell: one node prefills, that is, computes the KV cache
// of a prompt, another one decodes. The cache goes from the device memory of one straight
// into that of the other, block by block, while the allocator there moves blocks about and
// loses some. README.md maps it onto vLLM, NIXL and Mooncake.
//
//   main        this file: options; starts the nodes, and says how they fared
//   protocol    what the nodes have agreed on
//   prefill     the node that sends
//   decode      the node that receives
//   block_pool  its memory
#include "common/text.hpp"
#include "kv_transfer/decode.hpp"
#include "kv_transfer/prefill.hpp"

#include <CLI/CLI.hpp>

#include <print>
#include <utility>

namespace {

/// A node: @p Node at one end of the connection, and what it says to its parent.
template<typename Node>
pfn::Child start(const pfn::Options& options, pfn::Channel& mine, pfn::Channel& others) {
    return pfn::Child::fork([&](pfn::Channel& parent) {
        others.close(); // so that the end of the other node is noticed
        Node node(options, mine);
        parent.send(node.run());
        (void)parent.recv<bool>(); // nobody leaves before both are done
        return 0;
    });
}

template<typename Result>
Result result_of(pfn::Child& node) {
    return node.channel().recv<Result>(std::chrono::minutes(10));
}

void print_result(const pfn::Options& options, const pfn::PrefillResult& prefill,
                  const pfn::DecodeResult& decode) {
    const auto bytes = static_cast<double>(options.total() * options.block_size);
    std::println("{} in {}: {}/s", pfn::bytes_text(bytes), pfn::time_text(decode.seconds * 1e9),
                 pfn::bytes_text(bytes / decode.seconds));
    std::println("{} written, {} for a credit, {}", pfn::count_text(prefill.written, "block"),
                 pfn::count_text(prefill.stalls, "wait"),
                 pfn::count_text(prefill.connections, "connection"));
    std::println("lost: {} revoked while granted, {} (and {} behind them), {} evicted later",
                 decode.revoked, pfn::count_text(prefill.access_errors, "remote access error"),
                 prefill.flushed, decode.evicted);
    std::println("{} survived, the MRs faulted {} times", pfn::count_text(decode.moves, "move"),
                 decode.faults);
    std::println("{} blocks used, {} of {} CRCs wrong", decode.used, decode.wrong, decode.checked);
}

int run(pfn::Options options) {
    if (options.total() > pfn::MOST_BLOCKS)
        throw std::runtime_error("more than " + std::to_string(pfn::MOST_BLOCKS) + " blocks");
    if (options.slots < options.blocks)
        throw std::runtime_error("--slots: a request has to fit in");
    if (options.block_size == 0 || options.block_size % pfn::page_size() != 0)
        throw std::runtime_error("--block-size: whole pages, of " +
                                 std::to_string(pfn::page_size()) + " bytes");
    const auto devices = pfn::supported_devices();
    if (options.prefill.empty())
        options.prefill = devices.front();
    if (options.decode.empty())
        options.decode = devices.back();

    std::println("{} requests of {} blocks of {} from {} to {}, which has memory for {}",
                 options.requests, options.blocks,
                 pfn::bytes_text(static_cast<double>(options.block_size)), options.prefill,
                 options.decode, options.slots);
    auto [here, there] = pfn::Channel::make_pair();
    pfn::Child prefill = start<pfn::Prefill>(options, here, there);
    pfn::Child decode = start<pfn::Decode>(options, there, here);
    here.close();
    there.close();
    const auto received = result_of<pfn::DecodeResult>(decode);
    print_result(options, result_of<pfn::PrefillResult>(prefill), received);

    bool fine = received.used == options.total() && received.wrong == 0;
    for (pfn::Child* node : {&prefill, &decode}) {
        node->channel().send(true);
        fine &= node->wait(pfn::PATIENCE) == pfn::Exit{};
    }
    std::println("{}", fine ? "all of it arrived" : "something is wrong");
    return fine ? 0 : 1;
}

int parse_and_run(int argc, char** argv) {
    pfn::Options options;
    options.device = pfn::VramDevice::DEFAULT_PATH;
    CLI::App app("A node streams paged KV-cache blocks into the device memory of another.",
                 "kv_transfer");
    app.add_option("--requests", options.requests, "requests to hand over")
        ->check(CLI::Range(1U, pfn::MOST_BLOCKS))
        ->capture_default_str();
    app.add_option("--blocks", options.blocks, "blocks of each of them")
        ->check(CLI::Range(1U, pfn::MOST_SLOTS))
        ->capture_default_str();
    // AsSizeValue(false): 64KiB and 64K are both 64 * 1024
    app.add_option("--block-size", options.block_size, "size of a block (default 64KiB)")
        ->transform(CLI::AsSizeValue(false));
    app.add_option("--slots", options.slots, "blocks that the decode node has memory for")
        ->check(CLI::Range(1U, pfn::MOST_SLOTS))
        ->capture_default_str();
    app.add_option("--window", options.window, "writes in flight")
        ->check(CLI::Range(1U, pfn::MOST_SLOTS))
        ->capture_default_str();
    app.add_option("--move-every", options.move_every,
                   "the decode node moves a block when so many have come; 0: never")
        ->capture_default_str();
    app.add_option("--lose-every", options.lose_every,
                   "and loses a block when so many have come, by turns one that is on its way "
                   "and one that is there; 0: never")
        ->check(CLI::Validator(
            [](const std::string& text) { return text == "1" ? "not all of them" : ""; }, ""))
        ->capture_default_str();
    app.add_option("--prefill", options.prefill, "RDMA device of the prefill node");
    app.add_option("--decode", options.decode, "and of the decode node");
    app.add_option("--device", options.device, "device that has the memory of both")
        ->capture_default_str();
    CLI11_PARSE(app, argc, argv);
    return run(std::move(options));
}

} // namespace

int main(int argc, char** argv) {
    return pfn::or_complain(argv[0], [&] { return parse_and_run(argc, argv); });
}
