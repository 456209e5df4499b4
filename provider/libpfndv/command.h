/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * One call of the uverbs ioctl: a header and its attributes, back to back, as the
 * kernel wants them. All of it is public: RDMA_VERBS_IOCTL and its structures are
 * in the kernel's headers, ibv_context::cmd_fd in libibverbs'.
 */
#ifndef PFNDV_COMMAND_H
#define PFNDV_COMMAND_H

#include <stddef.h>
#include <stdint.h>

#include <infiniband/verbs.h>
#include <rdma/rdma_user_ioctl_cmds.h>

enum { COMMAND_MAX_ATTRS = 12 };

struct command {
	union {
		struct ib_uverbs_ioctl_hdr hdr;
		unsigned char room[sizeof(struct ib_uverbs_ioctl_hdr) +
				   COMMAND_MAX_ATTRS * sizeof(struct ib_uverbs_attr)];
	};
};

/* Begin a call of this method. */
void command_init(struct command *cmd, uint16_t object, uint16_t method);

/* The handle of an object that exists. */
void command_in_handle(struct command *cmd, uint16_t id, uint32_t handle);
/* A number. The kernel knows each of its numbers as 4 or as 8 bytes. */
void command_in_u32(struct command *cmd, uint16_t id, uint32_t value);
void command_in_u64(struct command *cmd, uint16_t id, uint64_t value);
/* A file descriptor, by the newer rules. */
void command_in_fd(struct command *cmd, uint16_t id, int fd);
/* More than 8 bytes, which have to stay where they are until the call is over. */
void command_in_bytes(struct command *cmd, uint16_t id, const void *bytes, size_t size);
/* Where the kernel puts a result. */
void command_out(struct command *cmd, uint16_t id, void *bytes, size_t size);
/* The same for a result that an older kernel may not know. */
void command_out_if_known(struct command *cmd, uint16_t id, void *bytes, size_t size);
/* An object that the call creates; see command_handle(). */
struct ib_uverbs_attr *command_out_handle(struct command *cmd, uint16_t id);
/* Its handle, once the call has succeeded. */
uint32_t command_handle(const struct ib_uverbs_attr *created);

/*
 * Call. Returns 0 or an errno; EOPNOTSUPP in place of EPROTONOSUPPORT, with which
 * uverbs says that it knows no such method or attribute.
 */
int command_execute(struct command *cmd, struct ibv_context *context);

#endif /* PFNDV_COMMAND_H */
