/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * --verify_buffer: has what arrived been what was sent?
 *
 * Who sends fills its messages with a pattern in which every byte depends on
 * its place in the message. Who receives begins with zeroes, which the pattern
 * has none of, and looks for whole messages when the test has ended. Fetch and
 * add is verified by the sum of all counters.
 */
#ifndef PFN_VERIFY_H
#define PFN_VERIFY_H

#include <stddef.h>

struct perftest_parameters;

/* Can this test be verified? SUCCESS, or FAILURE after a line on stderr. */
int pfn_verify_check(const struct perftest_parameters *params);

/* Prepare a buffer before the test. */
void pfn_verify_fill(const struct perftest_parameters *params, void *buffer, size_t size);

/* Look at it afterwards, when nobody has access any longer. FAILURE if
 * something is wrong or nothing has arrived; stdout or stderr has a line.
 */
int pfn_verify(const struct perftest_parameters *params, const void *buffer, size_t size);

#endif /* PFN_VERIFY_H */
