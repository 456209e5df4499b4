/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * Registering, and how to come by a struct ibv_mr for it.
 *
 * The kernel is easily asked for the MR: that is one ioctl. But libibverbs and the
 * provider expect more of a memory region than what <infiniband/verbs.h> shows: each
 * struct ibv_mr is the beginning of a larger, private structure, which the provider
 * allocates, fills and frees. A struct made here would be read past its end by
 * ibv_dereg_mr(); one made with a guess at that layout would break with the next
 * rdma-core. So we let the provider make it:
 *
 *  1. ask the kernel for the MR on the dma-buf;
 *  2. have ibv_reg_mr() register one byte of ours, the "carrier". All of it, private
 *     part included, is as libibverbs and this provider want it;
 *  3. destroy the carrier's MR in the kernel, behind the provider's back;
 *  4. put the handle and the keys of the first MR into the carrier's struct, and its
 *     address, length. These are public fields.
 *
 * What is left is a struct of the provider's own making that says, in public fields,
 * that it stands for the MR on the dma-buf. ibv_dereg_mr() reads the handle there,
 * has the kernel destroy that MR, and frees what it has allocated. ibv_rereg_mr() and
 * ibv_import_mr() go by the handle, too, work requests and ibv_advise_mr() by the key.
 *
 * This needs a provider that keeps nothing else about an MR, as librxe does: it cannot
 * have anything that the kernel did not tell it, and the kernel told it only the handle
 * and keys. (A driver of hardware might keep a key in a table of its own. The driver
 * number in the ioctl sees to it that only librxe's devices get this far.)
 *
 * The carrier is registered for on-demand paging. That pins no page, so it works with
 * a locked-memory limit of 0. And libibverbs keeps such MRs out of its bookkeeping for
 * fork(): it would otherwise, at ibv_dereg_mr(), release the range of addresses that
 * the struct names, which here are no addresses of this process. If the kernel has no
 * on-demand paging an ordinary MR will do, provided that this bookkeeping is off. On
 * kernels that copy pinned pages at fork() it always is.
 */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include <infiniband/pfndv.h>
#include <rdma/ib_user_ioctl_cmds.h>
#include <rdma/pfn_mr_abi.h>

#include "command.h"
#include "device.h"
#include "extensible.h"
#include "reason.h"

/* An MR as the kernel knows it. */
struct kernel_mr {
	uint32_t handle;
	uint32_t lkey;
	uint32_t rkey;
};

/* Nobody reads or writes it; it has an address. */
static char carrier_byte;

static int register_in_kernel(struct ibv_pd *pd, const struct pfndv_dmabuf_mr_attr *attr,
			      struct kernel_mr *mr, char reason[PFN_MR_REASON_MAX])
{
	struct ib_uverbs_attr *created;
	struct command cmd;
	int err;

	command_init(&cmd, UVERBS_OBJECT_MR, UVERBS_METHOD_REG_DMABUF_MR);
	created = command_out_handle(&cmd, UVERBS_ATTR_REG_DMABUF_MR_HANDLE);
	command_in_handle(&cmd, UVERBS_ATTR_REG_DMABUF_MR_PD_HANDLE, pd->handle);
	command_in_u64(&cmd, UVERBS_ATTR_REG_DMABUF_MR_OFFSET, attr->offset);
	command_in_u64(&cmd, UVERBS_ATTR_REG_DMABUF_MR_LENGTH, attr->length);
	command_in_u64(&cmd, UVERBS_ATTR_REG_DMABUF_MR_IOVA, attr->iova);
	command_in_u32(&cmd, UVERBS_ATTR_REG_DMABUF_MR_FD, (uint32_t)attr->fd);
	command_in_u32(&cmd, UVERBS_ATTR_REG_DMABUF_MR_ACCESS_FLAGS, attr->access);
	command_out(&cmd, UVERBS_ATTR_REG_DMABUF_MR_RESP_LKEY, &mr->lkey, sizeof(mr->lkey));
	command_out(&cmd, UVERBS_ATTR_REG_DMABUF_MR_RESP_RKEY, &mr->rkey, sizeof(mr->rkey));
	command_in_u64(&cmd, PFN_MR_ATTR_REG_DMABUF_MODE, attr->mode);
	if (attr->comp_mask & PFNDV_DMABUF_MR_EVENTFD)
		command_in_fd(&cmd, PFN_MR_ATTR_REG_DMABUF_EVENTFD, attr->eventfd);
	reason[0] = '\0';
	command_out_if_known(&cmd, PFN_MR_ATTR_REG_DMABUF_REASON, reason, PFN_MR_REASON_MAX);

	err = command_execute(&cmd, pd->context);
	if (!err)
		mr->handle = command_handle(created);
	return err;
}

static int destroy_in_kernel(struct ibv_context *context, uint32_t handle)
{
	struct command cmd;

	command_init(&cmd, UVERBS_OBJECT_MR, UVERBS_METHOD_MR_DESTROY);
	command_in_handle(&cmd, UVERBS_ATTR_DESTROY_MR_HANDLE, handle);
	return command_execute(&cmd, context);
}

static bool is_open(int fd)
{
	return fcntl(fd, F_GETFD) >= 0;
}

/* uverbs allows these for all drivers, see UVERBS_METHOD_REG_DMABUF_MR. */
#define REG_ACCESS                                                                  \
	(IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_READ | IBV_ACCESS_REMOTE_WRITE | \
	 IBV_ACCESS_REMOTE_ATOMIC | IBV_ACCESS_RELAXED_ORDERING)

/*
 * uverbs itself says EINVAL and no more. Arguments are looked at only now, when they
 * have been refused: what a newer kernel accepts is not ours to refuse. NULL if they
 * look fine.
 */
static const char *what_is_invalid(const struct pfndv_dmabuf_mr_attr *attr)
{
	uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);

	if (attr->offset % page != attr->iova % page)
		return "offset and iova must be at the same place within their page";
	if (attr->access & ~(uint32_t)REG_ACCESS)
		return "a dma-buf is registered with LOCAL_WRITE, REMOTE_READ, REMOTE_WRITE, "
		       "REMOTE_ATOMIC and RELAXED_ORDERING only; ibv_rereg_mr() adds others";
	if (attr->access & (IBV_ACCESS_REMOTE_WRITE | IBV_ACCESS_REMOTE_ATOMIC) &&
	    !(attr->access & IBV_ACCESS_LOCAL_WRITE))
		return "REMOTE_WRITE and REMOTE_ATOMIC need LOCAL_WRITE";
	return NULL;
}

