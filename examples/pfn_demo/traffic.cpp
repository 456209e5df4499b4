// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
#include "pfn_demo/traffic.hpp"

#include "common/error.hpp"
#include "common/pattern.hpp"

#include <algorithm>
#include <array>
#include <cstring>
#include <stdexcept>

namespace pfn::demo {

std::uint64_t Layout::area() const {
    return size - page_size();
}

std::size_t Layout::pieces() const {
    return (area() + PIECE - 1) / PIECE;
}

std::uint64_t Layout::length(std::size_t i) const {
    return std::min(PIECE, area() - offset(i));
}

std::uint64_t pattern_seed(std::size_t buffer, std::size_t piece, std::uint32_t version) {
    return buffer << 56U | static_cast<std::uint64_t>(piece) << 32U | version;
}

Traffic::Traffic(const Pd& pd, Cq& cq, QpRef qp, const Keys& keys)
    : cq_(cq), qp_(qp), keys_(keys), layout_{keys.size},
      out_(Mapping::anonymous(BATCH * Layout::PIECE)),
      in_(Mapping::anonymous(BATCH * Layout::PIECE)), out_mr_(Mr::host(pd, out_.bytes())),
      in_mr_(Mr::host(pd, in_.bytes())), versions_(BUFFERS * layout_.pieces()) {}

Remote Traffic::at(std::size_t buffer, std::uint64_t offset) const {
    Remote remote = keys_.memory.at(buffer);
    remote.address += offset;
    return remote;
}

std::uint32_t& Traffic::version(Piece piece) {
    return versions_.at(piece.buffer * layout_.pieces() + piece.number);
}

ibv_sge Traffic::sge(const Mapping& memory, const Mr& mr, std::size_t slot,
                     std::uint64_t length) const {
    return {.addr = memory.address() + slot * Layout::PIECE,
            .length = static_cast<std::uint32_t>(length),
            .lkey = mr.lkey()};
}

void Traffic::expect_success(unsigned completions) {
    for (unsigned i = 0; i < completions; ++i) {
        const ibv_wc wc = cq_.wait();
        if (wc.status != IBV_WC_SUCCESS)
            throw std::runtime_error(std::string("an RDMA operation failed: ") +
                                     ibv_wc_status_str(wc.status));
    }
}

void Traffic::exchange(std::span<const Piece> pieces) {
    for (std::size_t slot = 0; slot < pieces.size(); ++slot) {
        const auto [buffer, number] = pieces[slot];
        const std::uint64_t length = layout_.length(number);
        const Remote there = at(buffer, layout_.offset(number));
        fill_pattern(out_.bytes().subspan(slot * Layout::PIECE, length),
                     pattern_seed(buffer, number, ++version(pieces[slot])));
        // A READ is carried out after the WRITEs posted before it.
        qp_.post_write(slot, sge(out_, out_mr_, slot, length), there);
        qp_.post_read(slot, sge(in_, in_mr_, slot, length), there);
        progress_.bytes_written += length;
        progress_.bytes_read += length;
    }
    expect_success(2 * static_cast<unsigned>(pieces.size()));
    for (std::size_t slot = 0; slot < pieces.size(); ++slot) {
        const auto [buffer, number] = pieces[slot];
        const auto got = in_.bytes().subspan(slot * Layout::PIECE, layout_.length(number));
        if (find_mismatch(got, pattern_seed(buffer, number, version(pieces[slot]))))
            ++progress_.errors;
    }
}

void Traffic::add_to_counters() {
    for (std::size_t buffer = 0; buffer < BUFFERS; ++buffer)
        qp_.post_fetch_add(buffer, sge(in_, in_mr_, buffer, sizeof(std::uint64_t)),
                           at(buffer, layout_.counter()), 1);
    expect_success(BUFFERS);
    for (std::size_t buffer = 0; buffer < BUFFERS; ++buffer) {
        std::uint64_t before = 0;
        std::memcpy(&before, in_.bytes().subspan(buffer * Layout::PIECE).data(), sizeof(before));
        if (before != added_)
            ++progress_.errors;
    }
    ++added_;
}

Sums Traffic::fill() {
    std::array<std::uint64_t, BUFFERS> checksums{};
    std::vector<std::byte> whole(layout_.area());
    for (std::size_t buffer = 0; buffer < BUFFERS; ++buffer) {
        for (std::size_t number = 0; number < layout_.pieces(); ++number) {
            exchange(std::array{Piece{.buffer = buffer, .number = number}});
            // what came back, not what was sent
            std::copy_n(in_.bytes().begin(), layout_.length(number),
                        whole.begin() + static_cast<std::ptrdiff_t>(layout_.offset(number)));
        }
        checksums.at(buffer) = checksum(whole);
    }
    for (int i = 0; i < 100; ++i)
        add_to_counters();
    Sums sums = counters();
    sums.checksum = checksums;
    return sums;
}

Sums Traffic::counters() const {
    Sums sums{};
    sums.counter.fill(added_);
    sums.errors = progress_.errors;
    return sums;
}

void Traffic::batch() {
    const std::size_t total = versions_.size();
    std::array<std::size_t, BATCH> chosen{};
    const std::size_t count = std::min(BATCH, total);
    for (std::size_t i = 0; i < count; ++i) { // different ones
        do {
            chosen.at(i) = random_() % total;
        } while (std::find(chosen.begin(), chosen.begin() + i, chosen.at(i)) != chosen.begin() + i);
    }
    std::array<Piece, BATCH> pieces{};
    std::transform(chosen.begin(), chosen.begin() + count, pieces.begin(), [&](std::size_t i) {
        return Piece{.buffer = i / layout_.pieces(), .number = i % layout_.pieces()};
    });
    exchange(std::span(pieces).first(count));
    add_to_counters();
}

} // namespace pfn::demo
