// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
#include "fuzz/operation.hpp"

#include <linux/pfn_vram.h>

#include <algorithm>
#include <array>
#include <numeric>

namespace pfn::fuzz {
namespace {

struct Weight {
    What what;
    const char* name;
    unsigned weight; ///< how often, among all of them
};

// Forks take a hundred times as long as the others; a revoke spoils a buffer for
// many operations to come.
constexpr Weight WEIGHTS[] = {
    {What::REGISTER, "register", 100},
    {What::DEREG, "dereg", 50},
    {What::QUERY, "query", 50},
    {What::REREG, "rereg", 30},
    {What::ADVISE, "advise", 50},
    {What::WRITE, "write", 100},
    {What::READ, "read", 100},
    {What::ADD, "add", 50},
    {What::SWAP, "swap", 50},
    {What::STORE, "store", 30},
    {What::LOAD_LOCAL, "load_local", 50},
    {What::STORE_LOCAL, "store_local", 50},
    {What::SEND, "send", 50},
    {What::CPU_WRITE, "cpu_write", 40},
    {What::CPU_READ, "cpu_read", 40},
    {What::MOVE, "move", 150},
    {What::REVOKE, "revoke", 25},
    {What::RESTORE, "restore", 40},
    {What::INFO, "info", 30},
    {What::REPLACE, "replace", 10},
    {What::FORK, "fork", 3},
    {What::KILL, "kill", 3},
};

constexpr unsigned TOTAL = [] {
    unsigned sum = 0;
    for (const Weight& w : WEIGHTS)
        sum += w.weight;
    return sum;
}();

/// Random numbers by position (SplitMix64): cheap to start anywhere.
class Random {
  public:
    Random(std::uint64_t seed, std::uint64_t actor, std::uint64_t number)
        : state_(mix(mix(mix(seed) + actor) + number)) {}

    std::uint64_t next() { return mix(state_ += 0x9e3779b97f4a7c15U); }
    std::uint64_t below(std::uint64_t end) { return next() % end; }
    bool one_in(std::uint64_t n) { return below(n) == 0; }

  private:
    static std::uint64_t mix(std::uint64_t z) {
        z = (z ^ (z >> 30U)) * 0xbf58476d1ce4e5b9U;
        z = (z ^ (z >> 27U)) * 0x94d049bb133111ebU;
        return z ^ (z >> 31U);
    }
    std::uint64_t state_;
};

What choose(std::uint64_t ticket) {
    for (const Weight& w : WEIGHTS) {
        if (ticket < w.weight)
            return w.what;
        ticket -= w.weight;
    }
    return What::INFO; // not reached: ticket < TOTAL
}

} // namespace

Operation operation(std::uint64_t seed, std::size_t actor, std::uint64_t number) {
    Random random(seed, actor, number);
    Operation op{};
    op.what = choose(random.below(TOTAL));
    op.buffer = random.below(BUFFERS);
    op.region = random.below(REGIONS);
    op.offset = random.below(STRIPE);
    op.length = 1 + random.below(STRIPE - op.offset);
    if (random.one_in(3)) { // all of it, after which its contents are known
        op.offset = 0;
        op.length = STRIPE;
    }
    op.value = random.next();
    op.placement = random.one_in(2) ? PFN_VRAM_PLACEMENT_VRAM : PFN_VRAM_PLACEMENT_SYSTEM;
    op.mode = static_cast<std::uint32_t>(random.below(4));
    // Most can do everything: a buffer that does not move is no challenge.
    op.caps = random.one_in(2) ? static_cast<std::uint32_t>(PFN_VRAM_CAP_ALL)
                               : static_cast<std::uint32_t>(random.below(PFN_VRAM_CAP_ALL + 1));
    op.fragmented = random.one_in(2);
    op.asynchronous = random.one_in(2);
    op.writable = !random.one_in(4);
    op.plain = random.one_in(2);
    if (op.plain && !random.one_in(2)) // few of PINNED and REVOCABLE: they stop all moves
        op.mode = 0;
    op.advice = random.below(3);
    return op;
}

const char* name(What what) {
    const auto* const found = std::ranges::find(WEIGHTS, what, &Weight::what);
    return found == std::end(WEIGHTS) ? "?" : found->name;
}

std::string describe(const Operation& op) {
    std::string text = std::string(name(op.what)) + " buffer " + std::to_string(op.buffer) +
                       " region " + std::to_string(op.region) + " [" + std::to_string(op.offset) +
                       " +" + std::to_string(op.length) + "] value " + std::to_string(op.value) +
                       " mode " + std::to_string(op.mode) + " caps " + std::to_string(op.caps);
    text += op.placement == PFN_VRAM_PLACEMENT_VRAM ? " vram" : " system";
    text += op.fragmented ? " fragmented" : "";
    text += op.asynchronous ? " async" : "";
    text += op.writable ? "" : " read-only";
    text += op.plain ? " plain" : "";
    return text;
}

} // namespace pfn::fuzz
