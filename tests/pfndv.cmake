# SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
#
# Tests of libpfndv, included by CMakeLists.txt.
include(CheckCXXSourceCompiles)

set(pfndv_dir "${PROJECT_SOURCE_DIR}/provider/libpfndv")

umem_pfn_test(test_pfndv_host host 60)
umem_pfn_test(test_pfndv guest 240)
umem_pfn_test(test_pfndv_threads guest 240)

# The same once more with the distribution's librxe in place of the overlay.
foreach(name pfndv pfndv_threads)
  add_test(NAME ${name}.StockProvider COMMAND "${CMAKE_COMMAND}" -E env --unset=IBV_DRIVERS
           $<TARGET_FILE:test_${name}> --gtest_brief=1)
  list(APPEND guest_tests ${name}.StockProvider)
endforeach()

# The ABI, and the manual pages.
add_test(NAME pfndv.Abi COMMAND "${CMAKE_CURRENT_SOURCE_DIR}/pfndv/abi" $<TARGET_FILE:pfndv>
         "${pfndv_dir}/libpfndv1.symbols")
add_test(NAME pfndv.Man COMMAND "${CMAKE_CURRENT_SOURCE_DIR}/pfndv/man" "${pfndv_dir}")
set_tests_properties(pfndv.Abi pfndv.Man PROPERTIES LABELS host TIMEOUT 300)

# Sanitizers. They are compiled into the library, too, so it is built once more with
# each of them, as a part of its test.
option(UMEM_PFN_SANITIZERS "Also build the unit tests of libpfndv with sanitizers" ON)

# umem_pfn_sanitized(NAME LABEL TEST SANITIZERS): TEST.cpp and libpfndv with
# -fsanitize=SANITIZERS, as CTest entry pfndv_sanitized.NAME.
function(umem_pfn_sanitized name label test sanitizers)
  set(CMAKE_REQUIRED_FLAGS -fsanitize=${sanitizers})
  string(MAKE_C_IDENTIFIER "UMEM_PFN_HAS_${sanitizers}" available)
  check_cxx_source_compiles("int main() { }" ${available})
  if(NOT ${available})
    message(STATUS "pfndv_sanitized.${name}: there is no runtime of -fsanitize=${sanitizers}")
    return()
  endif()
  set(target ${test}_${name})
  add_executable(${target} ${test}.cpp)
  if(label STREQUAL "guest")
    target_sources(${target} PRIVATE "${PROJECT_SOURCE_DIR}/examples/common/vram.cpp")
  endif()
  target_include_directories(${target} PRIVATE "${PROJECT_SOURCE_DIR}/examples")
  target_link_libraries(${target} PRIVATE pfndv_build GTest::gtest_main Threads::Threads)
  target_compile_options(${target} PRIVATE -fsanitize=${sanitizers} -fno-sanitize-recover=all
                                           -fno-omit-frame-pointer -O1)
  target_link_options(${target} PRIVATE -fsanitize=${sanitizers})
  # Without randomised addresses: TSan of GCC 14 does not know where newer kernels
  # put things.
  add_test(NAME pfndv_sanitized.${target} COMMAND setarch -R $<TARGET_FILE:${target}> --gtest_brief=1)
  set_tests_properties(pfndv_sanitized.${target} PROPERTIES LABELS ${label} TIMEOUT 900)
  if(label STREQUAL "guest")
    set_tests_properties(pfndv_sanitized.${target} PROPERTIES RUN_SERIAL TRUE)
  endif()
endfunction()

if(UMEM_PFN_SANITIZERS)
  umem_pfn_sanitized(asan host test_pfndv_host address,undefined)
  umem_pfn_sanitized(tsan host test_pfndv_host thread)
  umem_pfn_sanitized(asan guest test_pfndv_threads address,undefined)
  umem_pfn_sanitized(tsan guest test_pfndv_threads thread)
endif()

# Valgrind: what sanitizers cannot see, as they know only code that was compiled with
# them. It does not know the verbs ioctl, so that in the guest all that the kernel has
# written counts as uninitialised, and is not looked at.
find_program(VALGRIND valgrind)
if(VALGRIND)
  set(valgrind "${VALGRIND}" --quiet --error-exitcode=1 --fair-sched=yes --leak-check=full
      --show-leak-kinds=definite --errors-for-leak-kinds=definite)
  add_test(NAME pfndv_valgrind.pfndv_host
           COMMAND ${valgrind} $<TARGET_FILE:test_pfndv_host> --gtest_brief=1)
  add_test(NAME pfndv_valgrind.pfndv
           COMMAND ${valgrind} --undef-value-errors=no $<TARGET_FILE:test_pfndv> --gtest_brief=1)
  set_tests_properties(pfndv_valgrind.pfndv_host PROPERTIES LABELS "host;once" TIMEOUT 900)
  set_tests_properties(pfndv_valgrind.pfndv PROPERTIES LABELS "guest;once" TIMEOUT 900
                       RUN_SERIAL TRUE)
endif()

# As a user has it: installed somewhere, and programs built against that.
set(first "${PROJECT_SOURCE_DIR}/examples/pfndv_first")
set(installed "${CMAKE_CURRENT_BINARY_DIR}/pfndv-installed")
add_custom_command(
  OUTPUT "${installed}/done"
  COMMAND "${CMAKE_COMMAND}" -E env "CC=${CMAKE_C_COMPILER}" "CXX=${CMAKE_CXX_COMPILER}"
          "${CMAKE_CURRENT_SOURCE_DIR}/pfndv/installed" "${PROJECT_BINARY_DIR}" "${first}"
          "${installed}"
  COMMAND "${CMAKE_COMMAND}" -E touch "${installed}/done"
  DEPENDS pfndv pfndv/installed "${first}/register.c" "${first}/register.cpp"
          "${first}/CMakeLists.txt" "${pfndv_dir}/infiniband/pfndv.h"
          "${pfndv_dir}/infiniband/pfndv.hpp" "${pfndv_dir}/pfndv.pc.in"
          "${pfndv_dir}/pfndv-config.cmake.in"
  COMMENT "Building programs against the installed libpfndv"
  VERBATIM)
add_custom_target(pfndv_installed ALL DEPENDS "${installed}/done")

foreach(language c cpp)
  add_test(NAME pfndv_first.${language} COMMAND "${installed}/bin/pfndv_first_${language}")
  set_tests_properties(pfndv_first.${language} PROPERTIES PASS_REGULAR_EXPRESSION
    "dynamic, present, [0-9]+ ranges.*pinned, please: +the exporter may move")
  list(APPEND guest_tests pfndv_first.${language})
endforeach()

set_tests_properties(${guest_tests} PROPERTIES LABELS guest TIMEOUT 900 RUN_SERIAL TRUE)
