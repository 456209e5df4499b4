/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * Memory regions on dma-bufs for librxe.
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

#include <infiniband/driver.h>
#include <infiniband/verbs.h>

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
