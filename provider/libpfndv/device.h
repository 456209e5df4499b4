/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
#ifndef PFNDV_DEVICE_H
#define PFNDV_DEVICE_H

#include <infiniband/pfndv.h>

struct pfn_device_info;

/* What the driver says of itself. Returns 0 or an errno: EOPNOTSUPP if it is not ours. */
int device_query(struct ibv_context *context, struct pfn_device_info *info);

/* Fails with EOPNOTSUPP and says why; returns it. */
int fail_unsupported(struct ibv_device *device);

#endif /* PFNDV_DEVICE_H */
