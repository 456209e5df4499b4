// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
//
// The two tables of docs/access-rules.md, executed: every set of capabilities
// with every mode, and every event with what they have agreed on.
#include "support/modules.hpp"
#include "support/rdma_test.hpp"

#include <sys/eventfd.h>

#include <algorithm>
#include <array>
#include <fstream>
#include <ranges>
#include <string>
#include <string_view>
#include <vector>

namespace pfn {
namespace {

// Word for word as in docs/access-rules.md: tests/rules/check compares them.

constexpr std::string_view MODES = R"(
| **M1** | none | PINNED | PINNED | REVOCABLE | DYNAMIC |
| **M2** | pin | PINNED | PINNED | REVOCABLE | DYNAMIC |
| **M3** | revoke | REVOCABLE | `EOPNOTSUPP` | REVOCABLE | DYNAMIC |
| **M4** | revoke, pin | REVOCABLE | PINNED | REVOCABLE | DYNAMIC |
| **M5** | move | DYNAMIC | `EOPNOTSUPP` | `EOPNOTSUPP` | DYNAMIC |
| **M6** | move, pin | DYNAMIC | PINNED | REVOCABLE | DYNAMIC |
| **M7** | move, revoke | DYNAMIC | `EOPNOTSUPP` | `EOPNOTSUPP` | DYNAMIC |
| **M8** | move, revoke, pin | DYNAMIC | PINNED | REVOCABLE | DYNAMIC |
)";

constexpr std::string_view EVENTS = R"(
| **T1** | register | PRESENT | PRESENT | PRESENT |
| **T2** | access | works | works | works |
| **T3** | move, without `MAY_MOVE` | `EOPNOTSUPP` | `EOPNOTSUPP` | `EOPNOTSUPP` |
| **T4** | move, with `MAY_MOVE` | `EBUSY` | `EBUSY` | ABSENT |
| **T5** | … then access | works | works | faults |
| **T6** | revoke, without `MAY_REVOKE` | `EOPNOTSUPP` | `EOPNOTSUPP` | `EOPNOTSUPP` |
| **T7** | revoke, with `MAY_REVOKE` | `EBUSY` | REVOKED | REVOKED |
| **T8** | … then access | works | fails | fails |
| **T9** | … then revoke again | `EBUSY` | `ENODEV` | `ENODEV` |
| **T10** | … then move, with `MAY_MOVE` | `EBUSY` | `ENODEV` | `ENODEV` |
| **T11** | … then register another MR | PRESENT | `ENODEV` | `ENODEV` |
| **T12** | … then restore | `EINVAL` | REVOKED | REVOKED |
| **T13** | … then access | works | fails | fails |
| **T14** | … then register another MR | PRESENT | PRESENT | PRESENT |
| **T15** | the device goes | REVOKED | REVOKED | REVOKED |
| **T16** | … then access | fails | fails | fails |
| **T17** | … then register another MR | `ENODEV` | `ENODEV` | `ENODEV` |
| **T18** | dereg, after any of these | works | works | works |
)";

constexpr std::uint64_t SIZE = 64 * KIB;

/// The cells of each row of a table, without decoration.
std::vector<std::vector<std::string>> rows(std::string_view table) {
    std::vector<std::vector<std::string>> result;
    for (const auto line : std::views::split(table, '\n')) {
        std::vector<std::string> cells;
        for (const auto cell : std::views::split(line, '|')) {
            std::string text(std::string_view{cell});
            std::erase_if(text, [](char c) { return c == '*' || c == '`'; });
            const auto from = text.find_first_not_of(' ');
            if (from != std::string::npos)
                cells.push_back(text.substr(from, text.find_last_not_of(' ') - from + 1));
        }
        if (!cells.empty())
            result.push_back(cells);
    }
    return result;
}

/// One cell of the first table.
struct Cell {
    std::string rule;
    std::uint32_t caps;
    std::uint32_t asked; ///< enum pfn_mr_mode
    std::string outcome; ///< the mode agreed on, or an errno
};

constexpr std::array MODE_NAMES{"default", "PINNED", "REVOCABLE", "DYNAMIC"};
constexpr std::array STATE_NAMES{"ABSENT", "PRESENT", "REVOKED"};

bool is_mode(const std::string& outcome) {
    return std::ranges::find(MODE_NAMES, outcome) != MODE_NAMES.end();
}

std::vector<Cell> cells(bool agreed) {
    std::vector<Cell> result;
    for (const auto& row : rows(MODES)) {
        const auto has = [&](const char* cap) { return row.at(1).contains(cap); };
        const std::uint32_t caps = (has("pin") ? PFN_VRAM_CAP_PIN : 0) |
                                   (has("move") ? PFN_VRAM_CAP_MOVE : 0) |
                                   (has("revoke") ? PFN_VRAM_CAP_REVOKE : 0);
        for (std::uint32_t mode = 0; mode < MODE_NAMES.size(); ++mode) {
            if (is_mode(row.at(2 + mode)) == agreed)
                result.push_back({row.at(0), caps, mode, row.at(2 + mode)});
        }
    }
    return result;
}

