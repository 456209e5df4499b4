// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
#include "fuzz/actor.hpp"

#include "common/process.hpp"

#include <fcntl.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstring>
#include <fstream>
#include <stdexcept>
#include <thread>

namespace pfn::fuzz {
namespace {

constexpr std::size_t LOG_LINES = 40;
/// Where the MR's first byte is for a peer: not where it is in the buffer.
constexpr std::uint64_t IOVA = 0x7000'0000'0000U;

std::string errno_name(int error) {
    return error == 0 ? "success" : strerrorname_np(error);
}

unsigned access(bool writable) {
    return writable ? FULL_ACCESS : static_cast<unsigned>(IBV_ACCESS_REMOTE_READ);
}

/// Does an MR of that mode forbid the exporter anything?
bool pins(std::uint32_t mode) {
    return mode != PFN_MR_MODE_DYNAMIC;
}

} // namespace

// The world.

World::World(std::uint64_t seed_, std::size_t actors_) : seed(seed_), actors(actors_) {
    // Before the first step of anybody; nobody else has this number.
    for (std::size_t slot = 0; slot < BUFFERS; ++slot)
        buffers_.at(slot) = make(operation(seed, actors, slot));
}

std::shared_ptr<Buffer> World::make(const Operation& op) const {
    const BufferSpec spec{.size = (actors + 1) * STRIPE,
                          .chunk = op.fragmented ? page_size() : 0,
                          .placement = op.placement,
                          .caps = op.caps};
    return std::make_shared<Buffer>(vram, spec, actors);
}

std::shared_ptr<Buffer> World::buffer(std::size_t slot) {
    const std::lock_guard lock(mutex_);
    return buffers_.at(slot);
}

void World::replace(std::size_t slot, const Operation& op) {
    auto fresh = make(op);
    const std::lock_guard lock(mutex_);
    buffers_.at(slot).swap(fresh);
}

bool World::reserve_key(std::uint32_t key) {
    const std::lock_guard lock(mutex_);
    return keys_.insert(key).second;
}

void World::release_key(std::uint32_t key) {
    const std::lock_guard lock(mutex_);
    keys_.erase(key);
}

void to_kernel_log(const std::string& line) {
    std::ofstream("/dev/kmsg") << "test_fuzz: " << line << std::flush;
}

// One step.

Actor::Actor(World& world, std::size_t id)
    : world_(world), id_(id), out_(peer_.pd, STRIPE), in_(peer_.pd, STRIPE) {
    connect(gpu_.qp, peer_.qp);
    int ends[2];
    if (::pipe2(ends, O_CLOEXEC | O_NONBLOCK) < 0)
        throw_errno("pipe2");
    pipe_[0] = Fd(ends[0]);
    pipe_[1] = Fd(ends[1]);
}

void Actor::step(std::uint64_t number) {
    Operation op = operation(world_.seed, id_, number);
    Region& region = regions_.at(op.region);
    // What needs an MR makes one first, where there is none.
    if (!region.model && op.what >= What::DEREG && op.what <= What::SEND)
        op.what = What::REGISTER;
    if (log_.size() == LOG_LINES)
        log_.pop_front();
    log_.push_back("actor " + std::to_string(id_) + " step " + std::to_string(number) + ": " +
                   describe(op));
    if (world_.log_first)
        to_kernel_log(log_.back());
    counts_[op.what]++;
    if (region.unsure)
        resolve(region);
    dispatch(op);
}

void Actor::dispatch(const Operation& op) {
    switch (op.what) {
    case What::REGISTER:
        return do_register(op);
    case What::DEREG:
        return do_dereg(op);
    case What::QUERY:
        return do_query(op);
    case What::REREG:
        return do_rereg(op);
    case What::ADVISE:
        return do_advise(op);
    case What::WRITE:
    case What::READ:
    case What::ADD:
    case What::SWAP:
    case What::STORE:
    case What::LOAD_LOCAL:
    case What::STORE_LOCAL:
    case What::SEND:
        return do_access(op);
    case What::CPU_WRITE:
        return do_cpu_write(op);
    case What::CPU_READ:
        return do_cpu_read(op);
    case What::MOVE:
        return do_move(op);
    case What::REVOKE:
        return do_revoke(op);
    case What::RESTORE:
        return do_restore(op);
    case What::INFO:
        return do_info(op);
    case What::REPLACE:
        return do_replace(op);
    case What::FORK:
        return do_fork(op);
    case What::KILL:
        return do_kill(op);
    }
}

void Actor::outcome(const std::string& text) {
    log_.back() += " -> " + text;
}

void Actor::expect(bool is_right, const std::string& otherwise) const {
    if (!is_right)
        throw std::runtime_error(otherwise);
}

void Actor::expect_errno(int is, std::initializer_list<int> allowed) {
    outcome(errno_name(is));
    if (std::ranges::find(allowed, is) != allowed.end())
        return;
    std::string text = errno_name(is) + ", allowed:";
    for (const int error : allowed)
        text += " " + errno_name(error);
    throw std::runtime_error(text);
}

std::string Actor::log() const {
    std::string all;
    for (const std::string& line : log_)
        all += line + "\n";
    return all;
}

// MRs.

Region Actor::make_region(const Operation& op, const Buffer& buffer) const {
    const int fd = buffer.dmabuf.fd();
    Region region;
    region.model = buffer.model;
    region.size = buffer.dmabuf.size();
    region.writable = op.writable;
    if (op.plain && op.mode == PFN_MR_MODE_DEFAULT) {
        region.plain = Mr::dmabuf(gpu_.pd, fd, 0, region.size, IOVA, access(op.writable));
    } else {
        region.event = Fd(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
        if (!region.event)
            throw_errno("eventfd");
        region.moded.emplace(gpu_.pd, op.mode, fd, 0, region.size, IOVA, access(op.writable),
                             region.event.get());
    }
    return region;
}

void Actor::do_register(const Operation& op) {
    if (regions_.at(op.region).model)
        do_dereg(op);
    const auto buffer = world_.buffer(op.buffer);
    Model& model = *buffer->model;
    const auto mode = negotiate(op.mode, model.caps);
    Region region;
    Window window(model, mode && pins(*mode) ? Window::CHANGES_PINS : Window::LOOKS);
    const int error = errno_of([&] { region = make_region(op, *buffer); });
    window.close([&](Facts& facts) {
        if (error != 0)
            return;
        region.mode = mode.value_or(PFN_MR_MODE_DYNAMIC);
        region.birth = facts.revokes;
        region.unsure = !window.memory_sure() && region.mode != PFN_MR_MODE_PINNED;
        if (region.mode == PFN_MR_MODE_PINNED)
            facts.pinned++;
        else if (region.mode == PFN_MR_MODE_REVOCABLE)
            region.unsure ? facts.unsure++ : facts.revocable++;
    });
    if (!mode)
        expect_errno(error, {EOPNOTSUPP});
    else if (!window.memory_sure())
        expect_errno(error, {0, ENODEV});
    else
        expect_errno(error, {window.live() ? 0 : ENODEV});
    if (error != 0)
        return;
    expect(world_.reserve_key(region.key()), "this key is somebody else's already");
    regions_.at(op.region) = std::move(region);
}

void Actor::do_dereg(const Operation& op) {
    Region region = std::move(regions_.at(op.region));
    regions_.at(op.region) = Region();
    world_.release_key(region.key());
    Window window(*region.model, pins(region.mode) ? Window::CHANGES_PINS : Window::LOOKS);
    const int error =
        errno_of([&] { region.plain ? region.plain->dereg() : region.moded->dereg(); });
    window.close([&](Facts& facts) {
        if (region.mode == PFN_MR_MODE_PINNED)
            facts.pinned--;
        else if (region.mode == PFN_MR_MODE_REVOCABLE && region.unsure)
            facts.unsure--;
        else if (region.mode == PFN_MR_MODE_REVOCABLE && region.birth == facts.revokes)
            facts.revocable--;
    });
    expect_errno(error, {0});
}

Actor::State Actor::state(const Region& region, const Window& window) {
    if (region.mode == PFN_MR_MODE_PINNED)
        return State::ALIVE;
    if (region.unsure)
        return State::UNKNOWN;
    if (window.before().revokes > region.birth) // which is for good
        return State::REVOKED;
    return window.memory_sure() ? State::ALIVE : State::UNKNOWN;
}

/// Whether an MR was registered before or after a revoke: ask, when it is quiet.
void Actor::resolve(Region& region) {
    Window window(*region.model, pins(region.mode) ? Window::CHANGES_PINS : Window::LOOKS);
    const bool revoked = region.query().state == PFN_MR_STATE_REVOKED;
    window.close([&](Facts& facts) {
        if (!window.memory_sure())
            return;
        region.unsure = false;
        // It was registered after a restore if at all: there was a revoke before.
        region.birth = revoked ? facts.revokes - 1 : facts.revokes;
        if (region.mode == PFN_MR_MODE_REVOCABLE) {
            facts.unsure--;
            facts.revocable += revoked ? 0 : 1;
        }
    });
}

void Actor::check_event(Region& region, State state) {
    if (!region.event)
        return;
    std::uint64_t more = 0;
    if (::read(region.event.get(), &more, sizeof(more)) == sizeof(more))
        region.events += more;
    const std::string text = "told of a revoke " + std::to_string(region.events) + " times";
    expect(region.events <= 1, text);
    if (state == State::ALIVE)
        expect(region.events == 0, text);
    if (state == State::REVOKED)
        expect(region.events == 1, text);
}

void Actor::do_query(const Operation& op) {
    Region& region = regions_.at(op.region);
    Window window(*region.model, Window::LOOKS);
    const pfn_mr_info info = region.query();
    window.close();
    const State should = state(region, window);
    outcome("state " + std::to_string(info.state));
    expect(info.mode == region.mode, "mode " + std::to_string(info.mode));
    if (should != State::UNKNOWN)
        expect((info.state == PFN_MR_STATE_REVOKED) == (should == State::REVOKED), "wrong state");
    if (pins(region.mode))
        expect(info.state != PFN_MR_STATE_ABSENT, "it has moved");
    expect(info.faults >= region.last.faults && info.invalidations >= region.last.invalidations &&
               info.prefetches >= region.last.prefetches &&
               info.bytes_read >= region.last.bytes_read &&
               info.bytes_written >= region.last.bytes_written,
           "a counter runs backwards");
    region.last = info;
    check_event(region, should);
}

void Actor::do_rereg(const Operation& op) {
    Region& region = regions_.at(op.region);
    if (!region.plain) // libibverbs knows of no other
        return do_query(op);
    const int error = errno_of(
        [&] { region.plain->rereg(IBV_REREG_MR_CHANGE_ACCESS, nullptr, access(op.writable)); });
    expect_errno(error, {0});
    region.writable = op.writable;
}

void Actor::do_advise(const Operation& op) {
    static constexpr std::array ADVICES{IBV_ADVISE_MR_ADVICE_PREFETCH,
                                        IBV_ADVISE_MR_ADVICE_PREFETCH_WRITE,
                                        IBV_ADVISE_MR_ADVICE_PREFETCH_NO_FAULT};
    const Region& region = regions_.at(op.region);
    const auto advice = ADVICES.at(op.advice);
    const ibv_sge sge{.addr = IOVA + op.offset,
                      .length = static_cast<std::uint32_t>(op.length),
                      .lkey = region.key()};
    Window window(*region.model, Window::LOOKS);
    const int error = errno_of(
        [&] { advise(gpu_.pd, advice, op.asynchronous ? 0 : IBV_ADVISE_MR_FLAG_FLUSH, sge); });
    window.close();
    const State is = state(region, window);
    if (advice == IBV_ADVISE_MR_ADVICE_PREFETCH_WRITE && !region.writable)
        expect_errno(error, {EPERM});
    else if (is == State::UNKNOWN)
        expect_errno(error, {0, ENODEV});
    else
        expect_errno(error, {is == State::ALIVE ? 0 : ENODEV});
}

// Accesses through MRs.

void Actor::do_access(const Operation& op) {
    const Region& region = regions_.at(op.region);
    const bool writes = op.what != What::READ && op.what != What::STORE_LOCAL;
    const bool allowed = !writes || region.writable;
    Window window(*region.model, Window::LOOKS);
    const Transfer result = transfer(op, region);
    window.close();
    const State is = state(region, window);
    outcome(result.text);
    if (!result.success)
        reconnect();
    expect(result.success || result.proper, "the wrong error: " + result.text);
    if (!allowed || is == State::REVOKED)
        expect(!result.success, allowed ? "the MR is revoked" : "the MR is read-only");
    else if (is == State::ALIVE)
        expect(result.success, "refused: " + result.text);
    if (writes)
        stored(op, *region.model, window, result.success);
    else if (result.success)
        loaded(op, *region.model, window);
}

/// The aligned word in the operation's piece, or next to it.
static std::uint64_t word_offset(const Operation& op) {
    return op.offset / 8 * 8;
}

Actor::Transfer Actor::transfer(const Operation& op, const Region& region) {
    const std::uint64_t base = IOVA + id_ * STRIPE;
    const Remote remote{.address = base + op.offset, .rkey = region.key()};
    const Remote word{.address = base + word_offset(op), .rkey = region.key()};
    const ibv_sge device{.addr = base + op.offset,
                         .length = static_cast<std::uint32_t>(op.length),
                         .lkey = region.key()};
    const ibv_sge from = out_.sge(op.offset, op.length);
    const ibv_sge to = in_.sge(op.offset, op.length);
    switch (op.what) {
    case What::WRITE:
        (void)source(op);
        peer_.qp.post_write(1, from, remote);
        return remote_result();
    case What::READ:
        peer_.qp.post_read(1, to, remote);
        return remote_result();
    case What::ADD:
        peer_.qp.post_fetch_add(1, in_.sge(0, 8), word, op.value);
        return remote_result();
    case What::SWAP: // for what is not there, usually: it must not be swapped then
        peer_.qp.post_cmp_swap(1, in_.sge(0, 8), word, op.asynchronous ? 0 : op.value, ~op.value);
        return remote_result();
    case What::STORE:
        peer_.qp.post_atomic_write(1, word, op.value);
        return remote_result();
    case What::LOAD_LOCAL:
        (void)source(op);
        gpu_.qp.post_read(1, device, out_.remote(op.offset));
        return local_result();
    case What::STORE_LOCAL:
        gpu_.qp.post_write(1, device, in_.remote(op.offset));
        return local_result();
    default: // SEND
        (void)source(op);
        gpu_.qp.post_recv(1, device);
        peer_.qp.post_send(1, from);
        return send_result();
    }
}

Actor::Transfer Actor::remote_result() {
    const auto status = peer_.cq.wait().status;
    return {.success = status == IBV_WC_SUCCESS,
            .proper = status == IBV_WC_REM_ACCESS_ERR,
            .text = ibv_wc_status_str(status)};
}

Actor::Transfer Actor::local_result() {
    const auto status = gpu_.cq.wait().status;
    return {.success = status == IBV_WC_SUCCESS,
            .proper = status == IBV_WC_LOC_PROT_ERR,
            .text = ibv_wc_status_str(status)};
}

Actor::Transfer Actor::send_result() {
    const auto sender = peer_.cq.wait().status;
    const auto receiver = gpu_.cq.wait().status;
    return {.success = sender == IBV_WC_SUCCESS && receiver == IBV_WC_SUCCESS,
            .proper = sender == IBV_WC_REM_OP_ERR &&
                      (receiver == IBV_WC_LOC_PROT_ERR || receiver == IBV_WC_LOC_QP_OP_ERR),
            .text = std::string(ibv_wc_status_str(sender)) +
                    ", receiver: " + ibv_wc_status_str(receiver)};
}

void Actor::reconnect() {
    for (Endpoint* endpoint : {&gpu_, &peer_}) {
        endpoint->qp = Qp(endpoint->context, endpoint->pd, endpoint->cq);
        while (endpoint->cq.poll()) {
            // flushed
        }
    }
    connect(gpu_.qp, peer_.qp);
}

// What the bytes must be.

Stripe* Actor::known_stripe(Model& model, const Window& window) const {
    Stripe& stripe = model.stripes.at(id_);
    if (!window.memory_sure()) {
        stripe.known = false;
        return nullptr;
    }
    if (stripe.known && stripe.restores != window.after().restores) {
        // All that was done to it since then was done with nobody revoking or
        // restoring it meanwhile: the memory is new.
        stripe.data.fill(std::byte{0});
        stripe.restores = window.after().restores;
    }
    return stripe.known && window.live() ? &stripe : nullptr;
}

/// The piece that the operation writes, in out_.
std::span<const std::byte> Actor::source(const Operation& op) {
    const auto piece = out_.bytes().subspan(op.offset, op.length);
    fill_pattern(piece, op.value, op.offset);
    return piece;
}

void Actor::stored(const Operation& op, Model& model, const Window& window, bool written) {
    Stripe* stripe = known_stripe(model, window);
    if (!written)
        return;
    const bool atomic = op.what == What::ADD || op.what == What::SWAP || op.what == What::STORE;
    if (!atomic && op.length == STRIPE && window.memory_sure() && window.live()) {
        stripe = &model.stripes.at(id_);
        stripe->known = true;
        stripe->restores = window.after().restores;
    }
    if (!stripe)
        return;
    if (!atomic) {
        fill_pattern(std::span(stripe->data).subspan(op.offset, op.length), op.value, op.offset);
        return;
    }
    std::byte* const at = std::span(stripe->data).subspan(word_offset(op), 8).data();
    std::uint64_t value = 0;
    std::memcpy(&value, at, sizeof(value));
    if (op.what != What::STORE)
        expect(in_.word() == value, "the word was " + std::to_string(in_.word()) + ", should be " +
                                        std::to_string(value));
    if (op.what == What::ADD)
        value += op.value;
    else if (op.what == What::STORE)
        value = op.value;
    else if (value == (op.asynchronous ? 0 : op.value))
        value = ~op.value;
    std::memcpy(at, &value, sizeof(value));
}

void Actor::loaded(const Operation& op, Model& model, const Window& window) {
    const Stripe* const stripe = known_stripe(model, window);
    if (!stripe)
        return;
    const auto is = in_.bytes().subspan(op.offset, op.length);
    const auto should = std::span(stripe->data).subspan(op.offset, op.length);
    const auto bad = std::ranges::mismatch(is, should).in1 - is.begin();
    expect(static_cast<std::size_t>(bad) == is.size(),
           "byte " + std::to_string(bad) + " of what was read is wrong");
}

bool Actor::check_stripe(const Buffer& buffer) {
    Window window(*buffer.model, Window::LOOKS);
    window.close();
    const Stripe* const stripe = known_stripe(*buffer.model, window);
    if (!stripe)
        return false;
    const auto is = buffer.cpu.bytes().subspan(id_ * STRIPE, STRIPE);
    std::array<std::byte, STRIPE> copy{};
    std::memcpy(copy.data(), is.data(), copy.size()); // device memory is slow to compare
    const auto bad = std::ranges::mismatch(copy, stripe->data).in1 - copy.begin();
    expect(static_cast<std::size_t>(bad) == copy.size(),
           "byte " + std::to_string(bad) + " of the stripe of actor " + std::to_string(id_) +
               " is wrong in the end");
    return true;
}

std::size_t Actor::regions_on(const Buffer& buffer) const {
    return static_cast<std::size_t>(std::ranges::count(regions_, buffer.model, &Region::model));
}

// A CPU's accesses go through system calls, which answer EFAULT where the CPU
// itself would get SIGBUS.

std::span<std::byte> Actor::cpu_piece(const Operation& op, const Buffer& buffer) const {
    // One page's: half of a copy would be hard to tell from a whole one.
    const std::uint64_t length = std::min(op.length, page_size() - op.offset % page_size());
    return buffer.cpu.bytes().subspan(id_ * STRIPE + op.offset, length);
}

/// Through the pipe, of which one side is in the buffer. False: EFAULT.
bool Actor::copy_out(std::span<std::byte> to, std::span<const std::byte> from) {
    const ssize_t n = ::write(pipe_[1].get(), from.data(), from.size());
    if (n < 0 && errno == EFAULT)
        return false;
    if (n != static_cast<ssize_t>(from.size()))
        throw_errno("write to a pipe");
    if (::read(pipe_[0].get(), to.data(), to.size()) != n)
        throw_errno("read from a pipe");
    return true;
}

bool Actor::copy_in(std::span<std::byte> to, std::span<const std::byte> from) {
    if (::write(pipe_[1].get(), from.data(), from.size()) != static_cast<ssize_t>(from.size()))
        throw_errno("write to a pipe");
    const ssize_t n = ::read(pipe_[0].get(), to.data(), to.size());
    if (n < 0 && errno == EFAULT) { // what was not taken is still in there
        std::array<std::byte, 4096> rest{};
        if (::read(pipe_[0].get(), rest.data(), rest.size()) != static_cast<ssize_t>(from.size()))
            throw_errno("empty a pipe");
        return false;
    }
    if (n != static_cast<ssize_t>(to.size()))
        throw_errno("read from a pipe");
    return true;
}

void Actor::do_cpu_write(const Operation& op) {
    const auto buffer = world_.buffer(op.buffer);
    const auto to = cpu_piece(op, *buffer);
    Operation piece = op;
    piece.length = to.size();
    const auto from = source(piece);
    Window window(*buffer->model, Window::LOOKS);
    const bool success = copy_in(to, from);
    window.close();
    outcome(success ? "success" : "EFAULT");
    if (window.memory_sure())
        expect(success == window.live(), "a CPU's access to a mapping");
    stored(piece, *buffer->model, window, success);
}

void Actor::do_cpu_read(const Operation& op) {
    const auto buffer = world_.buffer(op.buffer);
    const auto from = cpu_piece(op, *buffer);
    Operation piece = op;
    piece.length = from.size();
    Window window(*buffer->model, Window::LOOKS);
    const bool success = copy_out(in_.bytes().subspan(op.offset, from.size()), from);
    window.close();
    outcome(success ? "success" : "EFAULT");
    if (window.memory_sure())
        expect(success == window.live(), "a CPU's access to a mapping");
    if (success)
        loaded(piece, *buffer->model, window);
}

// Buffers.

void Actor::do_move(const Operation& op) {
    const auto buffer = world_.buffer(op.buffer);
    Window window(*buffer->model, Window::LOOKS);
    const int error = errno_of([&] {
        world_.vram.move(buffer->dmabuf.fd(), op.placement, op.fragmented ? page_size() : 0,
                         op.asynchronous ? PFN_VRAM_MOVE_ASYNC : 0);
    });
    window.close();
    if (!(buffer->model->caps & PFN_VRAM_CAP_MOVE))
        expect_errno(error, {EOPNOTSUPP});
    else if (window.memory_sure() && !window.live())
        expect_errno(error, {ENODEV});
    else if (!window.pins_sure())
        expect_errno(error, {0, EBUSY, window.memory_sure() ? 0 : ENODEV});
    else
        expect_errno(error, {window.after().pinned + window.after().revocable ? EBUSY : 0});
}

void Actor::do_revoke(const Operation& op) {
    const auto buffer = world_.buffer(op.buffer);
    Window window(*buffer->model, Window::CHANGES_MEMORY);
    const int error = errno_of([&] { world_.vram.revoke(buffer->dmabuf.fd()); });
    window.close([&](Facts& facts) {
        if (error != 0)
            return;
        facts.revokes++;
        facts.revocable = 0; // they have the memory no more
    });
    if (!(buffer->model->caps & PFN_VRAM_CAP_REVOKE))
        expect_errno(error, {EOPNOTSUPP});
    else if (window.memory_sure() && !window.live())
        expect_errno(error, {ENODEV});
    else if (!window.pins_sure())
        expect_errno(error, {0, EBUSY, window.memory_sure() ? 0 : ENODEV});
    else
        expect_errno(error, {window.after().pinned ? EBUSY : 0});
}

void Actor::do_restore(const Operation& op) {
    const auto buffer = world_.buffer(op.buffer);
    Window window(*buffer->model, Window::CHANGES_MEMORY);
    const int error = errno_of([&] {
        world_.vram.restore(buffer->dmabuf.fd(), op.placement, op.fragmented ? page_size() : 0);
    });
    window.close([&](Facts& facts) { facts.restores += error == 0 ? 1 : 0; });
    if (!window.memory_sure())
        expect_errno(error, {0, EINVAL});
    else
        expect_errno(error, {window.live() ? EINVAL : 0});
}

void Actor::do_info(const Operation& op) {
    const auto buffer = world_.buffer(op.buffer);
    Window window(*buffer->model, Window::LOOKS);
    const auto info = world_.vram.buf_info(buffer->dmabuf.fd());
    window.close();
    outcome("flags " + std::to_string(info.flags));
    expect(info.caps == buffer->model->caps && info.size == buffer->dmabuf.size(),
           "capabilities or size");
    expect(info.attachments >= regions_on(*buffer), "too few importers");
    if (window.memory_sure())
        expect(((info.flags & PFN_VRAM_BUF_REVOKED) == 0) == window.live(), "revoked or not");
    if (window.pins_sure())
        expect(((info.flags & PFN_VRAM_BUF_PINNED) != 0) ==
                   (window.after().pinned + window.after().revocable > 0),
               "pinned or not");
}

void Actor::do_replace(const Operation& op) {
    world_.replace(op.buffer, op);
    outcome("done");
}

// Children. They inherit whatever other actors were just doing and the locks in
// this process that they held, so they do little, and need not succeed at it.

void Actor::do_fork(const Operation& op) {
    const auto buffer = world_.buffer(op.buffer);
    const auto bytes = buffer->cpu.bytes();
    Window window(*buffer->model, Window::LOOKS);
    auto child = Child::fork([&](Channel&) {
        for (std::size_t at = 0; at < bytes.size(); at += page_size())
            (void)*reinterpret_cast<const volatile char*>(&bytes[at]);
        return 0;
    });
    const Exit end = child.wait(PATIENCE);
    window.close();
    outcome("status " + std::to_string(end.status) + " signal " + std::to_string(end.signal));
    const bool died = end == Exit{.status = 0, .signal = SIGBUS};
    expect(died || end == Exit{}, "the child has failed");
    if (window.memory_sure())
        expect(died != window.live(), "the child's access to a mapping");
}

void Actor::do_kill(const Operation& op) {
    const auto buffer = world_.buffer(op.buffer);
    const std::uint64_t stripe = world_.actors * STRIPE; // that of children
    auto child = Child::fork([&](Channel& parent) {
        try {
            Endpoint gpu(GPU_DEVICE);
            Endpoint peer(PEER_DEVICE);
            connect(gpu.qp, peer.qp);
            const HostMemory from(peer.pd, STRIPE);
            // This mode is never refused, and forbids nothing.
            const ModeMr mr(gpu.pd, PFN_MR_MODE_DYNAMIC, buffer->dmabuf.fd(), stripe, STRIPE, 0);
            parent.send(1);
            do
                peer.qp.post_write(1, from.sge(0, STRIPE), {.address = 0, .rkey = mr.rkey()});
            while (peer.cq.wait().status == IBV_WC_SUCCESS);
        } catch (const std::exception&) { // revoked
        }
        return 0;
    });
    const auto delay = std::chrono::milliseconds(op.value % 60);
    if (op.asynchronous) // most others die before they have registered
        (void)errno_of([&] {
            try {
                (void)child.channel().recv<int>(std::chrono::seconds(2));
            } catch (const Timeout&) { // a lock that it has inherited
            }
        });
    std::this_thread::sleep_for(delay);
    child.kill(SIGKILL);
    const Exit end = child.wait(PATIENCE);
    outcome("status " + std::to_string(end.status) + " signal " + std::to_string(end.signal));
    expect(end == Exit{} || end == Exit{.status = 0, .signal = SIGKILL}, "the child has failed");
}

} // namespace pfn::fuzz
