// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
//
// Which mappings ibv_reg_mr() takes for a dma-buf, and what it says of the others:
// parts of buffers, rights, several mappings, private ones; and that ordinary memory
// is what it has always been.
#include "support/modules.hpp"
#include "support/rdma_test.hpp"
#include "support/vivid.hpp"

#include <sys/mman.h>
#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <fstream>
#include <string>
#include <thread>
#include <tuple>

namespace pfn {
namespace {

constexpr const char* SWITCH = "rdma_rxe/transparent_dmabuf";
constexpr std::uint64_t PAGES = 8;

std::uint64_t inode(const DmaBuf& buffer) {
    struct stat st{};
    if (::fstat(buffer.fd(), &st) < 0)
        throw_errno("fstat");
    return st.st_ino;
}

class VmaTest : public RdmaTest {
  protected:
    /// errno of registering @p length bytes at @p at, 0 if it works.
    [[nodiscard]] int reg_errno(const std::byte* at, std::uint64_t length,
                                unsigned access = FULL_ACCESS) const {
        return errno_of(
            [&] { (void)Mr::host(gpu.pd, {const_cast<std::byte*>(at), length}, access); });
    }
    /// Is it an MR of ordinary memory?
    static bool ordinary(const Mr& mr) {
        return errno_of([&] { (void)query_mr(mr); }) == EOPNOTSUPP;
    }
    static void protect(std::byte* at, std::uint64_t length, int prot) {
        if (::mprotect(at, length, prot) < 0)
            throw_errno("mprotect");
    }
    /// Map pages of @p buffer at a place of one's choice.
    void map_at(std::byte* at, const DmaBuf& buffer, std::uint64_t first, std::uint64_t pages,
                int prot = PROT_READ | PROT_WRITE) const {
        if (::mmap(at, pages * page, prot, MAP_SHARED | MAP_FIXED, buffer.fd(),
                   static_cast<off_t>(first * page)) == MAP_FAILED)
            throw_errno("mmap at a fixed place");
    }
    /// A peer's write of all of @p memory arrives there.
    void expect_works(const Mr& mr, std::span<std::byte> memory, std::uint64_t seed) {
        fill_pattern(host.bytes().first(memory.size()), seed);
        write(host.sge(0, memory.size()),
              {.address = reinterpret_cast<std::uint64_t>(memory.data()), .rkey = mr.rkey()});
        EXPECT_TRUE(has_pattern(memory, seed));
    }

    std::uint64_t page = page_size();
    std::uint64_t size = PAGES * page;
    HostMemory host{peer.pd, 64 * page};
};

class Vma : public VmaTest, public testing::WithParamInterface<BufferCase> {
  protected:
    [[nodiscard]] DmaBuf alloc() const {
        if (GetParam().foreign())
            return foreign_buffer(GetParam().exporter, size);
        return vram.alloc({.size = size,
                           .chunk = GetParam().fragmented ? page : 0,
                           .placement = GetParam().placement});
    }
    /// Which part of the buffer is mapped is known only if it is all of it.
    [[nodiscard]] bool numbers_pages_itself() const {
        return GetParam().exporter == Exporter::VGEM;
    }
    [[nodiscard]] std::byte* at(std::uint64_t n) const { return cpu.bytes().data() + n * page; }

