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

# Both ways of losing a block, and memory that is short.
add_test(NAME examples.KvTransfer COMMAND kv_transfer)
set_tests_properties(examples.KvTransfer PROPERTIES PASS_REGULAR_EXPRESSION
  "lost: [1-9] revoked while granted, [1-9] remote access errors? [^\n]*, [1-9] evicted later\n[1-9][0-9]* moves survived, the MRs faulted [1-9][0-9]* times\n128 blocks used, 0 of [0-9]+ CRCs wrong\nall of it arrived\n$")
add_test(NAME examples.KvTransferInPeace COMMAND kv_transfer --requests 4 --slots 16 --move-every 0
         --lose-every 0)
set_tests_properties(examples.KvTransferInPeace PROPERTIES PASS_REGULAR_EXPRESSION
  "64 blocks written, [^\n]*, 1 connection\nlost: 0 revoked while granted, 0 remote access errors [^\n]*, 0 evicted later\n0 moves survived, the MRs faulted 0 times\n64 blocks used, 0 of 128 CRCs wrong\nall of it arrived\n$")

set_tests_properties(examples.RingAllreduce examples.RingAllreduceOdd
                     examples.RingAllreduceTooLarge examples.KvTransfer
                     examples.KvTransferInPeace PROPERTIES LABELS guest TIMEOUT 600 RUN_SERIAL TRUE)
