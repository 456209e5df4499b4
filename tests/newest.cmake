# SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
#
# The librxe overlay with the newest rdma-core, included by CMakeLists.txt: its own
# tests, and suites that are about the provider.
if(NOT UMEM_PFN_NEWEST_RDMA_CORE_TARBALL)
  return()
endif()

set(newest_dir "${CMAKE_CURRENT_SOURCE_DIR}/newest")
set(newest_work "${CMAKE_CURRENT_BINARY_DIR}/newest-rdma-core")
set(newest_out "${CMAKE_CURRENT_BINARY_DIR}/newest")
set(librxe_dir "${PROJECT_SOURCE_DIR}/provider/librxe")
file(GLOB librxe_files CONFIGURE_DEPENDS "${librxe_dir}/*.patch" "${librxe_dir}/rxe_dmabuf.*")
add_custom_command(
  OUTPUT "${newest_out}/done"
  COMMAND "${CMAKE_COMMAND}" -E env "CC=${UMEM_PFN_CC}"
          "${newest_dir}/build" "${librxe_dir}/build.sh" "${UMEM_PFN_NEWEST_RDMA_CORE_TARBALL}"
          "${newest_work}" "${newest_out}" "${CMAKE_CXX_COMPILER}" -std=c++23 -O1 -Wall -Wextra -Werror
          -Wno-missing-field-initializers
          "-I$<JOIN:$<TARGET_PROPERTY:pfn_test_support,INCLUDE_DIRECTORIES>,;-I>"
          "${newest_dir}/test_newest.cpp" $<TARGET_FILE:pfn_test_support> $<TARGET_FILE:pfn_common>
          $<TARGET_FILE:pfndv> -Wl,-rpath,$<TARGET_FILE_DIR:pfndv> -lgtest -lgtest_main
  COMMAND "${CMAKE_COMMAND}" -E touch "${newest_out}/done"
  DEPENDS "${librxe_dir}/build.sh" ${librxe_files} "${UMEM_PFN_NEWEST_RDMA_CORE_TARBALL}"
          newest/build newest/test_newest.cpp pfn_test_support pfn_common pfndv
  COMMENT "Building librxe and its tests with the newest rdma-core"
  COMMAND_EXPAND_LISTS VERBATIM)
add_custom_target(newest ALL DEPENDS "${newest_out}/done")

add_test(NAME newest.Newest COMMAND "${newest_dir}/run" "${newest_work}" "${newest_out}"
         "${newest_out}/test_newest" --gtest_brief=1)
set(newest_tests newest.Newest)
foreach(name register verbs_sge verbs_mw verbs_import)
  add_test(NAME newest.${name} COMMAND "${newest_dir}/run" "${newest_work}" "${newest_out}"
           $<TARGET_FILE:test_${name}> --gtest_brief=1)
  list(APPEND newest_tests newest.${name})
endforeach()
set_tests_properties(${newest_tests} PROPERTIES LABELS "guest;once" TIMEOUT 900 RUN_SERIAL TRUE)