    DmaBuf buffer = alloc();
    Mapping cpu = buffer.map();
};

INSTANTIATE_TEST_SUITE_P(Buffers, Vma, testing::ValuesIn(BUFFER_CASES), case_name);
INSTANTIATE_TEST_SUITE_P(Foreign, Vma, testing::ValuesIn(FOREIGN_CASES), case_name);

// Rule: V5
TEST_P(Vma, ThatShowsAPartOfTheBuffer) {
    for (const auto& [first, pages] : {std::pair{0U, 1U}, {0U, 3U}, {2U, 3U}, {7U, 1U}}) {
        SCOPED_TRACE(std::to_string(pages) + " pages from " + std::to_string(first));
        const Mapping part(buffer.fd(), pages * page, Mapping::PROT_DEFAULT, Mapping::SHARED,
                           first * page);
        if (numbers_pages_itself()) {
            EXPECT_EQ(Errno{EOPNOTSUPP}, Errno{reg_errno(part.bytes().data(), pages * page)});
            continue;
        }
        const auto inside = part.bytes().subspan(10, pages * page - 20);
        const Mr mr = Mr::host(gpu.pd, inside);
        EXPECT_EQ(first * page + 10, query_mr(mr).offset);
        expect_works(mr, inside, first);
        EXPECT_TRUE(has_pattern(cpu.bytes().subspan(first * page + 10, inside.size()), first));
    }
}

// Rule: V2
TEST_P(Vma, RangeThatGoesOnInAnotherMappingOfTheBuffer) {
    const Mapping place = Mapping::anonymous(size);
    map_at(place.bytes().data(), buffer, 0, PAGES / 2);
    map_at(place.bytes().data() + size / 2, buffer, PAGES / 2, PAGES / 2);
    EXPECT_EQ(Errno{EINVAL}, Errno{reg_errno(place.bytes().data(), size)});
    EXPECT_EQ(Errno{EINVAL}, Errno{reg_errno(place.bytes().data() + size / 2 - 1, 2)});
    EXPECT_EQ(Errno{EINVAL}, Errno{reg_errno(place.bytes().data(), size / 2 + 1)});
}

// Rule: V2
TEST_P(Vma, ThatWasSplitByMprotect) {
    protect(at(3), page, PROT_READ);
    EXPECT_EQ(Errno{EINVAL}, Errno{reg_errno(at(0), size)});
    EXPECT_EQ(Errno{EINVAL}, Errno{reg_errno(at(0), size, IBV_ACCESS_REMOTE_READ)});
    EXPECT_EQ(Errno{EINVAL}, Errno{reg_errno(at(2), 2 * page)});
    EXPECT_EQ(Errno{EACCES}, Errno{reg_errno(at(3), page)});
    const Errno part{numbers_pages_itself() ? EOPNOTSUPP : 0};
    EXPECT_EQ(part, Errno{reg_errno(at(3), page, IBV_ACCESS_REMOTE_READ)});
    EXPECT_EQ(part, Errno{reg_errno(at(0), 3 * page)});
    EXPECT_EQ(part, Errno{reg_errno(at(4), 4 * page)});
    if (part == Errno{0}) {
        const Mr mr = Mr::host(gpu.pd, cpu.bytes().subspan(4 * page));
        EXPECT_EQ(4 * page, query_mr(mr).offset);
        expect_works(mr, cpu.bytes().subspan(4 * page), 1);
    }
}

// Rule: V2
TEST_P(Vma, RangeWithAHole) {
    ASSERT_EQ(0, ::munmap(at(3), page));
    EXPECT_EQ(Errno{EINVAL}, Errno{reg_errno(at(0), size)});
    EXPECT_EQ(Errno{EINVAL}, Errno{reg_errno(at(2), page + 1)});
    EXPECT_EQ(Errno{EFAULT}, Errno{reg_errno(at(3), page)}); // nothing is there
    EXPECT_EQ(Errno{EFAULT}, Errno{reg_errno(at(3), 2 * page)});
}

// Rule: V2
TEST_P(Vma, RangeThatGoesOnInOrdinaryMemory) {
    const Mapping place = Mapping::anonymous(size + 2 * page);
    std::byte* const begin = place.bytes().data();
    map_at(begin + page, buffer, 0, PAGES);
    EXPECT_EQ(Errno{EINVAL}, Errno{reg_errno(begin + page, size + 1)});
    // Whoever begins there is ordinary memory's, which cannot pin the rest.
    EXPECT_EQ(Errno{EFAULT}, Errno{reg_errno(begin, 2 * page)});
    EXPECT_EQ(Errno{0}, Errno{reg_errno(begin, page)});
    EXPECT_EQ(Errno{0}, Errno{reg_errno(begin + page, size)});
}

// Rule: V3
TEST_P(Vma, ThatIsReadOnly) {
    const Mapping readonly(buffer.fd(), size, PROT_READ);
    const std::byte* const begin = readonly.bytes().data();
    for (const unsigned access : {FULL_ACCESS, unsigned{IBV_ACCESS_LOCAL_WRITE},
                                  unsigned{IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_WRITE},
                                  unsigned{IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_ATOMIC}}) {
        EXPECT_EQ(Errno{EACCES}, Errno{reg_errno(begin, size, access)}) << access;
    }
    EXPECT_EQ(Errno{0}, Errno{reg_errno(begin, size, 0)});

    const Mr mr = Mr::host(gpu.pd, readonly.bytes(), IBV_ACCESS_REMOTE_READ);
    fill_pattern(cpu.bytes(), 1);
    read(host.sge(0, size), {.address = readonly.address(), .rkey = mr.rkey()});
    EXPECT_TRUE(has_pattern(host.bytes().first(size), 1));
}

// Rule: V3
TEST_P(Vma, ThatIsReadOnlyGivesNoMoreLater) {
    const Mapping readonly(buffer.fd(), size, PROT_READ);
    const Mr mr = Mr::host(gpu.pd, readonly.bytes(), IBV_ACCESS_REMOTE_READ);
    EXPECT_ERRNO(EACCES, mr.rereg(IBV_REREG_MR_CHANGE_ACCESS, nullptr, FULL_ACCESS));
    EXPECT_ERRNO(0, mr.rereg(IBV_REREG_MR_CHANGE_ACCESS, nullptr, 0));
    // The descriptor would allow it, and a mapping that may be written to does.
    const Mr other = Mr::host(gpu.pd, cpu.bytes(), IBV_ACCESS_REMOTE_READ);
    EXPECT_ERRNO(0, other.rereg(IBV_REREG_MR_CHANGE_ACCESS, nullptr, FULL_ACCESS));
}

// Rule: V3
TEST_P(Vma, ThatNobodyMayAccess) {
    protect(at(0), size, PROT_NONE);
    EXPECT_EQ(Errno{EACCES}, Errno{reg_errno(at(0), size, 0)});
    protect(at(0), size, PROT_READ | PROT_WRITE);
    EXPECT_EQ(Errno{0}, Errno{reg_errno(at(0), size)});
}

// Rule: V3
TEST_P(Vma, MayLoseItsRightsWhenTheMrHasThem) {
    const Mapping other = buffer.map();
    const Mr mr = Mr::host(gpu.pd, cpu.bytes());
    protect(at(0), size, PROT_NONE);
    fill_pattern(host.bytes().first(size), 2);
    write(host.sge(0, size), {.address = cpu.address(), .rkey = mr.rkey()});
    EXPECT_TRUE(has_pattern(other.bytes(), 2));
}

// Rule: V1
TEST_P(Vma, IsNothingToAnMrThatPagesOnDemand) {
    const Mr mr = Mr::host(gpu.pd, cpu.bytes(), FULL_ACCESS | IBV_ACCESS_ON_DEMAND);
    EXPECT_TRUE(ordinary(mr));
    peer.qp.post_write(1, host.sge(0, 8), {.address = cpu.address(), .rkey = mr.rkey()});
    EXPECT_EQ(IBV_WC_REM_ACCESS_ERR, complete(peer)) << "nothing there can be paged";
    reconnect();
    // It is of addresses: whatever is there at the time.
    ASSERT_EQ(at(0), ::mmap(at(0), size, PROT_READ | PROT_WRITE,
                            MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0));
    std::ranges::fill(cpu.bytes(), std::byte{0}); // it shall be mapped
    expect_works(mr, cpu.bytes(), 3);
}

// Rule: V7
TEST_P(Vma, IsNotLookedAtIfSwitchedOff) {
    const Mr before = Mr::host(gpu.pd, cpu.bytes());
    {
        const ModuleParameter off(SWITCH, "0");
        EXPECT_EQ(Errno{EFAULT}, Errno{reg_errno(at(0), size)});
        EXPECT_EQ(Errno{EFAULT}, Errno{reg_errno(at(0), size, 0)});
        EXPECT_ERRNO(0, Mr::dmabuf(gpu.pd, buffer.fd(), 0, size, 0));
        expect_works(before, cpu.bytes(), 4);
    }
    EXPECT_EQ(Errno{0}, Errno{reg_errno(at(0), size)});
}

class VmaOfVram : public VmaTest {};

// A shared mapping of what is open for reading only has no VM_SHARED.
// Rule: V3
TEST_F(VmaOfVram, OfAReadOnlyDmaBuf) {
    const DmaBuf buffer = vram.alloc({.size = size, .fd_flags = O_RDONLY | O_CLOEXEC});
    const Mapping cpu(buffer.fd(), size, PROT_READ);
    EXPECT_EQ(Errno{EACCES}, Errno{reg_errno(cpu.bytes().data(), size)});
    const Mr mr = Mr::host(gpu.pd, cpu.bytes(), IBV_ACCESS_REMOTE_READ);
    EXPECT_EQ(inode(buffer), query_mr(mr).dmabuf_ino);
    EXPECT_ERRNO(EACCES, mr.rereg(IBV_REREG_MR_CHANGE_ACCESS, nullptr, FULL_ACCESS));
    read(host.sge(0, size), {.address = cpu.address(), .rkey = mr.rkey()});
    EXPECT_TRUE(all_zero(host.bytes().first(size)));
}

/// Buffers of a camera: shown by pages that can be pinned. What has always been
/// possible with these must go on.
class VmaOfPages : public VmaTest {
  protected:
    void SetUp() override {
        VmaTest::SetUp();
        if (!load_vivid())
            GTEST_SKIP() << "this kernel has no vivid";
        buffer = camera_buffer(VMALLOC_CAMERA);
        cpu = buffer.map();
        bytes = cpu.bytes().first(std::min<std::uint64_t>(cpu.bytes().size(), 64 * page));
    }

