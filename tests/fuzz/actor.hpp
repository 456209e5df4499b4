// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
//
// Who does the operations: an actor has endpoints and MRs of its own and a stripe
// of every buffer; the buffers belong to all.
#pragma once

#include "fuzz/model.hpp"
#include "fuzz/operation.hpp"
#include "support/rdma_test.hpp"

#include <array>
#include <atomic>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <vector>

namespace pfn::fuzz {

/// A buffer and what is known of it. Lives until the last actor has forgotten it;
/// MRs keep only the model, and the kernel's buffer as MRs do.
struct Buffer {
    Buffer(const VramDevice& vram, const BufferSpec& spec, std::size_t actors)
        : model(std::make_shared<Model>(spec.caps, actors)), dmabuf(vram.alloc(spec)),
          cpu(dmabuf.map()) {}

    std::shared_ptr<Model> model;
    DmaBuf dmabuf;
    Mapping cpu;
};

/// What all actors share.
class World {
  public:
    World(std::uint64_t seed, std::size_t actors);

    [[nodiscard]] std::shared_ptr<Buffer> buffer(std::size_t slot);
    /// Put another buffer there. Whoever uses the old one goes on with it.
    void replace(std::size_t slot, const Operation& op);
    /// A key that nobody else may have. Returns false if somebody has it.
    bool reserve_key(std::uint32_t key);
    void release_key(std::uint32_t key);

    const VramDevice vram;
    const std::uint64_t seed;
    const std::size_t actors;
    std::atomic<bool> stop{false};
    bool log_first = false; ///< every step goes to the kernel log before it is done

  private:
    std::shared_ptr<Buffer> make(const Operation& op) const;

    std::mutex mutex_;
    std::array<std::shared_ptr<Buffer>, BUFFERS> buffers_;
    std::set<std::uint32_t> keys_;
};

/// A line for the kernel log, which is what is left if the kernel dies of it.
void to_kernel_log(const std::string& line);

/// An MR and what is known of it.
struct Region {
    std::shared_ptr<Model> model;
    std::uint64_t size = 0;
    std::uint32_t mode = 0;
    bool writable = false;
    std::optional<Mr> plain;
    std::optional<ModeMr> moded;
    Fd event; ///< told of revokes, if moded
    std::uint64_t events = 0;
    unsigned birth = 0;  ///< Facts::revokes that it has survived
    bool unsure = false; ///< it may have been revoked by one more
    pfn_mr_info last{};  ///< counters never run backwards

    [[nodiscard]] std::uint32_t key() const { return plain ? plain->rkey() : moded->rkey(); }
    [[nodiscard]] pfn_mr_info query() const { return plain ? query_mr(*plain) : moded->query(); }
};

class Actor {
  public:
    Actor(World& world, std::size_t id);

    /// Do one step and check what came of it. Throws if that is wrong.
    void step(std::uint64_t number);
    /// The contents of its stripe of @p buffer are as they should be, if that is
    /// known. For when all actors have come to rest. Returns if it was known.
    bool check_stripe(const Buffer& buffer);
    /// How many of its MRs are on that buffer.
    [[nodiscard]] std::size_t regions_on(const Buffer& buffer) const;
    /// The last operations, one a line, with what came of them.
    [[nodiscard]] std::string log() const;
    /// How often it has done what.
    [[nodiscard]] const std::map<What, std::uint64_t>& counts() const { return counts_; }

  private:
    enum class State { ALIVE, REVOKED, UNKNOWN };
    struct Transfer { ///< how an access has ended
        bool success;
        bool proper; ///< if not: with the right errors on both sides
        std::string text;
    };

    void dispatch(const Operation& op);
    void do_register(const Operation& op);
    void do_dereg(const Operation& op);
    void do_query(const Operation& op);
    void do_rereg(const Operation& op);
    void do_advise(const Operation& op);
    void do_access(const Operation& op);
    void do_cpu_write(const Operation& op);
    void do_cpu_read(const Operation& op);
    void do_move(const Operation& op);
    void do_revoke(const Operation& op);
    void do_restore(const Operation& op);
    void do_info(const Operation& op);
    void do_replace(const Operation& op);
    void do_fork(const Operation& op);
    void do_kill(const Operation& op);

    Region make_region(const Operation& op, const Buffer& buffer) const;
    static State state(const Region& region, const Window& window);
    void resolve(Region& region);
    void check_event(Region& region, State state);

    Transfer transfer(const Operation& op, const Region& region);
    Transfer remote_result();
    Transfer local_result();
    Transfer send_result();
    void reconnect();

    /// The stripe of this actor, if its contents are known in @p window, which is
    /// closed; null if they are not.
    Stripe* known_stripe(Model& model, const Window& window) const;
    void stored(const Operation& op, Model& model, const Window& window, bool written);
    void loaded(const Operation& op, Model& model, const Window& window);
    std::span<const std::byte> source(const Operation& op);
    bool copy_in(std::span<std::byte> to, std::span<const std::byte> from);
    bool copy_out(std::span<std::byte> to, std::span<const std::byte> from);
    std::span<std::byte> cpu_piece(const Operation& op, const Buffer& buffer) const;

    void outcome(const std::string& text);
    void expect(bool is_right, const std::string& otherwise) const;
    void expect_errno(int is, std::initializer_list<int> allowed);

    World& world_;
    const std::size_t id_;
    Endpoint gpu_{GPU_DEVICE};
    Endpoint peer_{PEER_DEVICE};
    HostMemory out_;
    HostMemory in_;
    Fd pipe_[2];
    std::array<Region, REGIONS> regions_;
    std::deque<std::string> log_;
    std::map<What, std::uint64_t> counts_;
};

} // namespace pfn::fuzz
