// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
#include "tools/sanity/steps.hpp"

#include "common/error.hpp"
#include "common/pattern.hpp"
#include "common/text.hpp"
#include "common/verbs.hpp"
#include "common/vram.hpp"

#include <infiniband/pfndv.hpp>
#include <poll.h>
#include <sys/eventfd.h>

#include <chrono>
#include <cstring>
#include <format>
#include <optional>
#include <stdexcept>
#include <utility>

namespace pfn::tools {
namespace {

/// A step that cannot be done here, which is no failure.
class Skipped : public std::runtime_error {
  public:
    using std::runtime_error::runtime_error;
};

[[noreturn]] void fail(const std::string& what) {
    throw std::runtime_error(what);
}

/// The value of a call of libpfndv; its reason, if it has failed.
template<typename T>
T value(pfndv::Result<T> result) {
    if (!result)
        fail(result.error().reason);
    return *std::move(result);
}

constexpr std::uint64_t COUNTER = 0; ///< where in the buffer atomics are tried
constexpr std::uint64_t HEADER = 4096;
constexpr int MOVES = 20;

/// Both ends of a connection on one device, a buffer, and an MR on it. What a step makes
/// is there for those that follow; everything goes with this object.
class Session {
  public:
    explicit Session(Subject subject) : subject_(std::move(subject)) {}

    std::string allocate();
    std::string register_it();
    std::string connect();
    std::string write();
    std::string read();
    std::string atomic();
    std::string move();
    std::string move_under_traffic();
    std::string pin();
    std::string plain_verb();
    std::string revoke();
    std::string leave();

  private:
    /// A pair of queue pairs that talk to each other.
    struct Connection {
        Connection(const Context& context, const Pd& pd)
            : cq(context.get(), 2 * Qp::DEPTH), near(context, pd, cq), far(context, pd, cq) {
            near.connect(far.address());
            far.connect(near.address());
        }
        Cq cq;
        Qp near;
        Qp far;
    };

    pfndv::Mr reg(pfndv_mode mode, int eventfd = -1) {
        return value(pfndv::Mr::reg(pfndv::Pd::borrow(pd_->get()), dmabuf(),
                                    {.mode = mode, .eventfd = eventfd}));
    }
    /// The buffer as libpfndv has it.
    pfndv::DmaBuf dmabuf() { return value(pfndv::DmaBuf::dup(buffer_.fd())); }
    /// Where data goes: everything but the counter.
    [[nodiscard]] std::uint64_t data_size() const { return buffer_.size() - HEADER; }
    [[nodiscard]] Remote remote(std::uint64_t offset) const {
        return {.address = mr_->address(offset), .rkey = mr_->rkey()};
    }
    [[nodiscard]] ibv_sge local() const {
        return {.addr = host_.address(),
                .length = static_cast<std::uint32_t>(data_size()),
                .lkey = host_mr_.lkey()};
    }
    /// Wait for a completion, which has to be a success.
    void complete(const std::string& what) {
        const ibv_wc wc = connection_->cq.wait();
        if (wc.status != IBV_WC_SUCCESS)
            fail(what + ": " + ibv_wc_status_str(wc.status));
    }
    void expect_pattern(std::span<const std::byte> bytes, std::uint64_t seed,
                        const std::string& who) {
        const auto at = find_mismatch(bytes, seed);
        if (at)
            fail(std::format("{} sees a wrong byte at {}", who, *at));
    }
    void write_pattern(std::uint64_t seed) {
        fill_pattern(host_.bytes(), seed);
        connection_->near.post_write(seed, local(), remote(HEADER));
        complete("RDMA write");
    }
    void read_pattern(std::uint64_t seed) {
        std::memset(host_.bytes().data(), 0, host_.bytes().size());
        connection_->near.post_read(seed, local(), remote(HEADER));
        complete("RDMA read");
        expect_pattern(host_.bytes(), seed, "RDMA read");
    }
    void cpu_sees(std::uint64_t seed) {
        expect_pattern(cpu_.bytes().subspan(HEADER), seed, "the CPU");
    }