    DmaBuf buffer;
    Mapping cpu;
    std::span<std::byte> bytes;
};

// Rule: V1
TEST_F(VmaOfPages, SharedIsTheDmaBuf) {
    const Mr mr = Mr::host(gpu.pd, bytes);
    EXPECT_EQ(PFN_MR_BACKEND_VMAP, query_mr(mr).backend);
    EXPECT_EQ(inode(buffer), query_mr(mr).dmabuf_ino);
    expect_works(mr, bytes, 1);
}

// Rule: V1
TEST_F(VmaOfPages, PrivateIsNot) {
    const Mapping copy(buffer.fd(), cpu.bytes().size(), Mapping::PROT_DEFAULT, MAP_PRIVATE);
    const auto mine = copy.bytes().first(bytes.size());
    fill_pattern(bytes, 2);
    const Mr mr = Mr::host(gpu.pd, mine);
    EXPECT_TRUE(ordinary(mr));
    expect_works(mr, mine, 3);
    EXPECT_TRUE(has_pattern(bytes, 2)) << "the copy was written to the original";
}

// Rule: V6
TEST_F(VmaOfPages, SeveralOfThemArePinnedAsEver) {
    protect(bytes.data() + page, page, PROT_READ);
    protect(bytes.data() + page, page, PROT_READ | PROT_WRITE); // stays a mapping of its own
    const Mr mr = Mr::host(gpu.pd, bytes);
    EXPECT_TRUE(ordinary(mr));
    expect_works(mr, bytes, 4);
}

// videobuf2 shows the beginning of the buffer whatever offset mmap(2) is given.
// Rule: V6
TEST_F(VmaOfPages, WhatTheMappingShowsIsWhatIsRegistered) {
    const Mapping part(buffer.fd(), 2 * page, Mapping::PROT_DEFAULT, Mapping::SHARED, 3 * page);
    const Mr mr = Mr::host(gpu.pd, part.bytes());
    expect_works(mr, part.bytes(), 5);
    EXPECT_TRUE(has_pattern(bytes.first(2 * page), 5));
}

// Rule: V6
TEST_F(VmaOfPages, ReadOnlyIsEFAULTAsEver) {
    const Mapping readonly(buffer.fd(), cpu.bytes().size(), PROT_READ);
    EXPECT_EQ(Errno{EFAULT}, Errno{reg_errno(readonly.bytes().data(), page)});
    EXPECT_EQ(Errno{0}, Errno{reg_errno(readonly.bytes().data(), page, IBV_ACCESS_REMOTE_READ)});
}

/// Ordinary memory, with the switch on and off: there must be no difference.
class Ordinary : public VmaTest, public testing::WithParamInterface<bool> {
  protected:
    static Fd memfd(std::uint64_t length, unsigned flags = 0) {
        Fd fd(::memfd_create("ordinary", MFD_CLOEXEC | flags));
        if (!fd || ::ftruncate(fd.get(), static_cast<off_t>(length)) < 0)
            throw_errno("memfd");
        return fd;
    }
    void expect_ordinary(std::span<std::byte> memory, unsigned access = FULL_ACCESS) {
        const Mr mr = Mr::host(gpu.pd, memory, access);
        EXPECT_TRUE(ordinary(mr));
        expect_works(mr, memory, 6);
    }

