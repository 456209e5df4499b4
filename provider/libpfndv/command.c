/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
#include "command.h"

#include <assert.h>
#include <errno.h>
#include <string.h>
#include <sys/ioctl.h>

#include <rdma/ib_user_ioctl_verbs.h>
#include <rdma/rdma_user_ioctl.h>

void command_init(struct command *cmd, uint16_t object, uint16_t method)
{
	memset(cmd, 0, sizeof(*cmd));
	cmd->hdr.object_id = object;
	cmd->hdr.method_id = method;
	/*
	 * The numbers of a driver's own methods and attributes mean something else
	 * with each driver; the kernel checks that the caller knows which one it is
	 * talking to. soft-RoCE is the only one that has pfn MRs.
	 */
	cmd->hdr.driver_id = RDMA_DRIVER_RXE;
}

static struct ib_uverbs_attr *add(struct command *cmd, uint16_t id, size_t size)
{
	struct ib_uverbs_attr *attr = &cmd->hdr.attrs[cmd->hdr.num_attrs];

	assert(cmd->hdr.num_attrs < COMMAND_MAX_ATTRS);
	cmd->hdr.num_attrs++;
	attr->attr_id = id;
	attr->len = (uint16_t)size;
	attr->flags = UVERBS_ATTR_F_MANDATORY;
	return attr;
}

void command_in_handle(struct command *cmd, uint16_t id, uint32_t handle)
{
	add(cmd, id, 0)->data = handle;
}

void command_in_u32(struct command *cmd, uint16_t id, uint32_t value)
{
	/* what fits into the attribute travels inside of it, in memory order */
	memcpy(&add(cmd, id, sizeof(value))->data, &value, sizeof(value));
}

void command_in_u64(struct command *cmd, uint16_t id, uint64_t value)
{
	add(cmd, id, sizeof(value))->data = value;
}

void command_in_fd(struct command *cmd, uint16_t id, int fd)
{
	add(cmd, id, 0)->data_s64 = fd;
}

void command_in_bytes(struct command *cmd, uint16_t id, const void *bytes, size_t size)
{
	add(cmd, id, size)->data = (uintptr_t)bytes;
}

void command_out(struct command *cmd, uint16_t id, void *bytes, size_t size)
{
	add(cmd, id, size)->data = (uintptr_t)bytes;
}

void command_out_if_known(struct command *cmd, uint16_t id, void *bytes, size_t size)
{
	struct ib_uverbs_attr *attr = add(cmd, id, size);

	attr->data = (uintptr_t)bytes;
	attr->flags = 0;
}

struct ib_uverbs_attr *command_out_handle(struct command *cmd, uint16_t id)
{
	return add(cmd, id, 0);
}

uint32_t command_handle(const struct ib_uverbs_attr *created)
{
	return (uint32_t)created->data;
}

int command_execute(struct command *cmd, struct ibv_context *context)
{
	cmd->hdr.length = (uint16_t)(sizeof(cmd->hdr) +
				     cmd->hdr.num_attrs * sizeof(struct ib_uverbs_attr));
	if (ioctl(context->cmd_fd, RDMA_VERBS_IOCTL, &cmd->hdr) == 0)
		return 0;
	return errno == EPROTONOSUPPORT ? EOPNOTSUPP : errno;
}