void PrintTo(const Cell& cell, std::ostream* out) {
    *out << cell.rule << " asked for " << MODE_NAMES.at(cell.asked);
}

std::string cell_name(const testing::TestParamInfo<Cell>& info) {
    return info.param.rule + "_" + MODE_NAMES.at(info.param.asked);
}

/// What the second table says of an event and a mode.
std::string expected(const std::string& rule, const std::string& mode) {
    static constexpr std::array COLUMNS{"PINNED", "REVOCABLE", "DYNAMIC"};
    for (const auto& row : rows(EVENTS)) {
        if (row.at(0) == rule)
            return row.at(2 + (std::ranges::find(COLUMNS, mode) - COLUMNS.begin()));
    }
    throw std::logic_error("no rule " + rule);
}

/// The name of the errno that @p step fails with, or what @p otherwise says.
template<typename Step, typename Otherwise>
std::string outcome(Step step, Otherwise otherwise) {
    if (const int error = errno_of(step))
        return strerrorname_np(error);
    return otherwise();
}

/// A buffer and an MR on it that were registered as a cell says.
class Registered {
  public:
    Registered(const VramDevice& vram, const Pd& pd, Cell cell, std::uint32_t placement)
        : cell_(std::move(cell)), event_(::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)),
          buffer_(vram.alloc({.size = SIZE, .placement = placement, .caps = cell_.caps})),
          mr_(pd, cell_.asked, buffer_.fd(), 0, SIZE, 0, FULL_ACCESS, event_.get()) {}

    [[nodiscard]] const Cell& cell() const { return cell_; }
    [[nodiscard]] int fd() const { return buffer_.fd(); }
    [[nodiscard]] std::string mode() const { return MODE_NAMES.at(mr_.query().mode); }
    [[nodiscard]] std::string state() const { return STATE_NAMES.at(mr_.query().state); }
    [[nodiscard]] std::uint64_t faults() const { return mr_.query().faults; }
    [[nodiscard]] Remote remote() const { return {.address = 0, .rkey = mr_.rkey()}; }
    [[nodiscard]] ibv_sge sge(std::uint32_t length) const {
        return {.addr = 0, .length = length, .lkey = mr_.lkey()};
    }
    /// Times its eventfd was signalled so far.
    std::uint64_t told() {
        std::uint64_t count = 0;
        if (::read(event_.get(), &count, sizeof(count)) == sizeof(count))
            told_ += count;
        return told_;
    }
    void dereg() { mr_.dereg(); }

  private:
    Cell cell_;
    Fd event_;
    std::uint64_t told_ = 0;
    DmaBuf buffer_;
    ModeMr mr_;
};

/// Every event, and what came of it in the words of the tables.
class RulesTest : public RdmaTest {
  protected:
    [[nodiscard]] Registered make(const Cell& cell,
                                  std::uint32_t placement = PFN_VRAM_PLACEMENT_VRAM) const {
        return {vram, gpu.pd, cell, placement};
    }

    /// One packet from the peer, one to the peer.
    std::string access(const Registered& target) {
        constexpr std::uint32_t LENGTH = 3000;
        const auto faults = target.faults();
        fill_pattern(host.bytes(), ++seed);
        peer.qp.post_write(1, host.sge(0, LENGTH), target.remote());
        const auto remote = complete(peer);
        if (remote != IBV_WC_SUCCESS)
            reconnect();
        gpu.qp.post_write(2, target.sge(LENGTH), host.remote(SIZE / 2));
        const auto local = complete(gpu);
        if (local != IBV_WC_SUCCESS)
            reconnect();

        if (remote == IBV_WC_REM_ACCESS_ERR && local == IBV_WC_LOC_PROT_ERR)
            return "fails";
        if (remote != IBV_WC_SUCCESS || local != IBV_WC_SUCCESS)
            return std::string(ibv_wc_status_str(remote)) + ", " + ibv_wc_status_str(local);
        if (!has_pattern(host.bytes().subspan(SIZE / 2, LENGTH), seed))
            return "other data came back";
        switch (target.faults() - faults) {
        case 0:
            return "works";
        case 1:
            return "faults";
        default:
            return "faults more than once";
        }
    }

    std::string move(const Registered& target) {
        // To the same placement: a move all the same, and it works in any cell.
        return outcome([&] { vram.move(target.fd(), PFN_VRAM_PLACEMENT_VRAM); },
                       [&] { return target.state(); });
    }

