// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
#include "movable.hpp"

#include "record.hpp"

#include "common/error.hpp"

#include <sys/mman.h>

#include <cstring>

namespace pfn::perf {
namespace {

class Dmabuf : public Movable {
  public:
    /// Moves within RAM, or from RAM to @p where.
    Dmabuf(std::string name, const VramDevice& vram, std::uint64_t size, std::uint64_t chunk,
           std::uint32_t where = PFN_VRAM_PLACEMENT_SYSTEM)
        : Movable(std::move(name)), vram_(vram), chunk_(chunk), where_(where),
          buffer_(
              vram.alloc({.size = size, .chunk = chunk, .placement = PFN_VRAM_PLACEMENT_SYSTEM})) {}

    [[nodiscard]] Mr make_mr(const Pd& pd) const override {
        return Mr::dmabuf(pd, buffer_.fd(), 0, buffer_.size(), 0);
    }
    [[nodiscard]] std::uint64_t iova() const override { return 0; }
    void prepare() override {
        if (where_ != PFN_VRAM_PLACEMENT_SYSTEM)
            vram_.move(buffer_.fd(), PFN_VRAM_PLACEMENT_SYSTEM, chunk_);
    }
    double take() override {
        const auto move = vram_.move(buffer_.fd(), where_, chunk_, PFN_VRAM_MOVE_ASYNC);
        return static_cast<double>(move.quiesce_ns) / 1e3;
    }
    void settle() override { buffer_.wait_idle(PATIENCE); }

  private:
    const VramDevice& vram_;
    std::uint64_t chunk_;
    std::uint32_t where_;
    DmaBuf buffer_;
};

/// Pages of this process, of 4 KiB so that huge ones don't come and go.
class Paged : public Movable {
  public:
    Paged(std::string name, std::uint64_t size) : Movable(std::move(name)), memory_(pages(size)) {}

    [[nodiscard]] Mr make_mr(const Pd& pd) const override {
        return Mr::host(pd, memory_.bytes(), FULL_ACCESS | IBV_ACCESS_ON_DEMAND);
    }
    [[nodiscard]] std::uint64_t iova() const override { return memory_.address(); }

  protected:
    static Mapping pages(std::uint64_t size) {
        Mapping memory = Mapping::anonymous(size);
        ::madvise(memory.bytes().data(), size, MADV_NOHUGEPAGE); // there may be none anyway
        std::memset(memory.bytes().data(), 1, size);
        return memory;
    }
    [[nodiscard]] void* start() const { return memory_.bytes().data(); }
    [[nodiscard]] std::size_t size() const { return memory_.bytes().size(); }

  private:
    Mapping memory_;
};

class DontNeed : public Paged {
  public:
    explicit DontNeed(std::uint64_t size) : Paged("odp-dontneed", size) {}
    double take() override {
        return time_us([this] {
            if (::madvise(start(), size(), MADV_DONTNEED))
                throw_errno("madvise");
        });
    }
};

class Remap : public Paged {
  public:
    explicit Remap(std::uint64_t size) : Paged("odp-remap", size), next_(pages(size)) {}
    void prepare() override { std::memset(next_.bytes().data(), 1, size()); }
    double take() override {
        return time_us([this] {
            // The mapping there stays, without its pages.
            constexpr int FLAGS = MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP;
            if (::mremap(next_.bytes().data(), size(), size(), FLAGS, start()) == MAP_FAILED)
                throw_errno("mremap");
        });
    }

  private:
    Mapping next_;
};

} // namespace

std::vector<std::unique_ptr<Movable>> all_movable(const VramDevice& vram, std::uint64_t size) {
    std::vector<std::unique_ptr<Movable>> all;
    all.push_back(std::make_unique<Dmabuf>("pfn", vram, size, 0));
    all.push_back(std::make_unique<Dmabuf>("pfn-pages", vram, size, page_size()));
    if (vram.info().backend == PFN_VRAM_BACKEND_BAR)
        all.push_back(std::make_unique<Dmabuf>("pfn-bar", vram, size, 0, PFN_VRAM_PLACEMENT_VRAM));
    all.push_back(std::make_unique<Remap>(size));
    all.push_back(std::make_unique<DontNeed>(size));
    return all;
}

} // namespace pfn::perf
