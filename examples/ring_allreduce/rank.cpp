// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
#include "ring_allreduce/rank.hpp"

#include "common/dmabuf_mr.hpp"
#include "common/evictor.hpp"
#include "common/ring.hpp"
#include "ring_allreduce/allreduce.hpp"
#include "ring_allreduce/gradients.hpp"

#include <optional>

namespace pfn {
namespace {

std::uint64_t whole_pages(std::uint64_t bytes) {
    return (bytes + page_size() - 1) / page_size() * page_size();
}

/// How many sums differ, in any bit, from those that a CPU makes.
std::uint64_t count_wrong(std::span<const float> sums, const Layout& layout, Round round) {
    std::uint64_t wrong = 0;
    for (std::size_t i = 0; i < sums.size(); ++i) {
        // Floats have to be added in the same order: a chunk sets out at the rank of its
        // number, and goes to the right.
        const unsigned first = layout.chunk_of(i);
        float sum = gradient(i, first, round);
        for (unsigned step = 1; step < layout.ranks(); ++step)
            sum += gradient(i, (first + step) % layout.ranks(), round);
        wrong += sum == sums[i] ? 0 : 1;
    }
    return wrong;
}

} // namespace

int run_rank(unsigned rank, const Options& options, const Channel& parent) {
    const Layout layout(options.elements, options.ranks);
    RingMember ring(options.rdma[rank % options.rdma.size()]);
    const VramDevice device(options.device);
    const DmaBuf buffer = device.alloc({.size = whole_pages(layout.total() * sizeof(float))});
    const pfndv::Mr mr = register_dmabuf(ring.pd(), buffer.fd());
    ring.join(parent, mr.rkey(), AllReduce::writes_ahead(layout));

    const Mapping gpu = buffer.map(); // what a kernel on the GPU would see
    const std::span memory(reinterpret_cast<float*>(gpu.bytes().data()), layout.total());
    const std::span gradients = memory.first(layout.elements());
    AllReduce all_reduce(ring, rank, layout, memory, mr);

    std::optional<Evictor> evictor;
    if (options.move_ms != 0)
        evictor.emplace(device, buffer.fd(), std::chrono::milliseconds(options.move_ms));
    while (const auto round = parent.recv<Round>()) {
        const unsigned moves = evictor ? evictor->moves() : 0;
        fill_gradients(gradients, rank, round);
        parent.send(true);
        (void)parent.recv<bool>(); // all have theirs
        const auto start = std::chrono::steady_clock::now();
        all_reduce.run();
        const std::chrono::duration<double> time = std::chrono::steady_clock::now() - start;
        if (evictor)
            evictor->wait_for_more(moves); // no round without a move
        parent.send(RoundResult{time.count(), count_wrong(gradients, layout, round)});
    }
    parent.send(RankResult{evictor ? evictor->moves() : 0, value_of(mr.query(), "query").faults});
    (void)parent.recv<bool>();
    return 0;
}

} // namespace pfn