    std::string revoke(const Registered& target) {
        return outcome([&] { vram.revoke(target.fd()); }, [&] { return target.state(); });
    }

    std::string restore(const Registered& target) {
        return outcome([&] { vram.restore(target.fd()); }, [&] { return target.state(); });
    }

    /// Register another MR in the same mode.
    std::string register_again(const Registered& target) {
        std::string state;
        return outcome(
            [&] {
                const ModeMr again(gpu.pd, target.cell().asked, target.fd(), 0, SIZE, 0);
                state = STATE_NAMES.at(again.query().state);
            },
            [&] { return state; });
    }

    static std::string dereg(Registered& target) {
        return outcome([&] { target.dereg(); }, [] { return "works"; });
    }

    static void expect(const std::string& rule, const Registered& target,
                       const std::string& observed) {
        EXPECT_EQ(expected(rule, target.cell().outcome), observed)
            << rule << ", " << target.cell().outcome;
    }

    /// T18. Nothing is left of the MR: it neither counts nor pins. I7: it has
    /// been told what there was to tell, once.
    void expect_dereg(Registered& target) const {
        EXPECT_EQ(target.state() == "REVOKED" ? 1U : 0U, target.told());
        expect("T18", target, dereg(target));
        EXPECT_LE(target.told(), 1U);
        const auto info = vram.buf_info(target.fd());
        EXPECT_EQ(0U, info.attachments);
        EXPECT_EQ(0U, info.flags & PFN_VRAM_BUF_PINNED);
    }

    HostMemory host{peer.pd, SIZE};
    std::uint64_t seed = 0;
};

// The first table.

class Refused : public RulesTest, public testing::WithParamInterface<Cell> {};

INSTANTIATE_TEST_SUITE_P(Table, Refused, testing::ValuesIn(cells(false)), cell_name);

// Rule: M3, M5, M7, I7, I8
TEST_P(Refused, RegisteringFailsAndNothingHasHappened) {
    const auto buffer = vram.alloc({.size = SIZE, .caps = GetParam().caps});
    const Fd event(::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC));
    try {
        const ModeMr mr(gpu.pd, GetParam().asked, buffer.fd(), 0, SIZE, 0, FULL_ACCESS,
                        event.get());
        ADD_FAILURE() << "it was not refused";
    } catch (const RegistrationError& e) {
        EXPECT_EQ(GetParam().outcome, strerrorname_np(e.code().value()));
        EXPECT_TRUE(e.reason().contains(MODE_NAMES.at(GetParam().asked))) << e.reason();
    }
    std::uint64_t count = 0;
    EXPECT_EQ(-1, ::read(event.get(), &count, sizeof(count))) << "told " << count << " times";
    const auto info = vram.buf_info(buffer.fd());
    EXPECT_EQ(0U, info.attachments);
    EXPECT_EQ(0U, info.flags);
}

class Agreed : public RulesTest, public testing::WithParamInterface<Cell> {
  protected:
    [[nodiscard]] static bool has(std::uint32_t cap) { return (GetParam().caps & cap) != 0; }

    Registered mr = make(GetParam());
};

INSTANTIATE_TEST_SUITE_P(Table, Agreed, testing::ValuesIn(cells(true)), cell_name);

// Rule: M1-M8, T1, T18
TEST_P(Agreed, Register) {
    EXPECT_EQ(GetParam().outcome, mr.mode());
    expect("T1", mr, mr.state());
    // Pinned as long as somebody counts on it (E1).
    const bool pinned = (vram.buf_info(mr.fd()).flags & PFN_VRAM_BUF_PINNED) != 0;
    EXPECT_EQ(GetParam().outcome != "DYNAMIC", pinned);
    expect_dereg(mr);
}

// Rule: T2, T18
TEST_P(Agreed, Access) {
    expect("T2", mr, access(mr));
    expect("T2", mr, access(mr));
    expect_dereg(mr);
}

// The second table.

// Rule: T3-T5, T18, E1, I7
TEST_P(Agreed, Move) {
    if (has(PFN_VRAM_CAP_MOVE)) {
        expect("T4", mr, move(mr));
        expect("T5", mr, access(mr));
        EXPECT_EQ("works", access(mr)); // a fault is for once
        expect("T4", mr, move(mr));     // and in the state it is now
        expect_dereg(mr);
        EXPECT_ERRNO(0, vram.move(mr.fd(), PFN_VRAM_PLACEMENT_SYSTEM));
    } else {
        expect("T3", mr, move(mr));
        EXPECT_EQ("works", access(mr));
        expect_dereg(mr);
        EXPECT_ERRNO(EOPNOTSUPP, vram.move(mr.fd(), PFN_VRAM_PLACEMENT_SYSTEM));
    }
}

