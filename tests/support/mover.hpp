// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
#pragma once

#include "common/vram.hpp"

#include <gtest/gtest.h>

#include <atomic>
#include <cstdint>
#include <exception>
#include <stdexcept>
#include <string>
#include <thread>

namespace pfn {

/// Moves a buffer to and fro, in all layouts, from its birth to its death.
class Mover {
  public:
    /// @p vram and the buffer must outlive it; @p flags of enum pfn_vram_move_flags.
    Mover(const VramDevice& vram, int dmabuf_fd, std::uint32_t flags = 0)
        : thread_([this, &vram, dmabuf_fd, flags](const std::stop_token& stop) {
              try {
                  for (unsigned i = 0; !stop.stop_requested(); ++i) {
                      vram.move(dmabuf_fd,
                                i % 2 ? PFN_VRAM_PLACEMENT_VRAM : PFN_VRAM_PLACEMENT_SYSTEM,
                                i % 3 ? 0 : page_size(), flags);
                      moves_.fetch_add(1);
                  }
              } catch (const std::exception& e) {
                  error_ = e.what();
                  failed_ = true;
              }
          }) {}

    /// Moves so far. Fails the test if a move has failed: no more will come.
    [[nodiscard]] unsigned moves() const {
        if (failed_)
            throw std::runtime_error("a move failed: " + error_);
        return moves_.load();
    }

    /// Stop, and fail the test if a move has failed.
    void stop() {
        thread_.request_stop();
        thread_.join();
        EXPECT_EQ("", error_);
        EXPECT_GT(moves_.load(), 0U);
    }

  private:
    std::atomic<unsigned> moves_{0};
    std::string error_;
    std::atomic<bool> failed_{false};
    std::jthread thread_;
};

} // namespace pfn
