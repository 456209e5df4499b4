// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
#include "kv_transfer/prefill.hpp"

#include "common/dmabuf_mr.hpp"
#include "common/pattern.hpp"

#include <algorithm>
#include <vector>

namespace pfn {

Prefill::Prefill(const Options& options, const Channel& decode)
    : options_(options), decode_(decode), end_(options.prefill), device_(options.device),
      cache_(device_.alloc({.size = options.total() * options.block_size})),
      mr_(register_dmabuf(end_.pd, cache_.fd())) {}

PrefillResult Prefill::run() {
    compute();
    connect();
    while (!finished_) {
        write_blocks();
        if (const auto wc = end_.cq.wait_or(decode_.fd()))
            take(*wc);
        else
            take(decode_.recv<Message>());
        // What follows the write that has failed comes back, too: flushed.
        if (broken_ && in_flight_.empty())
            connect();
    }
    return result_;
}

/// Make the KV cache, and tell decode the CRC of each block.
void Prefill::compute() {
    const Mapping gpu = cache_.map();
    std::vector<std::byte> block(options_.block_size);
    std::vector<std::uint32_t> crcs;
    for (std::uint32_t i = 0; i < options_.total(); ++i) {
        fill_pattern(block, i + 1);
        crcs.push_back(crc_of(block));
        std::ranges::copy(block, gpu.bytes().subspan(i * block.size()).begin());
        waiting_.insert(i);
    }
    decode_.send_bytes(std::as_bytes(std::span(crcs)));
}

void Prefill::connect() {
    if (result_.connections++ > 0)
        end_.qp = Qp(end_.context, end_.pd, end_.cq);
    decode_.send(Message{.kind = Kind::Connect, .qp = end_.qp.address()});
    // What is granted before the answer was granted for the connection that is gone.
    auto answer = decode_.recv<Message>();
    while (answer.kind != Kind::Connected) {
        take(answer);
        if (finished_)
            return;
        answer = decode_.recv<Message>();
    }
    credits_.clear();
    end_.qp.connect(answer.qp);
    broken_ = false;
}

void Prefill::take(const Message& message) {
    switch (message.kind) {
    case Kind::Grant:
        credits_.push_back(message);
        break;
    case Kind::Resend:
        waiting_.insert(message.block);
        break;
    case Kind::Finished:
        finished_ = true;
        break;
    default:
        throw_errno(EPROTO, "decode says something odd");
    }
}

void Prefill::write_blocks() {
    while (!broken_ && !waiting_.empty() && in_flight_.size() < options_.window) {
        if (credits_.empty()) {
            ++result_.stalls;
            return;
        }
        // The first of them: decode can free no request before it has all of it.
        const std::uint32_t block = *waiting_.begin();
        const Message grant = credits_.front();
        const auto size = static_cast<std::uint32_t>(options_.block_size);
        end_.qp.post_write_imm(block, mr_.sge(block * options_.block_size, size), grant.memory,
                               immediate(block, grant.slot));
        waiting_.erase(block);
        credits_.pop_front();
        in_flight_.emplace(block, grant);
    }
}

void Prefill::take(const ibv_wc& wc) {
    const auto block = static_cast<std::uint32_t>(wc.wr_id);
    in_flight_.erase(block);
    switch (wc.status) {
    case IBV_WC_SUCCESS:
        ++result_.written;
        return;
    case IBV_WC_REM_ACCESS_ERR: // the memory is not decode's any more
        ++result_.access_errors;
        break;
    case IBV_WC_WR_FLUSH_ERR:
        ++result_.flushed;
        break;
    default:
        throw std::runtime_error(std::string("prefill: RDMA: ") + ibv_wc_status_str(wc.status));
    }
    // Another try, in other memory, by another connection.
    waiting_.insert(block);
    broken_ = true;
}

} // namespace pfn