    ModuleParameter state{SWITCH, GetParam() ? "1" : "0"};
};

INSTANTIATE_TEST_SUITE_P(Switch, Ordinary, testing::Bool(),
                         [](const auto& test) { return test.param ? "On" : "Off"; });

TEST_P(Ordinary, Anonymous) {
    const Mapping memory = Mapping::anonymous(size);
    expect_ordinary(memory.bytes());
    expect_ordinary(memory.bytes().subspan(5, page + 8));
    expect_ordinary(memory.bytes(), FULL_ACCESS | IBV_ACCESS_ON_DEMAND);
}

TEST_P(Ordinary, Heap) {
    std::vector<std::byte> memory(3 * page);
    expect_ordinary(memory);
}

TEST_P(Ordinary, SharedAnonymous) {
    const Mapping memory(-1, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS);
    expect_ordinary(memory.bytes());
}

TEST_P(Ordinary, FileSharedAndPrivate) {
    const Fd file = memfd(size);
    const Mapping shared(file.get(), size);
    expect_ordinary(shared.bytes());
    const Mapping copy(file.get(), size, PROT_READ | PROT_WRITE, MAP_PRIVATE);
    expect_ordinary(copy.bytes());
    expect_ordinary(shared.bytes(), FULL_ACCESS | IBV_ACCESS_ON_DEMAND);
    const Mapping readonly(file.get(), size, PROT_READ);
    EXPECT_EQ(Errno{EFAULT}, Errno{reg_errno(readonly.bytes().data(), size)});
    EXPECT_TRUE(ordinary(Mr::host(gpu.pd, readonly.bytes(), IBV_ACCESS_REMOTE_READ)));
}

TEST_P(Ordinary, HugePages) {
    (void)foreign_buffer(Exporter::UDMABUF_HUGE, page); // sees to it that there are some
    constexpr std::uint64_t HUGE = 2 * MIB;
    const Fd file = memfd(HUGE, MFD_HUGETLB);
    const Mapping memory(file.get(), HUGE);
    expect_ordinary(memory.bytes().first(64 * page));
}

TEST_P(Ordinary, SeveralMappings) {
    const Mapping memory = Mapping::anonymous(size);
    const Fd file = memfd(page);
    ASSERT_NE(MAP_FAILED, ::mmap(memory.bytes().data() + page, page, PROT_READ | PROT_WRITE,
                                 MAP_SHARED | MAP_FIXED, file.get(), 0));
    expect_ordinary(memory.bytes());
}

TEST_P(Ordinary, WhatCannotBeRegistered) {
    const Mapping memory = Mapping::anonymous(size);
    std::byte* const begin = memory.bytes().data();
    EXPECT_EQ(Errno{EINVAL}, Errno{reg_errno(begin, 0)});
    protect(begin, page, PROT_READ);
    EXPECT_EQ(Errno{EFAULT}, Errno{reg_errno(begin, size)});
    protect(begin, page, PROT_NONE);
    EXPECT_EQ(Errno{EFAULT}, Errno{reg_errno(begin, size, 0)});
    ASSERT_EQ(0, ::munmap(begin + page, page));
    EXPECT_EQ(Errno{EFAULT}, Errno{reg_errno(begin + page, page)});
    EXPECT_EQ(Errno{EFAULT}, Errno{reg_errno(nullptr, page)});
}

// rxe has no such thing: EINVAL in 7.2, EOPNOTSUPP in 7.3.
TEST_P(Ordinary, ImplicitPagingOnDemandIsRefused) {
    auto* const raw = ibv_reg_mr(gpu.pd.get(), nullptr, SIZE_MAX, IBV_ACCESS_ON_DEMAND);
    EXPECT_EQ(nullptr, raw);
    EXPECT_TRUE(errno == EINVAL || errno == EOPNOTSUPP) << strerrorname_np(errno);
}

/// Threads that change the mappings at one place while it is registered.
class VmaRace : public VmaTest {
  protected:
    /// Runs @p step over and over until the end of the scope.
    class Loop {
      public:
        template<typename Step>
        explicit Loop(Step step)
            : thread_([this, step](const std::stop_token& stop) {
                  try {
                      while (!stop.stop_requested())
                          step();
                  } catch (const std::exception& e) {
                      error_ = e.what();
                  }
              }) {}
        ~Loop() {
            thread_.request_stop();
            thread_.join();
            EXPECT_EQ("", error_);
        }
        Loop(const Loop&) = delete;
        Loop& operator=(const Loop&) = delete;

