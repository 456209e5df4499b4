/* SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB */
/* Shared between the files of module ib_umem_pfn only. */
#ifndef _IB_UMEM_PFN_PRIV_H
#define _IB_UMEM_PFN_PRIV_H

#include <linux/dma-buf-pfn.h>
#include <linux/list.h>
#include <linux/rwsem.h>
#include <rdma/ib_umem_pfn.h>

struct eventfd_ctx;

/**
 * struct ib_umem_pfn - see the top of ib_umem_pfn_core.c
 * @dev: the importing device
 * @dmabuf: whose memory it is; a reference is held
 * @attach: our side of the contract with the exporter
 * @offset: of the umem in the dma-buf, bytes
 * @length: of the umem, bytes
 * @no_cpu: for a device that does DMA: no kernel mapping, no CPU access
 * @readonly: may not become @writable, even if the dma-buf's file would allow it
 * @writable: registered with an access right that writes
 * @revoked_event: signalled once when REVOKED, or NULL; under the reservation
 *	lock
 * @dma_maps: &struct ib_umem_pfn_dma that are mapped; under the reservation lock
 * @lock: see the top of ib_umem_pfn_core.c; protects what follows, up to
 *	@prefetches
 * @state: ABSENT, PRESENT or REVOKED
 * @loan: the ranges, if PRESENT
 * @kva: the buffer's kernel mapping if PRESENT and not in the direct map
 * @generation: times it became PRESENT
 * @hint: the range used last, see hint_pack(); only written as a whole, valid
 *	for the loan that was current when @lock was taken
 * @faults: times an access had to map
 * @invalidations: times the exporter took the memory back
 * @prefetches: times it was mapped on request
 * @bytes_read: copied out of the umem
 * @bytes_written: copied into the umem
 */
struct ib_umem_pfn {
	struct device *dev;
	struct dma_buf *dmabuf;
	struct dma_buf_pfn_attachment *attach;
	u64 offset;
	u64 length;
	bool no_cpu;
	bool readonly;
	bool writable;
	struct eventfd_ctx *revoked_event;
	struct list_head dma_maps;

	struct rw_semaphore lock;
	enum pfn_mr_state state;
	const struct dma_buf_pfn_loan *loan;
	void *kva;
	u64 generation;
	u64 hint;
	u64 faults;
	u64 invalidations;
	u64 prefetches;

	atomic64_t bytes_read;
	atomic64_t bytes_written;
};

/* ib_umem_pfn_core.c */
int umem_map_and_lock(struct ib_umem_pfn *umem);
struct ib_umem_pfn *umem_get_dmabuf(struct device *dev, bool no_cpu,
				    struct ib_umem_pfn_attr *attr,
				    struct dma_buf *dmabuf);

/* ib_umem_pfn_dma.c */
void umem_dma_stop_all(struct ib_umem_pfn *umem, bool revoked);

/* ib_umem_pfn_vma.c */
int umem_va_init(void);

#endif /* _IB_UMEM_PFN_PRIV_H */
