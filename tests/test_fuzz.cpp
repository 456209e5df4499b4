// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
//
// Random operations on a few buffers and their MRs, by one actor, who knows
// exactly what must come of them, and by several at once, who know what may
// (fuzz/model.hpp). UMEM_PFN_SEED repeats a run, UMEM_PFN_FUZZ_SECONDS says how
// long each test goes on, UMEM_PFN_FUZZ_ACTORS how many there are of the several,
// and UMEM_PFN_FUZZ_KMSG=1 has every step in the kernel log before it is done;
// docs/testing.md has more.
#include "fuzz/actor.hpp"
#include "support/aftermath.hpp"
#include "support/debug_kernel.hpp"
#include "support/environment.hpp"
#include "support/long_run.hpp"
#include "support/modules.hpp"

#include <chrono>
#include <cinttypes>
#include <cstdio>
#include <fstream>
#include <thread>

namespace pfn::fuzz {
namespace {

using std::chrono::seconds;

/// How long: a minute for both tests on the debug kernel, where there is most to
/// be found, and less than half of that elsewhere.
seconds duration(bool several) {
    if (const auto by_hand = environment_number("UMEM_PFN_FUZZ_SECONDS"))
        return seconds(*by_hand);
    if (long_run())
        return std::chrono::minutes(30);
    if (debug_kernel())
        return seconds(several ? 40 : 20);
    return seconds(several ? 16 : 8);
}

class Fuzz : public testing::Test {
  protected:
    void run(std::size_t count, seconds time);

  private:
    /// The life of an actor. Returns what went wrong, or "".
    std::string live(Actor& actor, std::chrono::steady_clock::time_point end);
    void report(const std::vector<std::string>& errors) const;
    void check_rest();
    void print_counts() const;

    // Windows that others have a chance to come into.
    ModuleParameter slow_copy_{"pfn_vram/copy_delay_ms", "4"};
    ModuleParameter slow_access_{"ib_umem_pfn/test_access_delay_us", "100"};
    std::unique_ptr<World> world_;
    std::vector<std::unique_ptr<Actor>> actors_;
};

std::string Fuzz::live(Actor& actor, std::chrono::steady_clock::time_point end) {
    try {
        for (std::uint64_t number = 0; !world_->stop && std::chrono::steady_clock::now() < end;
             ++number)
            actor.step(number);
        return {};
    } catch (const std::exception& e) {
        world_->stop = true;
        return e.what();
    }
}

void Fuzz::report(const std::vector<std::string>& errors) const {
    for (std::size_t i = 0; i < errors.size(); ++i) {
        if (!errors[i].empty())
            ADD_FAILURE() << "actor " << i << ", last step below: " << errors[i]
                          << "\nUMEM_PFN_SEED=" << world_->seed << " repeats it";
    }
    if (!HasFailure())
        return;
    for (const auto& actor : actors_)
        std::printf("\n%s", actor->log().c_str());
}

/// Everybody has come to rest: now all of it can be known.
void Fuzz::check_rest() {
    std::size_t known = 0;
    for (std::size_t slot = 0; slot < BUFFERS; ++slot) {
        const auto buffer = world_->buffer(slot);
        std::size_t importers = 0;
        for (const auto& actor : actors_) {
            importers += actor->regions_on(*buffer);
            known += actor->check_stripe(*buffer) ? 1 : 0;
        }
        // Children that were killed go in the background.
        const auto deadline = std::chrono::steady_clock::now() + PATIENCE;
        const auto attachments = [&] {
            return world_->vram.buf_info(buffer->dmabuf.fd()).attachments;
        };
        while (attachments() != importers && std::chrono::steady_clock::now() < deadline)
            std::this_thread::sleep_for(std::chrono::milliseconds(10));
        EXPECT_EQ(importers, attachments()) << "of buffer " << slot;
    }
    std::printf("contents of %zu of %zu stripes compared in the end\n", known,
                BUFFERS * actors_.size());
}

void Fuzz::print_counts() const {
    std::map<What, std::uint64_t> all;
    std::uint64_t sum = 0;
    for (const auto& actor : actors_) {
        for (const auto& [what, count] : actor->counts()) {
            all[what] += count;
            sum += count;
        }
    }
    std::printf("%" PRIu64 " operations:", sum);
    for (const auto& [what, count] : all)
        std::printf(" %s %" PRIu64, name(what), count);
    std::printf("\n");
}

void Fuzz::run(std::size_t count, seconds time) {
    const std::uint64_t seed = random_seed();
    std::printf("UMEM_PFN_SEED=%" PRIu64 ", %zu actors, %lld s\n", seed, count,
                static_cast<long long>(time.count()));
    to_kernel_log("UMEM_PFN_SEED=" + std::to_string(seed) + ", " + std::to_string(count) +
                  " actors");
    const VramDevice vram;
    const Holdings before = Holdings::now(vram);

    world_ = std::make_unique<World>(seed, count);
    if (environment_number("UMEM_PFN_FUZZ_KMSG").value_or(0) != 0) {
        std::ofstream("/proc/sys/kernel/printk_devkmsg") << "on\n"; // no rate limit
        world_->log_first = true;
    }
    for (std::size_t i = 0; i < count; ++i)
        actors_.push_back(std::make_unique<Actor>(*world_, i));
    std::vector<std::string> errors(count);
    const auto end = std::chrono::steady_clock::now() + time;
    {
        std::vector<std::jthread> threads;
        for (std::size_t i = 0; i + 1 < count; ++i)
            threads.emplace_back([&, i] { errors[i] = live(*actors_[i], end); });
        errors[count - 1] = live(*actors_[count - 1], end);
    }
    print_counts();
    report(errors);
    if (!HasFailure()) {
        EXPECT_NO_THROW(check_rest());
    }

    actors_.clear();
    world_.reset();
    expect_holdings(vram, before);
    expect_fresh_traffic(GPU_DEVICE, PEER_DEVICE);
    expect_fresh_traffic(PEER_DEVICE, GPU_DEVICE);
    expect_holdings(vram, before);
}

TEST_F(Fuzz, OneActorKnowsEverything) {
    run(1, duration(false));
}

TEST_F(Fuzz, SeveralActors) {
    run(environment_number("UMEM_PFN_FUZZ_ACTORS").value_or(4), duration(true));
}

} // namespace
} // namespace pfn::fuzz
