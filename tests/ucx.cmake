# SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
#
# UCX on device memory, included by CMakeLists.txt.
pkg_check_modules(UCX IMPORTED_TARGET ucx)
if(UCX_FOUND)
  set(mpi_environment "${PROJECT_SOURCE_DIR}/tools/mpi/umem-pfn-mpi.env")
  umem_pfn_test(test_ucx guest 240 PkgConfig::UCX)
  target_compile_definitions(test_ucx PRIVATE PFN_MPI_ENVIRONMENT="${mpi_environment}")

  # Programs that allocate in VRAM without knowing.
  add_library(vram_malloc MODULE preload/vram_malloc.c)
  target_link_libraries(vram_malloc PRIVATE umem_pfn_uapi Threads::Threads)

  add_test(NAME ucx.Perftest COMMAND "${CMAKE_CURRENT_SOURCE_DIR}/ucx/perftest"
           $<TARGET_FILE:vram_malloc> "${mpi_environment}")
  set_tests_properties(ucx.Perftest PROPERTIES LABELS "guest;once" TIMEOUT 600 RUN_SERIAL TRUE)
endif()
