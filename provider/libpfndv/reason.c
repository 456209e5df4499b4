/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
#include "reason.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <infiniband/pfndv.h>

static _Thread_local char last_reason[256];

int fail(int err, const char *format, ...)
{
	va_list args;

	if (format) {
		va_start(args, format);
		vsnprintf(last_reason, sizeof(last_reason), format, args);
		va_end(args);
	} else {
		/* the one that is safe with threads and knows no locale */
		snprintf(last_reason, sizeof(last_reason), "%s", strerrordesc_np(err));
	}
	errno = err;
	return err;
}

const char *pfndv_last_reason(void)
{
	return last_reason;
}
