/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * Memory regions on dma-bufs for librxe, and what lets processes share them.
 *
 * The kernel does all the work; this file only has to carry the request there
 * and to keep two bookkeepings of libibverbs out of the way:
 *
 * - ibv_rereg_mr() refuses everything that is not IBV_MR_TYPE_MR, so these MRs
 *   say they are one;
 * - ibv_dereg_mr() tells the fork bookkeeping to release the address range of
 *   every IBV_MR_TYPE_MR that is not on demand. A dma-buf MR has no address
 *   range of this process, so it says it is on demand. The kernel never sees
 *   that bit: it lives in struct verbs_mr only.
 */
#include <errno.h>
#include <stdlib.h>

#include <infiniband/cmd_ioctl.h>
#include <infiniband/driver.h>
#include <infiniband/verbs.h>
#include <rdma/ib_user_ioctl_cmds.h>

#include "rxe.h"
#include "rxe_dmabuf.h"

/*
 * Operation behind ibv_reg_dmabuf_mr(). Returns an MR that the caller owns
 * and that ibv_dereg_mr() frees, or NULL with errno set by the kernel.
 */
struct ibv_mr *rxe_reg_dmabuf_mr(struct ibv_pd *pd, uint64_t offset,
				 size_t length, uint64_t iova, int fd,
				 int access)
{
	struct verbs_mr *vmr = calloc(1, sizeof(*vmr));
	int err;

	if (!vmr) {
		errno = ENOMEM;
		return NULL;
	}

	err = ibv_cmd_reg_dmabuf_mr(pd, offset, length, iova, fd, access, vmr,
				    NULL);
	if (err) {
		free(vmr);
		errno = err;
		return NULL;
	}

	vmr->mr_type = IBV_MR_TYPE_MR;
	vmr->access = access | IBV_ACCESS_ON_DEMAND;
	return &vmr->ibv_mr;
}

/*
 * Operation behind ibv_rereg_mr(), for MRs of every kind. rxe changes access
 * and PD; a new translation is refused by the kernel with EOPNOTSUPP.
 */
int rxe_rereg_mr(struct verbs_mr *vmr, int flags, struct ibv_pd *pd,
		 void *addr, size_t length, int access)
{
	struct ibv_rereg_mr cmd = {};
	struct ib_uverbs_rereg_mr_resp resp = {};

	return ibv_cmd_rereg_mr(vmr, flags, addr, length, (uintptr_t)addr,
				access, pd, &cmd, sizeof(cmd), &resp,
				sizeof(resp));
}

/*
 * Operation behind ibv_import_device(): another process's context, by the
 * command descriptor that it has passed on, which the result owns. The kernel's
 * rxe cannot be asked for the number of completion vectors of a context that
 * exists, so one of them is used.
 */
struct verbs_context *rxe_import_context(struct ibv_device *ibdev, int cmd_fd)
{
	struct rxe_context *context;
	struct ibv_context *ibctx;
	int err;

	context = verbs_init_and_alloc_context(ibdev, cmd_fd, context, ibv_ctx,
					       RDMA_DRIVER_RXE);
	if (!context)
		return NULL;
	ibctx = &context->ibv_ctx.context;

	err = ibv_cmd_query_context(ibctx, NULL);
	if (err == EOPNOTSUPP) {
		ibctx->num_comp_vectors = 1;
	} else if (err) {
		verbs_uninit_context(&context->ibv_ctx);
		free(context);
		errno = err;
		return NULL;
	}

	verbs_set_ops(&context->ibv_ctx, &rxe_ctx_ops);
	return &context->ibv_ctx;
}

/*
 * Make the kernel look at a send queue, for a process that the usual way is
 * closed to: write(2) on the command descriptor is for whoever opened it.
 */
int rxe_ring_by_ioctl(struct ibv_qp *qp)
{
	struct ibv_send_wr *bad_wr;

	return ibv_cmd_post_send(qp, NULL, &bad_wr);
}

/* Does the context have a protection domain @handle? Returns an errno. */
static int check_pd(struct ibv_context *context, uint32_t handle)
{
	/* as many as the length of an attribute can say */
	enum { MAX_HANDLES = UINT16_MAX / sizeof(uint32_t) };
	DECLARE_COMMAND_BUFFER(cmd, UVERBS_OBJECT_DEVICE,
			       UVERBS_METHOD_INFO_HANDLES, 3);
	uint32_t *handles = calloc(MAX_HANDLES, sizeof(*handles));
	uint32_t count = 0;
	int err;

	if (!handles)
		return ENOMEM;

	fill_attr_const_in(cmd, UVERBS_ATTR_INFO_OBJECT_ID, UVERBS_OBJECT_PD);
	fill_attr_out_ptr(cmd, UVERBS_ATTR_INFO_TOTAL_HANDLES, &count);
	fill_attr_out(cmd, UVERBS_ATTR_INFO_HANDLES_LIST, handles,
		      MAX_HANDLES * sizeof(*handles));
	err = execute_ioctl(context, cmd);
	if (!err) {
		err = ENOENT;
		while (count--) {
			if (handles[count] == handle)
				err = 0;
		}
	}
	free(handles);
	return err;
}

/*
 * Operation behind ibv_import_pd(). A protection domain of librxe has no state
 * besides its handle.
 */
struct ibv_pd *rxe_import_pd(struct ibv_context *context, uint32_t handle)
{
	struct ibv_pd *pd;
	int err;

	err = check_pd(context, handle);
	if (err) {
		errno = err;
		return NULL;
	}

	pd = calloc(1, sizeof(*pd));
	if (!pd)
		return NULL;
	pd->context = context;
	pd->handle = handle;
	return pd;
}

/* Operation behind ibv_unimport_pd(): forget it, the domain itself lives on. */
void rxe_unimport_pd(struct ibv_pd *pd)
{
	free(pd);
}

/* Operation behind ibv_import_mr(), for MRs of every kind. */
struct ibv_mr *rxe_import_mr(struct ibv_pd *pd, uint32_t handle)
{
	struct verbs_mr *vmr = calloc(1, sizeof(*vmr));
	int err;

	if (!vmr)
		return NULL;

	err = ibv_cmd_query_mr(pd, vmr, handle);
	if (err) {
		free(vmr);
		errno = err;
		return NULL;
	}
	return &vmr->ibv_mr;
}

/* Operation behind ibv_unimport_mr(): forget it, the MR itself lives on. */
void rxe_unimport_mr(struct ibv_mr *mr)
{
	free(verbs_get_mr(mr));
}
