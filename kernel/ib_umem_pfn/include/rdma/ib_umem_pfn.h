/* SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB */
/*
 * ib_umem_pfn: memory of an RDMA memory region that lives in a dma-buf and is
 * reached by the physical ranges which its exporter lends.
 *
 * A umem is ABSENT, PRESENT or REVOKED. An access to an ABSENT umem maps it
 * first ("fault"); the exporter makes a PRESENT one ABSENT whenever it moves
 * the buffer ("invalidation"), or REVOKED for good.
 */
#ifndef _RDMA_IB_UMEM_PFN_H
#define _RDMA_IB_UMEM_PFN_H

#include <linux/types.h>
#include <rdma/ib_user_ioctl_verbs.h>
#include <rdma/pfn_mr_abi.h>

struct ib_device;
struct ib_umem_pfn;

/**
 * struct ib_umem_pfn_attr - arguments of ib_umem_pfn_get()
 * @fd: dma-buf file descriptor of the current process
 * @offset: first byte of the dma-buf that the umem covers
 * @length: number of bytes
 * @access: mask of &enum ib_access_flags; says whether the umem is written to
 * @mode: mode to attach with
 * @eventfd: eventfd of the current process to be signalled when the memory is
 *	revoked, or -1
 * @reason: out: a sentence that says why it failed, or NULL
 */
struct ib_umem_pfn_attr {
	int fd;
	u64 offset;
	u64 length;
	int access;
	enum pfn_mr_mode mode;
	int eventfd;
	const char *reason;
};

struct ib_umem_pfn *ib_umem_pfn_get(struct ib_device *ibdev,
				    struct ib_umem_pfn_attr *attr);
void ib_umem_pfn_release(struct ib_umem_pfn *umem);
int ib_umem_pfn_change_access(struct ib_umem_pfn *umem, int access);
int ib_umem_pfn_check_prefetch(struct ib_umem_pfn *umem, u64 offset, u64 length,
			       enum ib_uverbs_advise_mr_advice advice);
int ib_umem_pfn_prefetch(struct ib_umem_pfn *umem, u64 offset, u64 length,
			 enum ib_uverbs_advise_mr_advice advice);

/* CPU access, for soft devices. Offsets are from the start of the umem. */
int ib_umem_pfn_copy_to(struct ib_umem_pfn *umem, u64 offset,
			const void *src, size_t length);
int ib_umem_pfn_copy_from(struct ib_umem_pfn *umem, u64 offset,
			  void *dst, size_t length);
int ib_umem_pfn_fetch_add(struct ib_umem_pfn *umem, u64 offset, u64 add,
			  u64 *orig);
int ib_umem_pfn_cmp_swap(struct ib_umem_pfn *umem, u64 offset, u64 compare,
			 u64 swap, u64 *orig);
int ib_umem_pfn_store(struct ib_umem_pfn *umem, u64 offset, u64 value);

void ib_umem_pfn_query(struct ib_umem_pfn *umem, struct pfn_mr_info *info);

#endif /* _RDMA_IB_UMEM_PFN_H */
