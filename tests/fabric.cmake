# SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
#
# The examples of libfabric, the distribution's, included by CMakeLists.txt.
if(NOT TARGET fabric_dmabuf)
  return()
endif()

# By descriptor, while the memory moves.
add_test(NAME fabric.Dmabuf COMMAND fabric_dmabuf)
set_tests_properties(fabric.Dmabuf PROPERTIES LABELS guest
  PASS_REGULAR_EXPRESSION "moved [1-9][0-9]* times meanwhile\nall is well\n$")

# By address. That what is registered twice is cached shows that there is a cache to test.
add_test(NAME fabric.CacheWithHooks COMMAND fabric_cache)
set_tests_properties(fabric.CacheWithHooks PROPERTIES LABELS guest
  ENVIRONMENT FI_MR_CACHE_MONITOR=memhooks PASS_REGULAR_EXPRESSION
  " 40 of 40 registrations of the same one cached\n.*a write fails: [^\n]*remote access error.*all is well\n$")

# Without it. These are about libfabric more than about the kernel, and each takes a while
# to read all of /proc/kallsyms, twice.
add_test(NAME fabric.CacheWithUserfaultfd COMMAND fabric_cache)
add_test(NAME fabric.CacheDisabled COMMAND fabric_cache)
set_tests_properties(fabric.CacheWithUserfaultfd PROPERTIES
                     ENVIRONMENT FI_MR_CACHE_MONITOR=userfaultfd)
set_tests_properties(fabric.CacheDisabled PROPERTIES ENVIRONMENT FI_MR_CACHE_MONITOR=disabled)
set_tests_properties(fabric.CacheWithUserfaultfd fabric.CacheDisabled PROPERTIES
  LABELS "guest;once" PASS_REGULAR_EXPRESSION
  " 0 of 40 registrations of the same one cached\n.*a write works\n.*all is well\n$")

set_tests_properties(fabric.Dmabuf fabric.CacheWithHooks fabric.CacheWithUserfaultfd
                     fabric.CacheDisabled PROPERTIES TIMEOUT 600 RUN_SERIAL TRUE)

# The distribution's own program, in device memory that it knows nothing of.
add_test(NAME fabric.Pingpong COMMAND "${CMAKE_CURRENT_SOURCE_DIR}/fabric/pingpong"
         $<TARGET_FILE:vram_malloc> "${mpi_environment}")
set_tests_properties(fabric.Pingpong PROPERTIES LABELS "guest;once" TIMEOUT 600 RUN_SERIAL TRUE)