    Subject subject_;
    std::optional<VramDevice> device_;
    std::uint32_t buffers_before_ = 0;
    DmaBuf buffer_;
    Mapping cpu_;
    std::optional<Context> context_;
    std::optional<Pd> pd_;
    Mapping host_;
    Mr host_mr_;
    std::optional<Connection> connection_;
    Fd event_;
    std::optional<pfndv::Mr> mr_;
    std::uint64_t seed_ = 1; ///< of the pattern that the buffer should have
};

std::string Session::allocate() {
    device_.emplace(subject_.vram);
    buffers_before_ = device_->info().buffers;
    buffer_ = device_->alloc({.size = subject_.size});
    cpu_ = buffer_.map();
    return std::format("{} of {}, {}", bytes_text(static_cast<double>(subject_.size)),
                       subject_.vram, count_text(device_->buf_info(buffer_.fd()).ranges, "range"));
}

std::string Session::register_it() {
    context_.emplace(subject_.rdma);
    pd_.emplace(context_->get());
    event_ = Fd(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
    mr_.emplace(reg(PFNDV_MODE_DEFAULT, event_.get()));
    const pfndv_mr_attr attr = value(mr_->query());
    if (attr.mode != PFNDV_MODE_DYNAMIC || attr.state != PFNDV_STATE_PRESENT)
        fail(std::format("the MR is {}, {}", pfndv_mode_str(attr.mode),
                         pfndv_state_str(attr.state)));
    return std::format("{}, {}, the MR takes {} of kernel memory", pfndv_mode_str(attr.mode),
                       pfndv_backend_str(attr.backend),
                       bytes_text(static_cast<double>(attr.metadata_bytes)));
}

std::string Session::connect() {
    host_ = Mapping::anonymous(data_size());
    host_mr_ = Mr::host(*pd_, host_.bytes());
    connection_.emplace(*context_, *pd_);
    return "two queue pairs of " + subject_.rdma + ", with each other";
}

std::string Session::write() {
    write_pattern(seed_);
    cpu_sees(seed_);
    return "the CPU sees what was written";
}

std::string Session::read() {
    read_pattern(seed_);
    return "what was written comes back";
}

std::string Session::atomic() {
    constexpr std::uint64_t ADD = 41;
    auto* counter = reinterpret_cast<volatile std::uint64_t*>(cpu_.bytes().data() + COUNTER);
    *counter = 1;
    const ibv_sge before{.addr = host_.address(), .length = 8, .lkey = host_mr_.lkey()};
    connection_->near.post_fetch_add(1, before, remote(COUNTER), ADD);
    complete("atomic");
    std::uint64_t fetched = 0;
    std::memcpy(&fetched, host_.bytes().data(), sizeof(fetched));
    if (fetched != 1 || *counter != 1 + ADD)
        fail(std::format("1 + {} gave {}, and {} was there before", ADD, +*counter, fetched));
    return "fetch and add";
}

std::string Session::move() {
    device_->move(buffer_.fd(), PFN_VRAM_PLACEMENT_SYSTEM);
    if (value(mr_->query()).state != PFNDV_STATE_ABSENT)
        fail("the MR was not told of the move");
    read_pattern(seed_); // faults
    device_->move(buffer_.fd(), PFN_VRAM_PLACEMENT_VRAM);
    write_pattern(++seed_);
    cpu_sees(seed_);
    const auto faults = value(mr_->query()).faults;
    if (faults != 2)
        fail(std::format("{} faults, 2 were expected", faults));
    return "to system memory and back, data intact, 2 faults";
}

std::string Session::move_under_traffic() {
    for (int i = 0; i < MOVES; ++i) {
        fill_pattern(host_.bytes(), ++seed_);
        connection_->near.post_write(seed_, local(), remote(HEADER));
        device_->move(buffer_.fd(),
                      i % 2 == 0 ? PFN_VRAM_PLACEMENT_SYSTEM : PFN_VRAM_PLACEMENT_VRAM);
        complete("RDMA write during a move");
        cpu_sees(seed_);
    }
    return std::format("{} moves with a write on its way, nothing lost", MOVES);
}

std::string Session::pin() {
    const int error = [&] {
        const pfndv::Mr pinned = reg(PFNDV_MODE_PINNED);
        return errno_of([&] { device_->move(buffer_.fd(), PFN_VRAM_PLACEMENT_SYSTEM); });
    }();
    if (error != EBUSY)
        fail("a buffer on which there is a pinned MR could be moved");
    return "a pinned MR holds the buffer where it is";
}

std::string Session::plain_verb() {
    if (!subject_.plain_verb)
        throw Skipped("the distribution's librxe has no ibv_reg_dmabuf_mr(): "
                      "umem-pfn-provider adds it");
    (void)Mr::dmabuf(*pd_, buffer_.fd(), 0, buffer_.size(), 0);
    return "ibv_reg_dmabuf_mr() works, too";
}

std::string Session::revoke() {
    device_->revoke(buffer_.fd());
    pollfd told{.fd = event_.get(), .events = POLLIN, .revents = 0};
    const auto patience = std::chrono::milliseconds(PATIENCE);
    if (::poll(&told, 1, static_cast<int>(patience.count())) != 1)
        fail("the eventfd was not signalled");
    connection_->near.post_write(1, local(), remote(HEADER));
    const ibv_wc wc = connection_->cq.wait();
    if (wc.status != IBV_WC_REM_ACCESS_ERR)
        fail(std::string("RDMA write to revoked memory: ") + ibv_wc_status_str(wc.status));
    return "the eventfd tells, and a write fails with a remote access error";
}

std::string Session::leave() {
    const bool registered = mr_.has_value();
    connection_.reset();
    mr_.reset();
    if (registered && device_->buf_info(buffer_.fd()).attachments != 0)
        fail("the buffer still has an importer");
    cpu_ = {};
    buffer_.close();
    host_mr_ = {};
    pd_.reset();
    context_.reset();
    if (!device_)
        return "nothing was made";
    // Others may come and go meanwhile; what must not be there is one more.
    const std::uint32_t now = device_->info().buffers;
    if (now > buffers_before_)
        throw Skipped(
            std::format("{} buffers, {} before: others may have made them", now, buffers_before_));
    return "no buffer, no MR";
}

struct Step {
    const char* name;
    std::string (Session::*action)();
};

constexpr Step STEPS[]{
    {"allocate", &Session::allocate}, {"register", &Session::register_it},
    {"connect", &Session::connect},   {"write", &Session::write},
    {"read", &Session::read},         {"atomic", &Session::atomic},
    {"move", &Session::move},         {"move under traffic", &Session::move_under_traffic},
    {"pin", &Session::pin},           {"plain verb", &Session::plain_verb},
    {"revoke", &Session::revoke},     {"nothing left", &Session::leave},
};

Outcome do_step(const Step& step, Session& session) {
    const auto start = std::chrono::steady_clock::now();
    Outcome outcome{.step = step.name, .result = Result::PASS, .detail = {}, .milliseconds = 0};
    try {
        outcome.detail = (session.*step.action)();
    } catch (const Skipped& e) {
        outcome.result = Result::SKIP;
        outcome.detail = e.what();
    } catch (const std::exception& e) {
        outcome.result = Result::FAIL;
        outcome.detail = e.what();
    }
    outcome.milliseconds =
        std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count();
    return outcome;
}

} // namespace

void do_steps(const Subject& subject, const std::function<void(const Outcome&)>& report) {
    Session session(subject);
    std::string failed;
    for (const Step& step : STEPS) {
        const bool last = &step == &STEPS[std::size(STEPS) - 1];
        if (!failed.empty() && !last) {
            report({.step = step.name,
                    .result = Result::SKIP,
                    .detail = "because of the failure of: " + failed,
                    .milliseconds = 0});
            continue;
        }
        const Outcome outcome = do_step(step, session);
        if (outcome.result == Result::FAIL && failed.empty())
            failed = step.name;
        report(outcome);
    }
}

} // namespace pfn::tools
