/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* Memory regions on dma-bufs for librxe, see rxe_dmabuf.c. */
#ifndef RXE_DMABUF_H
#define RXE_DMABUF_H

#include <stddef.h>
#include <stdint.h>

#include <infiniband/driver.h>

struct ibv_mr *rxe_reg_dmabuf_mr(struct ibv_pd *pd, uint64_t offset,
				 size_t length, uint64_t iova, int fd,
				 int access);
int rxe_rereg_mr(struct verbs_mr *vmr, int flags, struct ibv_pd *pd,
		 void *addr, size_t length, int access);

#endif /* RXE_DMABUF_H */
