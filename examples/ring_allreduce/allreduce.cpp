// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
#include "ring_allreduce/allreduce.hpp"

#include <algorithm>
#include <functional>
#include <stdexcept>

namespace pfn {

unsigned Layout::chunk_of(std::size_t element) const {
    auto chunk = static_cast<unsigned>(element * ranks_ / elements_);
    while (begin(chunk + 1) <= element) // begin() rounds down
        ++chunk;
    return chunk;
}

/* What makes it safe to write into a neighbour's memory without asking:
 *
 * An inbox is written to in the next run only when the all-gather of this one has come
 * around to the left neighbour, and it has come through here: so its chunk has been added.
 *
 * A chunk of the gradients is written to in the all-gather only when it is the sum of all
 * ranks: so this rank has passed its own on, and the right neighbour has it.
 */
void AllReduce::run() {
    arrived_ = 0;
    written_ = 0;
    reduce_scatter();
    all_gather();
    finish_writes();
}

unsigned AllReduce::chunk(unsigned back) const {
    return (rank_ + 2 * layout_.ranks() - back) % layout_.ranks();
}

void AllReduce::reduce_scatter() {
    for (unsigned step = 0; step < layout_.steps(); ++step) {
        pass_on(chunk(step), layout_.inbox(step), step);
        await(step);
        // On a real GPU a kernel does this, without the CPU seeing the data.
        const unsigned mine = chunk(step + 1);
        const auto own = memory_.subspan(layout_.begin(mine), layout_.length(mine));
        const auto theirs = memory_.subspan(layout_.inbox(step), own.size());
        std::ranges::transform(theirs, own, own.begin(), std::plus<>());
    }
}

void AllReduce::all_gather() {
    for (unsigned step = 0; step < layout_.steps(); ++step) {
        // This rank has finished the chunk of its right neighbour.
        const unsigned finished = chunk(layout_.ranks() + step - 1);
        pass_on(finished, layout_.begin(finished), layout_.steps() + step);
        await(layout_.steps() + step);
    }
}

void AllReduce::pass_on(unsigned chunk, std::size_t target, std::uint32_t step) {
    const auto size = static_cast<std::uint32_t>(layout_.length(chunk) * sizeof(float));
    ring_.write_right(step, mr_.sge(layout_.begin(chunk) * sizeof(float), size),
                      mr_.address(target * sizeof(float)), step);
}

void AllReduce::await(std::uint32_t step) {
    while (arrived_ <= step)
        take(complete(ring_.cq()));
}

void AllReduce::finish_writes() {
    while (written_ < 2 * layout_.steps())
        take(complete(ring_.cq()));
}

void AllReduce::take(const ibv_wc& wc) {
    if (wc.opcode != IBV_WC_RECV_RDMA_WITH_IMM) {
        ++written_;
        return;
    }
    // A connection keeps order: anything else would be an error of this program.
    if (wc.imm_data != arrived_)
        throw std::runtime_error("step " + std::to_string(wc.imm_data) + " has come instead of " +
                                 std::to_string(arrived_));
    ++arrived_;
    ring_.receive_again();
}

} // namespace pfn
