/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* Devices: is there anything to be had here, and what? */
#include "device.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <rdma/ib_user_ioctl_cmds.h>
#include <rdma/pfn_mr_abi.h>

#include "command.h"
#include "extensible.h"
#include "reason.h"

int device_query(struct ibv_context *context, struct pfn_device_info *info)
{
	struct command cmd;
	int err;

	memset(info, 0, sizeof(*info));
	command_init(&cmd, UVERBS_OBJECT_DEVICE, PFN_DEVICE_METHOD_QUERY);
	command_out(&cmd, PFN_DEVICE_ATTR_QUERY_INFO, info, sizeof(*info));
	err = command_execute(&cmd, context);
	/* what uverbs says if another driver than ours is in charge of the device */
	return err == EINVAL ? EOPNOTSUPP : err;
}

int fail_unsupported(struct ibv_device *device)
{
	return fail(EOPNOTSUPP,
		    "the kernel driver of %s has no pfn MRs: it takes soft-RoCE with this project's "
		    "rdma_rxe, not the stock module",
		    ibv_get_device_name(device));
}

int pfndv_query_device(struct ibv_context *context, struct pfndv_device_attr *attr,
		       uint32_t attr_size)
{
	const uint32_t first_size = SIZE_UP_TO(struct pfndv_device_attr, max_length);
	struct pfndv_device_attr ours = {};
	struct pfn_device_info info;
	int err;

	if (attr_size < first_size)
		return fail(EINVAL, "attr_size is %u, struct pfndv_device_attr has %u bytes",
			    attr_size, first_size);

	err = device_query(context, &info);
	if (err == EOPNOTSUPP)
		return fail_unsupported(context->device);
	if (err)
		return fail(err, "the device cannot be asked: %s", strerrordesc_np(err));

	ours.modes = info.modes;
	ours.backends = info.backends;
	ours.reg_access = info.reg_access;
	ours.rereg_access = info.rereg_access;
	ours.max_length = info.max_length;
	extensible_copy_out(attr, attr_size, &ours, sizeof(ours));
	return 0;
}

/*
 * Which errno is it that a device could not be opened with? libibverbs looks for its
 * node in a second place, and what errno then says is about that one.
 */
static int open_error(const struct ibv_device *device, int err)
{
	char node[sizeof("/dev/infiniband/") + sizeof(device->dev_name)];

	if (err == EACCES || err == EPERM)
		return err;
	snprintf(node, sizeof(node), "/dev/infiniband/%s", device->dev_name);
	if (faccessat(AT_FDCWD, node, R_OK | W_OK, AT_EACCESS))
		return errno;
	return err ? err : ENODEV;
}

bool pfndv_is_supported(struct ibv_device *device)
{
	struct pfn_device_info info;
	struct ibv_context *context;
	int err;

	errno = 0;
	context = ibv_open_device(device);
	if (!context) {
		err = open_error(device, errno);
		fail(err, "%s cannot be opened: %s", ibv_get_device_name(device),
		     strerrordesc_np(err));
		return false;
	}
	err = device_query(context, &info);
	ibv_close_device(context);

	if (err == EOPNOTSUPP)
		fail_unsupported(device);
	else if (err)
		fail(err, "%s cannot be asked: %s", ibv_get_device_name(device),
		     strerrordesc_np(err));
	return !err;
}