static int fail_registering(int err, struct ibv_pd *pd, const struct pfndv_dmabuf_mr_attr *attr,
			    const char *kernel_reason)
{
	struct pfn_device_info info;

	/* The kernel knows best. */
	if (kernel_reason[0])
		return fail(err, "%s", kernel_reason);

	/* How uverbs says that there is no such method, attribute or driver. */
	if ((err == EINVAL || err == EOPNOTSUPP) && device_query(pd->context, &info) == EOPNOTSUPP)
		return fail_unsupported(pd->context->device);

	if (err == EINVAL && what_is_invalid(attr))
		return fail(err, "%s", what_is_invalid(attr));
	if (err == EBADF && !is_open(attr->fd))
		return fail(err, "fd %d is not open", attr->fd);
	if (err == EBADF)
		return fail(err, "eventfd %d is not open", attr->eventfd);
	if (err == ENOENT)
		return fail(err, "the device context has no such protection domain");
	if (err == EINTR)
		return fail(err, "a signal interrupted the wait for the exporter");
	if (err == EIO)
		return fail(err, "the device has gone");
	return fail(err, NULL);
}

/* See the top of this file. Returns 0, or an errno, and fail() has been called. */
static int make_carrier(struct ibv_pd *pd, struct ibv_mr **carrier)
{
	int err;

	*carrier = ibv_reg_mr(pd, &carrier_byte, sizeof(carrier_byte), IBV_ACCESS_ON_DEMAND);
	if (!*carrier && ibv_is_fork_initialized() != IBV_FORK_ENABLED)
		*carrier = ibv_reg_mr(pd, &carrier_byte, sizeof(carrier_byte), 0);
	if (*carrier)
		return 0;

	err = errno ? errno : ENOMEM;
	return fail(err, "libibverbs cannot make a memory region to carry this one: %s",
		    strerrordesc_np(err));
}

/* Make @carrier stand for @mr. Returns 0, or an errno, and fail() has been called. */
static int load_carrier(struct ibv_mr *carrier, const struct kernel_mr *mr,
			const struct pfndv_dmabuf_mr_attr *attr)
{
	int err = destroy_in_kernel(carrier->context, carrier->handle);

	if (err)
		return fail(err, "the memory region that should carry this one cannot be emptied: %s",
			    strerrordesc_np(err));
	carrier->handle = mr->handle;
	carrier->lkey = mr->lkey;
	carrier->rkey = mr->rkey;
	/* as ibv_reg_dmabuf_mr() has it */
	carrier->addr = (void *)(uintptr_t)attr->offset;
	carrier->length = attr->length;
	return 0;
}

struct ibv_mr *pfndv_reg_dmabuf_mr(struct ibv_pd *pd, const struct pfndv_dmabuf_mr_attr *attr,
				   uint32_t attr_size)
{
	const uint32_t first_size = SIZE_UP_TO(struct pfndv_dmabuf_mr_attr, eventfd);
	char reason[PFN_MR_REASON_MAX];
	struct pfndv_dmabuf_mr_attr ours;
	struct ibv_mr *carrier;
	struct kernel_mr mr;
	int err;

	if (attr_size < first_size) {
		fail(EINVAL, "attr_size is %u, struct pfndv_dmabuf_mr_attr has %u bytes",
		     attr_size, first_size);
		return NULL;
	}
	if (!extensible_copy_in(&ours, sizeof(ours), attr, attr_size) ||
	    ours.comp_mask & ~(uint64_t)PFNDV_DMABUF_MR_EVENTFD) {
		fail(EINVAL, "this libpfndv is older than the program and does not know all that it asks for");
		return NULL;
	}

	err = register_in_kernel(pd, &ours, &mr, reason);
	if (err) {
		fail_registering(err, pd, &ours, reason);
		return NULL;
	}
	err = make_carrier(pd, &carrier);
	if (err)
		goto err_destroy;
	err = load_carrier(carrier, &mr, &ours);
	if (err)
		goto err_dereg;
	return carrier;

err_dereg:
	ibv_dereg_mr(carrier);
err_destroy:
	destroy_in_kernel(pd->context, mr.handle);
	errno = err;
	return NULL;
}
