# SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
#
# The larger examples, included by CMakeLists.txt.

# As many ranks on each device, and a number of elements that they cannot share evenly.
add_test(NAME examples.RingAllreduce COMMAND ring_allreduce --ranks 4 --elements 50001 --rounds 3
         --move-ms 1)
set_tests_properties(examples.RingAllreduce PROPERTIES PASS_REGULAR_EXPRESSION
  "moved [1-9][0-9]* times, the MRs faulted [1-9][0-9]* times\nevery sum is the CPU's, bit by bit\n$")
# Neighbours on the same device, and memory that stays.
add_test(NAME examples.RingAllreduceOdd COMMAND ring_allreduce --ranks 3 --elements 3 --move-ms 0)
set_tests_properties(examples.RingAllreduceOdd PROPERTIES PASS_REGULAR_EXPRESSION
  "moved 0 times, the MRs faulted 0 times\nevery sum is the CPU's, bit by bit\n$")
# A rank that gets no memory says so, and all end.
add_test(NAME examples.RingAllreduceTooLarge COMMAND ring_allreduce --elements 200000000)
set_tests_properties(examples.RingAllreduceTooLarge PROPERTIES PASS_REGULAR_EXPRESSION
  "PFN_VRAM_IOC_ALLOC.*ring_allreduce: the other process is gone")

set_tests_properties(examples.RingAllreduce examples.RingAllreduceOdd
                     examples.RingAllreduceTooLarge
                     PROPERTIES LABELS guest TIMEOUT 600 RUN_SERIAL TRUE)
