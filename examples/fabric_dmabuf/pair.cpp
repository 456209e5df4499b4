// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
#include "fabric_dmabuf/pair.hpp"

#include "common/ends.hpp"

#include <CLI/CLI.hpp>

#include <print>

namespace pfn::fabric {
namespace {

struct Options {
    std::string address = "192.0.2.1";
    std::string port = "7471";
    // Network namespaces of the lab's guest; "" is the one that the program is in.
    std::string gpu_netns = "gpu";
    std::string peer_netns = "peer";
};

void enter(const std::string& netns) {
    if (!netns.empty())
        enter_netns(netns);
}

int run_both(const Options& options, Role gpu, Role peer) {
    auto [here, there] = Channel::make_pair();
    Child target = Child::fork([&](Channel&) {
        there.close(); // so that the end of the other is noticed
        enter(options.gpu_netns);
        const auto end = Endpoint::accept(options.address, options.port, [&] { here.send(true); });
        return gpu(end, here);
    });
    Child initiator = Child::fork([&](Channel&) {
        here.close();
        enter(options.peer_netns);
        const auto end = Endpoint::call(options.address, options.port,
                                        [&] { (void)there.recv<bool>(); }); // somebody listens
        return peer(end, there);
    });
    here.close();
    there.close();
    bool fine = initiator.wait(std::chrono::minutes(10)) == Exit{};
    fine &= target.wait(PATIENCE) == Exit{};
    std::println("{}", fine ? "all is well" : "something is wrong");
    return fine ? 0 : 1;
}

} // namespace

bool verdict(const std::string& what, bool fine) {
    std::println("{:<44} {}", what, fine ? "ok" : "WRONG");
    (void)std::fflush(stdout);
    return fine;
}

int run_pair(int argc, char** argv, const char* description, Role gpu, Role peer) {
    Options options;
    CLI::App app(description);
    app.add_option("--address", options.address, "of the RDMA device at the GPU")
        ->capture_default_str();
    app.add_option("--port", options.port, "for the connection")->capture_default_str();
    app.add_option("--gpu-netns", options.gpu_netns,
                   "network namespace of that device; \"\" for none")
        ->capture_default_str();
    app.add_option("--peer-netns", options.peer_netns, "and of the peer's")->capture_default_str();
    CLI11_PARSE(app, argc, argv);
    return or_complain(argv[0], [&] { return run_both(options, gpu, peer); });
}

} // namespace pfn::fabric
