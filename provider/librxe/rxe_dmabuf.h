/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* Memory regions on dma-bufs for librxe, and sharing them, see rxe_dmabuf.c. */
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

/* in rxe.c */
extern const struct verbs_context_ops rxe_ctx_ops;

struct verbs_context *rxe_import_context(struct ibv_device *ibdev, int cmd_fd);
int rxe_ring_by_ioctl(struct ibv_qp *qp);
struct ibv_pd *rxe_import_pd(struct ibv_context *context, uint32_t handle);
void rxe_unimport_pd(struct ibv_pd *pd);
struct ibv_mr *rxe_import_mr(struct ibv_pd *pd, uint32_t handle);
void rxe_unimport_mr(struct ibv_mr *mr);

#endif /* RXE_DMABUF_H */