      private:
        std::string error_;
        std::jthread thread_;
    };

    /// Take away what is mapped there, but keep the place: this process's own memory
    /// could be put into a hole.
    static void unmap_at(std::byte* at, std::uint64_t length) {
        if (::mmap(at, length, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) ==
            MAP_FAILED)
            throw_errno("mmap of nothing");
    }

    Mapping place = Mapping::anonymous(size);
    std::byte* begin = place.bytes().data();
};

// Rule: V1
TEST_F(VmaRace, WhatIsRegisteredIsOneOfThoseThatWereThere) {
    const DmaBuf one = vram.alloc({.size = size});
    const DmaBuf two = foreign_buffer(Exporter::SYSTEM_HEAP, 2 * size);
    map_at(begin, one, 0, PAGES); // ordinary memory until here
    const Loop mapper([&] {
        map_at(begin, one, 0, PAGES);
        map_at(begin, two, 1, PAGES);
    });
    const Loop splitter([&] {
        // Whatever is there at the moment, one page is in the way now and then.
        (void)::mprotect(begin + page, page, PROT_READ);
        unmap_at(begin + 2 * page, page);
    });

    unsigned ones = 0;
    unsigned twos = 0;
    unsigned refused = 0;
    const auto deadline = std::chrono::steady_clock::now() + PATIENCE;
    while ((ones < 10 || twos < 10 || refused < 10) &&
           std::chrono::steady_clock::now() < deadline) {
        try {
            const Mr mr = Mr::host(gpu.pd, place.bytes());
            const auto info = query_mr(mr);
            const bool first = info.dmabuf_ino == inode(one);
            EXPECT_EQ(first ? inode(one) : inode(two), info.dmabuf_ino);
            EXPECT_EQ(first ? 0 : page, info.offset);
            EXPECT_EQ(first ? PFN_MR_BACKEND_PFN : PFN_MR_BACKEND_VMAP, info.backend);
            ++(first ? ones : twos);
        } catch (const std::system_error& e) {
            const int error = e.code().value();
            EXPECT_TRUE(error == EINVAL || error == EFAULT) << strerrorname_np(error);
            ++refused;
        }
    }
    EXPECT_GE(ones, 10U);
    EXPECT_GE(twos, 10U);
    EXPECT_GE(refused, 10U);
}

TEST_F(VmaRace, DescriptorAndMappingGoWhileItIsRegistered) {
    std::atomic<unsigned> rounds{0};
    unmap_at(begin, size); // ordinary memory until here
    const Loop mapper([&] {
        const DmaBuf buffer = vram.alloc({.size = size});
        map_at(begin, buffer, 0, PAGES);
        std::this_thread::yield();
        // Then the mapping is all that holds the buffer.
    });
    const Loop unmapper([&] {
        unmap_at(begin, size);
        rounds.fetch_add(1);
    });
    unsigned registered = 0;
    const auto deadline = std::chrono::steady_clock::now() + PATIENCE;
    while ((registered < 20 || rounds.load() < 20) && std::chrono::steady_clock::now() < deadline) {
        try {
            const Mr mr = Mr::host(gpu.pd, place.bytes());
            fill_pattern(host.bytes().first(size), registered);
            write(host.sge(0, size), {.address = place.address(), .rkey = mr.rkey()});
            ++registered;
        } catch (const std::system_error& e) {
            EXPECT_EQ(Errno{EFAULT}, Errno{e.code().value()});
        }
    }
    EXPECT_GE(registered, 20U);
    EXPECT_GE(rounds.load(), 20U);
}

} // namespace
} // namespace pfn
