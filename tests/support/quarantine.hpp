// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
//
// What pfn_vram has found out with poison_old (pfn_vram_quarantine.c).
#pragma once

#include <cstdint>
#include <fstream>
#include <stdexcept>
#include <string>

namespace pfn {

/// What the exporter has found so far. A move that has returned is counted.
struct QuarantineFindings {
    std::uint64_t checked = 0; ///< moves
    std::uint64_t touched = 0; ///< of them, those whose old memory was

    /// Throws if the counters cannot be read.
    static QuarantineFindings now() {
        std::ifstream file("/sys/kernel/debug/pfn_vram/quarantine");
        QuarantineFindings all;
        std::string word[2];
        if (!(file >> word[0] >> all.checked >> word[1] >> all.touched) || word[0] != "checked" ||
            word[1] != "touched")
            throw std::runtime_error("cannot read the quarantine's counters");
        return all;
    }
};

} // namespace pfn
