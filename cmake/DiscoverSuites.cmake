# SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
#
# One CTest entry per GoogleTest *suite*.
#
# gtest_discover_tests() makes one per test, that is one process per test:
# starting a process and opening two RDMA devices takes longer under emulation
# than most tests do. One entry per suite keeps `ctest -R` useful. The binary
# is asked for its suites after it was built, so none can be forgotten; that
# works outside the guest too, since a test binary touches no device before a
# test runs.
#
#   umem_pfn_discover_suites(TARGET LABEL TIMEOUT_SECONDS)
#
# Suite Sizes/Foo of target test_bar becomes the CTest entry bar.Foo, and a second
# instance More/Foo of it bar.MoreFoo.
# LABEL: "host" for tests that run anywhere, "guest" for those that need the
# modules and the two soft-RoCE devices, "dma" for those of them that are about DMA
# and run with other machines, too; these two run one at a time.

if(CMAKE_SCRIPT_MODE_FILE)
  # Second life of this file: cmake -P after the link of a test binary.
  execute_process(COMMAND "${BINARY}" --gtest_list_tests
                  OUTPUT_VARIABLE listing COMMAND_ERROR_IS_FATAL ANY)
  string(REPLACE "\n" ";" lines "${listing}")
  set(script "")
  set(labels "${LABEL}")
  if(LABEL STREQUAL "dma")
    set(labels "guest;dma")
  endif()
  foreach(line IN LISTS lines)
    if(line MATCHES "^([A-Za-z0-9_/]+)\\.")
      set(suite "${CMAKE_MATCH_1}")
      string(REGEX REPLACE "^.*/" "" short "${suite}")
      set(name "${SUBJECT}.${short}")
      list(FIND names "${name}" known)
      if(NOT known EQUAL -1)
        string(REPLACE "/" "" short "${suite}")
        set(name "${SUBJECT}.${short}")
      endif()
      list(APPEND names "${name}")
      string(APPEND script
             "add_test([==[${name}]==] \"${BINARY}\" \"--gtest_filter=${suite}.*\" --gtest_brief=1)\n"
             "set_tests_properties([==[${name}]==] PROPERTIES LABELS \"${labels}\" TIMEOUT \${timeout}")
      if(NOT LABEL STREQUAL "host")
        string(APPEND script " RUN_SERIAL TRUE")
      endif()
      string(APPEND script ")\n")
    endif()
  endforeach()
  if(script STREQUAL "")
    message(FATAL_ERROR "${BINARY} has no tests")
  endif()
  # Long tests and slow kernels need more time than usual: asked when CTest runs.
  file(WRITE "${OUTPUT}"
       "set(timeout ${TIMEOUT})\n"
       "if(DEFINED ENV{UMEM_PFN_TIMEOUT_FACTOR})\n"
       "  math(EXPR timeout \"${TIMEOUT} * \$ENV{UMEM_PFN_TIMEOUT_FACTOR}\")\n"
       "endif()\n"
       "${script}")
  return()
endif()

set(UMEM_PFN_DISCOVER_SUITES "${CMAKE_CURRENT_LIST_FILE}")

function(umem_pfn_discover_suites target label timeout)
  set(output "${CMAKE_CURRENT_BINARY_DIR}/${target}_suites.cmake")
  string(REGEX REPLACE "^test_" "" subject "${target}")
  add_custom_command(
    TARGET ${target} POST_BUILD
    COMMAND "${CMAKE_COMMAND}" "-DBINARY=$<TARGET_FILE:${target}>" "-DOUTPUT=${output}"
            "-DSUBJECT=${subject}" "-DLABEL=${label}" "-DTIMEOUT=${timeout}" -P "${UMEM_PFN_DISCOVER_SUITES}"
    BYPRODUCTS "${output}"
    VERBATIM)
  set_property(DIRECTORY APPEND PROPERTY TEST_INCLUDE_FILES "${output}")
endfunction()
