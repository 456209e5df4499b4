# SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
#
# UCX on device memory, included by CMakeLists.txt.
pkg_check_modules(UCX IMPORTED_TARGET ucx)
if(UCX_FOUND)
  umem_pfn_test(test_ucx guest 240 PkgConfig::UCX)
  target_compile_definitions(test_ucx PRIVATE PFN_MPI_ENVIRONMENT="${mpi_environment}")

  add_test(NAME ucx.Perftest COMMAND "${CMAKE_CURRENT_SOURCE_DIR}/ucx/perftest"
           $<TARGET_FILE:vram_malloc> "${mpi_environment}")
  set_tests_properties(ucx.Perftest PROPERTIES LABELS "guest;once" TIMEOUT 600 RUN_SERIAL TRUE)
endif()