// Rule: T6-T11, T18, E2, I7
TEST_P(Agreed, Revoke) {
    if (!has(PFN_VRAM_CAP_REVOKE)) {
        expect("T6", mr, revoke(mr));
        EXPECT_EQ("works", access(mr));
    } else {
        expect("T7", mr, revoke(mr));
        expect("T8", mr, access(mr));
        expect("T9", mr, revoke(mr));
        if (has(PFN_VRAM_CAP_MOVE))
            expect("T10", mr, move(mr));
        expect("T11", mr, register_again(mr));
    }
    expect_dereg(mr);
}

// Rule: T7, T12-T14, T18, E7, I7
TEST_P(Agreed, Restore) {
    if (!has(PFN_VRAM_CAP_REVOKE)) {
        EXPECT_EQ("EINVAL", restore(mr));
        return;
    }
    expect("T7", mr, revoke(mr));
    expect("T12", mr, restore(mr));
    expect("T13", mr, access(mr));
    expect("T14", mr, register_again(mr));
    expect_dereg(mr);
}

class Absent : public RulesTest {};

// Rule: T4, T7, T8, T18
TEST_F(Absent, RevokeOfWhatIsNotBorrowed) {
    for (const Cell& cell : cells(true)) {
        if (cell.outcome != "DYNAMIC" || !(cell.caps & PFN_VRAM_CAP_MOVE) ||
            !(cell.caps & PFN_VRAM_CAP_REVOKE))
            continue;
        Registered mr = make(cell);
        expect("T4", mr, move(mr));
        expect("T7", mr, revoke(mr));
        expect("T8", mr, access(mr));
        expect_dereg(mr);
    }
}

// The exporter's device goes: without a BAR there is none that could.

/// pfn_vram without its PCI device, which is given back at the end.
class Unbound {
  public:
    explicit Unbound(std::string device) : device_(std::move(device)) { write("unbind"); }
    ~Unbound() { write("bind"); }
    Unbound(const Unbound&) = delete;
    Unbound& operator=(const Unbound&) = delete;

  private:
    void write(const char* file) const {
        std::ofstream out(std::string("/sys/bus/pci/drivers/pfn_vram/") + file);
        EXPECT_TRUE(out << device_ << std::flush) << file << " " << device_;
    }
    std::string device_;
};

class Gone : public RulesTest {};

// Rule: T15-T18, E3, I7
TEST_F(Gone, EveryPromiseIsBroken) {
    const std::string device = vram.info().bus_name;
    if (device.empty())
        GTEST_SKIP() << "no PCI device to unplug";
    std::vector<Registered> mrs;
    for (const Cell& cell : cells(true)) {
        for (const auto placement : {PFN_VRAM_PLACEMENT_VRAM, PFN_VRAM_PLACEMENT_SYSTEM})
            mrs.push_back(make(cell, placement));
    }
    {
        const Unbound unbound(device);
        for (Registered& mr : mrs) {
            SCOPED_TRACE(testing::PrintToString(mr.cell()));
            expect("T15", mr, mr.state());
            EXPECT_EQ(1U, mr.told());
            expect("T16", mr, access(mr));
            expect("T17", mr, register_again(mr));
            EXPECT_EQ("ENODEV", restore(mr));
            expect("T18", mr, dereg(mr));
            EXPECT_EQ(1U, mr.told());
        }
    }
    const VramDevice again;
    const auto buffer = again.alloc({.size = SIZE});
    EXPECT_ERRNO(0, Mr::dmabuf(gpu.pd, buffer.fd(), 0, SIZE, 0));
}

// Rule: E5
TEST_F(Gone, MoveThatIsOvertakenIsARevoke) {
    const std::string device = vram.info().bus_name;
    if (device.empty())
        GTEST_SKIP() << "no PCI device to unplug";
    const ModuleParameter delay("pfn_vram/copy_delay_ms", "2000");
    const DeviceMemory memory(vram, gpu.pd, {.size = SIZE});
    fill_pattern(memory.bytes(), 1);
    fill_pattern(host.bytes(), 2);
    vram.move(memory.buffer.fd(), PFN_VRAM_PLACEMENT_SYSTEM, 0, PFN_VRAM_MOVE_ASYNC);
    peer.qp.post_read(1, host.sge(0, SIZE), memory.remote()); // waits for the move's fence
    const Unbound unbound(device);
    EXPECT_EQ(IBV_WC_REM_ACCESS_ERR, complete(peer));
    EXPECT_TRUE(has_pattern(host.bytes(), 2)) << "bytes of a move that did not happen";
    EXPECT_EQ(PFN_MR_STATE_REVOKED, query_mr(memory.mr).state);
    reconnect();
}

} // namespace
} // namespace pfn
