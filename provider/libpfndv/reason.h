/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* What pfndv_last_reason() returns: each thread has its own. */
#ifndef PFNDV_REASON_H
#define PFNDV_REASON_H

/*
 * This call fails with the errno @err, because of @format ... (NULL: of what
 * strerror() says). Sets errno, too. Returns @err.
 */
__attribute__((format(printf, 2, 3))) int fail(int err, const char *format, ...);

#endif /* PFNDV_REASON_H */
