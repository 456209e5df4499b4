// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
#pragma once

#include "common/vram.hpp"

#include <atomic>
#include <chrono>
#include <exception>
#include <stdexcept>
#include <string>
#include <thread>

namespace pfn {

/// What a GPU's driver does when its memory is short: moves a buffer out to system memory
/// and in again, from this object's birth to its death.
class Evictor {
  public:
    /// @p device and the buffer have to outlive it. @p pause: after each move.
    Evictor(const VramDevice& device, int dmabuf,
            std::chrono::milliseconds pause = std::chrono::milliseconds(0))
        : thread_([this, &device, dmabuf, pause](const std::stop_token& stop) {
              try {
                  for (unsigned i = 0; !stop.stop_requested(); ++i) {
                      device.move(dmabuf,
                                  i % 2 == 0 ? PFN_VRAM_PLACEMENT_SYSTEM : PFN_VRAM_PLACEMENT_VRAM);
                      ++moves_;
                      std::this_thread::sleep_for(pause);
                  }
              } catch (const std::exception& e) {
                  error_ = e.what();
                  failed_ = true;
              }
          }) {}

    /// Moves so far. Throws if one has failed: there will be no more.
    [[nodiscard]] unsigned moves() const {
        if (failed_)
            throw std::runtime_error("a move has failed: " + error_);
        return moves_;
    }

    /// Wait until there have been more moves than @p than.
    void wait_for_more(unsigned than) const {
        while (moves() <= than)
            std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }

  private:
    std::atomic<unsigned> moves_ = 0;
    std::string error_;
    std::atomic<bool> failed_ = false;
    std::jthread thread_; // last: it ends before what it uses goes
};

} // namespace pfn
