# SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
#
# mpich_FOUND and openmpi_FOUND: is that MPI there to be built with?
pkg_check_modules(mpich QUIET IMPORTED_TARGET mpich)
pkg_check_modules(openmpi QUIET IMPORTED_TARGET ompi-c)

# umem_pfn_mpi_program(NAME MPI SOURCE...): links with what the MPI's pkg-config file
# says; its compiler wrapper adds nothing to that.
function(umem_pfn_mpi_program name mpi)
  add_executable(${name} ${ARGN})
  # mpi.h's C++ interface, which MPI has given up.
  target_compile_definitions(${name} PRIVATE MPICH_SKIP_MPICXX)
  target_link_libraries(${name} PRIVATE pfn_common PkgConfig::${mpi})
endfunction()
