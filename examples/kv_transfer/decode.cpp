// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
#include "kv_transfer/decode.hpp"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <utility>

namespace pfn {
namespace {

std::vector<std::uint32_t> receive_crcs(const Channel& prefill, unsigned count) {
    const auto bytes = prefill.recv_bytes(PATIENCE);
    std::vector<std::uint32_t> crcs(count);
    if (bytes.size() != count * sizeof(crcs[0]))
        throw_errno(EPROTO, "prefill has another number of blocks");
    std::memcpy(crcs.data(), bytes.data(), bytes.size());
    return crcs;
}

/// Is it the turn of what happens every @p every times?
bool due(unsigned count, unsigned every) {
    return every != 0 && count % every == 0;
}

} // namespace

Decode::Decode(const Options& options, const Channel& prefill)
    : options_(options), prefill_(prefill), end_(options.decode), device_(options.device),
      pool_(device_, end_.pd, options.slots, options.block_size),
      crcs_(receive_crcs(prefill, options.total())), table_(options.total()), slots_(options.slots),
      used_(options.total()) {}

DecodeResult Decode::run() {
    const auto start = std::chrono::steady_clock::now();
    while (result_.used < options_.total()) {
        if (const auto wc = end_.cq.wait_or(prefill_.fd()))
            take(*wc);
        else
            take(prefill_.recv<Message>());
        if (connected_)
            grant_free_slots();
    }
    prefill_.send(Message{.kind = Kind::Finished});
    const std::chrono::duration<double> time = std::chrono::steady_clock::now() - start;
    result_.seconds = time.count();
    result_.moves = pool_.moves();
    result_.faults = pool_.faults();
    return result_;
}

void Decode::take(const Message& message) {
    if (message.kind != Kind::Connect)
        throw_errno(EPROTO, "prefill says something odd");
    accept(message.qp);
}

void Decode::take(const ibv_wc& wc) {
    // A connection that has failed gives its receives back; prefill will call again.
    if (wc.status == IBV_WC_SUCCESS)
        arrived(block_of(wc.imm_data), slot_of(wc.imm_data));
}

void Decode::accept(const QpAddress& remote) {
    // Once the old queue pair is gone nothing comes through it any more; what came has a
    // completion.
    if (connected_)
        end_.qp = Qp(end_.context, end_.pd, end_.cq);
    while (const auto wc = end_.cq.poll())
        take(*wc);
    // An event loop would have these descriptors in its set, and tell prefill at once. It
    // can always be too late, so prefill's error has to be enough.
    for (std::uint32_t slot = 0; slot < slots_.size(); ++slot) {
        if (slots_[slot].granted && pool_.revoked(slot)) {
            pool_.replace(slot);
            ++result_.revoked;
        }
        slots_[slot].granted = false;
    }
    end_.qp.connect(remote);
    prefill_.send(Message{.kind = Kind::Connected, .qp = end_.qp.address()});
    connected_ = true;
}

void Decode::grant_free_slots() {
    for (std::uint32_t slot = 0; slot < slots_.size(); ++slot) {
        if (slots_[slot].granted || slots_[slot].block)
            continue;
        slots_[slot].granted = true;
        end_.qp.post_recv(slot, {}); // the immediate of a write takes a receive
        // The worst that can happen: the driver takes the memory back while the grant is on
        // its way. It happens a moment earlier here, so that it does every time.
        const Remote memory = pool_.remote(slot);
        if (to_revoke_ > 0) {
            --to_revoke_;
            pool_.revoke(slot);
        }
        prefill_.send(Message{.kind = Kind::Grant, .slot = slot, .memory = memory});
    }
}

void Decode::arrived(Block block, std::uint32_t slot) {
    slots_.at(slot).granted = false;
    if (used_.at(block) || table_.at(block))
        return; // sent again although it was there: the slot is free
    slots_[slot].block = block;
    table_[block] = slot;
    check(block);
    if (const unsigned request = block / options_.blocks; complete(request))
        use(request);

    // The allocator has things to do.
    ++arrivals_;
    if (due(arrivals_, options_.move_every))
        pool_.move(arrivals_ / options_.move_every % pool_.size());
    if (due(arrivals_, options_.lose_every))
        ++(arrivals_ / options_.lose_every % 2 == 0 ? to_evict_ : to_revoke_);
    if (to_evict_ > 0)
        evict_one();
}

bool Decode::complete(unsigned request) const {
    const std::size_t first = std::size_t{request} * options_.blocks;
    return std::ranges::all_of(std::span(table_).subspan(first, options_.blocks),
                               [](const auto& slot) { return slot.has_value(); });
}

void Decode::use(unsigned request) {
    for (Block block = request * options_.blocks; block < (request + 1) * options_.blocks;
         ++block) {
        check(block); // it may have been moved since it came
        slots_[*table_[block]].block.reset();
        table_[block].reset();
        used_[block] = true;
        ++result_.used;
    }
}

void Decode::evict_one() {
    for (std::uint32_t slot = 0; slot < slots_.size(); ++slot) {
        if (const auto block = std::exchange(slots_[slot].block, std::nullopt)) {
            table_[*block].reset();
            pool_.replace(slot);
            // Before the slot is granted: the block must not wait behind others, or they
            // could take all slots and none of their requests be complete.
            prefill_.send(Message{.kind = Kind::Resend, .block = *block});
            ++result_.evicted;
            --to_evict_;
            return;
        }
    }
}

void Decode::check(Block block) {
    ++result_.checked;
    if (crc_of(pool_.bytes(*table_[block])) != crcs_[block])
        ++result_.wrong;
}

} // namespace pfn
