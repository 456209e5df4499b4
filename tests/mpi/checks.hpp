// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
//
// What is tried, a function a subject. All are collective: both ranks call them.
#pragma once

#include "mpi/world.hpp"

namespace pfn::mpi {

/// Messages of all sizes, from and to buffers of all kinds.
void point_to_point(World& world, const VramDevice& vram);
/// Which bytes went by RDMA from and to the buffers themselves.
void zero_copy(World& world, const VramDevice& vram);
/// Broadcast, all-reduce, all-to-all.
void collectives(World& world, const VramDevice& vram);
/// Data with holes.
void datatypes(World& world, const VramDevice& vram);
/// Windows on device memory.
void one_sided(World& world, const VramDevice& vram);
/// Another buffer at the same address, by all means that the library is told of.
void reuse(World& world, const VramDevice& vram);
/// The same, by means that it is not told of.
void unseen_reuse(World& world, const VramDevice& vram);
/// The exporter takes back a buffer that nobody uses any more: nothing happens to others,
/// and when it has memory again and is mapped anew, nothing is wrong with it either.
void revoked_idle(World& world, const VramDevice& vram);
/// MPI returns errors from now on, if it can.
void errors_return(World& world, const VramDevice& vram);
/// The exporter takes back what rank 0 sends from ...
void revoked_source(World& world, const VramDevice& vram);
/// ... what rank 1 receives into ...
void revoked_target(World& world, const VramDevice& vram);
/// ... and what the CPU copies from.
void revoked_small(World& world, const VramDevice& vram);

} // namespace pfn::mpi
