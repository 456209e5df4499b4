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

#include <linux/list.h>
#include <linux/pfn-dma-map.h>
#include <linux/types.h>
#include <rdma/ib_user_ioctl_verbs.h>
#include <rdma/pfn_mr_abi.h>

struct device;
struct ib_device;
struct ib_umem_pfn;

/**
 * struct ib_umem_pfn_attr - arguments of ib_umem_pfn_get() and its kin
 * @fd: dma-buf file descriptor of the current process
 * @offset: first byte of the dma-buf that the umem covers
 * @length: number of bytes
 * @access: mask of &enum ib_access_flags; says whether the umem is written to
 * @readonly: no right that writes may be added later, even if the dma-buf was
 *	exported for writing
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
	bool readonly;
	enum pfn_mr_mode mode;
	int eventfd;
	const char *reason;
};

struct ib_umem_pfn *ib_umem_pfn_get(struct ib_device *ibdev,
				    struct ib_umem_pfn_attr *attr);
bool ib_umem_pfn_va_is_ordinary(u64 addr);
struct ib_umem_pfn *ib_umem_pfn_get_va(struct ib_device *ibdev, u64 addr,
				       struct ib_umem_pfn_attr *attr);
struct ib_umem_pfn *ib_umem_pfn_get_for_dma(struct device *dev,
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

/**
 * struct ib_umem_pfn_dma - (a part of) a umem as a device sees it
 * @map: the DMA addresses, while mapped; @map.reason after a failure
 * @stop: called with the reservation lock held when the memory goes away,
 *	@revoked says if for good: when it returns the device must have stopped
 *	using @map, which is then undone. Must not take long. Required.
 * @umem: private
 * @node: private
 *
 * A driver embeds it, zeroed, in its MR and sets @stop.
 */
struct ib_umem_pfn_dma {
	struct pfn_dma_map map;
	void (*stop)(struct ib_umem_pfn_dma *dma, bool revoked);
	struct ib_umem_pfn *umem;
	struct list_head node;
};

/* DMA, for devices. Offsets are from the start of the umem. */
int ib_umem_pfn_dma_map_and_lock(struct ib_umem_pfn *umem,
				 struct ib_umem_pfn_dma *dma,
				 struct device *dev, u64 offset, u64 length);
void ib_umem_pfn_lock(struct ib_umem_pfn *umem);
void ib_umem_pfn_unlock(struct ib_umem_pfn *umem);
void ib_umem_pfn_dma_unmap(struct ib_umem_pfn *umem,
			   struct ib_umem_pfn_dma *dma);

unsigned long ib_umem_pfn_best_pgsz(const struct pfn_dma_map *map,
				    unsigned long pgsz_bitmap, u64 iova);
size_t ib_umem_pfn_num_blocks(const struct pfn_dma_map *map,
			      unsigned long pgsz);

/**
 * struct ib_umem_pfn_block_iter - walks over the blocks of a page table
 * @extent: private: the extent that the next block begins in
 * @skip: private: bytes of it that are done
 * @left: private: number of blocks to come
 * @pgsz: private: bytes of a block
 * @addr: private: of the present block
 */
struct ib_umem_pfn_block_iter {
	struct pfn_dma_iter extent;
	u64 skip;
	size_t left;
	unsigned long pgsz;
	dma_addr_t addr;
};

struct ib_umem_pfn_block_iter *
ib_umem_pfn_block_iter_start(struct ib_umem_pfn_block_iter *biter,
			     const struct pfn_dma_map *map, unsigned long pgsz);
bool ib_umem_pfn_block_iter_next(struct ib_umem_pfn_block_iter *biter);

/**
 * ib_umem_pfn_block_addr - aligned DMA address of the present block
 * @biter: the iterator
 */
static inline dma_addr_t
ib_umem_pfn_block_addr(const struct ib_umem_pfn_block_iter *biter)
{
	return biter->addr;
}

/**
 * ib_umem_pfn_for_each_block - for each entry of a hardware page table
 * @map: the mapping, reservation lock held or otherwise known to stay
 * @biter: a &struct ib_umem_pfn_block_iter, see ib_umem_pfn_block_addr()
 * @pgsz: bytes of a block: PAGE_SIZE or less, or what ib_umem_pfn_best_pgsz()
 *	has returned
 *
 * Exactly ib_umem_pfn_num_blocks() times, as rdma_umem_for_each_dma_block().
 */
#define ib_umem_pfn_for_each_block(map, biter, pgsz)			\
	for (struct ib_umem_pfn_block_iter *__biter =			\
		     ib_umem_pfn_block_iter_start(biter, map, pgsz);	\
	     ib_umem_pfn_block_iter_next(__biter);)

void ib_umem_pfn_query(struct ib_umem_pfn *umem, struct pfn_mr_info *info);
const char *ib_umem_pfn_exporter(const struct ib_umem_pfn *umem);

#endif /* _RDMA_IB_UMEM_PFN_H */
