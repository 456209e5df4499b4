// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * A umem for a device that does DMA: mapping, and page lists for its page table.
 *
 * The state of a mapping follows that of the umem. A driver maps when it needs
 * to, gives the addresses to its device while it still holds the reservation
 * lock, and is told by the stop callback, under the same lock, when they end:
 *
 *	err = ib_umem_pfn_dma_map_and_lock(umem, &mr->dma, dev, 0, length);
 *	if (!err) {
 *		... write mr->dma.map into the device's page table ...
 *		ib_umem_pfn_unlock(umem);
 *	}
 *
 * What the device does with an access between a stop and the next map is up to
 * it: a page fault that makes the driver map again, or an error.
 */
#include <linux/bitops.h>
#include <linux/count_zeros.h>
#include <linux/dma-resv.h>
#include <linux/export.h>
#include <linux/log2.h>
#include <linux/overflow.h>

#include "ib_umem_pfn_priv.h"

static void dma_stop(struct ib_umem_pfn_dma *dma, bool revoked)
{
	dma->stop(dma, revoked);
	dma_buf_pfn_dma_unmap(&dma->map);
	list_del_init(&dma->node);
}

/**
 * umem_dma_stop_all - no device is to touch the memory any more
 * @umem: the umem, reservation lock held
 * @revoked: for good
 */
void umem_dma_stop_all(struct ib_umem_pfn *umem, bool revoked)
{
	struct ib_umem_pfn_dma *dma, *next;

	dma_resv_assert_held(umem->dmabuf->resv);

	list_for_each_entry_safe(dma, next, &umem->dma_maps, node)
		dma_stop(dma, revoked);
}

/**
 * ib_umem_pfn_dma_map_and_lock - let a device see (a part of) a umem
 * @umem: the umem, of ib_umem_pfn_get_for_dma() or ib_umem_pfn_get()
 * @dma: the mapping; if it is mapped already nothing is done
 * @dev: the device
 * @offset: first byte
 * @length: bytes
 *
 * Waits for a move that is on its way. The device may read, and write if the
 * umem is writable. On success the reservation lock is held: the mapping is
 * valid until ib_umem_pfn_unlock(), and after that until @dma->stop has been
 * called.
 *
 * Context: process context, may sleep; reservation lock not held.
 * Return: 0; -ENODEV once revoked; -EINVAL outside of the umem; -ETIMEDOUT,
 * -EINTR, -ERESTARTSYS, -ENOMEM or the exporter's error as for a prefetch; or an
 * error of dma_buf_pfn_dma_map(), with @dma->map.reason.
 */
int ib_umem_pfn_dma_map_and_lock(struct ib_umem_pfn *umem,
				 struct ib_umem_pfn_dma *dma,
				 struct device *dev, u64 offset, u64 length)
{
	int err;

	dma->map.reason = NULL;
	if (offset > umem->length || length > umem->length - offset)
		return -EINVAL;
	err = umem_map_and_lock(umem);
	if (err)
		return err;
	if (dma->map.bus != PFN_DMA_UNMAPPED)
		return 0;

	err = dma_buf_pfn_dma_map(&dma->map, umem->loan, dev,
				  umem->offset + offset, length,
				  umem->writable ? DMA_BIDIRECTIONAL :
						   DMA_TO_DEVICE);
	if (err) {
		ib_umem_pfn_unlock(umem);
		return err;
	}
	dma->umem = umem;
	list_add_tail(&dma->node, &umem->dma_maps);
	return 0;
}
EXPORT_SYMBOL_NS_GPL(ib_umem_pfn_dma_map_and_lock, "IB_UMEM_PFN");

/**
 * ib_umem_pfn_lock - keep mappings as they are
 * @umem: the umem
 *
 * Takes the reservation lock, to look at a mapping without making one. Don't
 * hold it for long: others share the buffer.
 */
void ib_umem_pfn_lock(struct ib_umem_pfn *umem)
{
	dma_resv_lock(umem->dmabuf->resv, NULL);
}
EXPORT_SYMBOL_NS_GPL(ib_umem_pfn_lock, "IB_UMEM_PFN");

/**
 * ib_umem_pfn_unlock - the exporter may do as it likes again
 * @umem: the umem, after ib_umem_pfn_dma_map_and_lock() or ib_umem_pfn_lock()
 */
void ib_umem_pfn_unlock(struct ib_umem_pfn *umem)
{
	dma_resv_unlock(umem->dmabuf->resv);
}
EXPORT_SYMBOL_NS_GPL(ib_umem_pfn_unlock, "IB_UMEM_PFN");

/**
 * ib_umem_pfn_dma_unmap - the device does not need it any more
 * @umem: the umem
 * @dma: one of its mappings; ignored if not mapped
 *
 * The device must have stopped using it; @dma->stop is not called. Anybody's
 * stop callback that runs has returned when this does.
 *
 * Context: process context, may sleep; reservation lock not held.
 */
void ib_umem_pfn_dma_unmap(struct ib_umem_pfn *umem,
			   struct ib_umem_pfn_dma *dma)
{
	dma_resv_lock(umem->dmabuf->resv, NULL);
	if (dma->map.bus != PFN_DMA_UNMAPPED) {
		dma_buf_pfn_dma_unmap(&dma->map);
		list_del_init(&dma->node);
	}
	dma_resv_unlock(umem->dmabuf->resv);
}
EXPORT_SYMBOL_NS_GPL(ib_umem_pfn_dma_unmap, "IB_UMEM_PFN");

/*
 * Address bits that differ between the device's view and DMA addresses, or that
 * a block must not cross: no block can be larger than the lowest of them.
 */
static u64 differing_bits(const struct pfn_dma_map *map, u64 iova)
{
	u64 in_page = map->offset & ~PAGE_MASK;
	u64 va = iova, bits = 0;
	struct pfn_dma_iter e;
	dma_addr_t end = 0;
	bool first = true;

	pfn_dma_for_each_extent(map, &e) {
		if (first || e.addr != end) {
			bits |= (e.addr + in_page) ^ va;
			/* Where memory jumps a block has to begin. */
			if (!first)
				bits |= va;
		}
		end = e.addr + e.len;
		va += e.len - in_page;
		in_page = 0;
		first = false;
	}
	return bits;
}

/**
 * ib_umem_pfn_best_pgsz - block size for a device's page table
 * @map: the mapping, reservation lock held or otherwise known to stay
 * @pgsz_bitmap: block sizes that the device has, each a bit
 * @iova: where the device's users see the first byte
 *
 * The smallest that makes the fewest blocks, as ib_umem_find_best_pgsz() does.
 *
 * Return: bytes; 0 if the device has none that fits.
 */
unsigned long ib_umem_pfn_best_pgsz(const struct pfn_dma_map *map,
				    unsigned long pgsz_bitmap, u64 iova)
{
	u64 bits, last;
	unsigned int cover;

	if (check_add_overflow(iova, map->length - 1, &last))
		return 0;
	bits = differing_bits(map, iova);
	/* Nothing is gained by blocks larger than one that holds it all. */
	cover = bits_per(iova ^ last);
	if (cover < BITS_PER_LONG)
		bits |= pgsz_bitmap & GENMASK(BITS_PER_LONG - 1, cover);
	if (bits)
		pgsz_bitmap &= GENMASK(count_trailing_zeros(bits), 0);
	return pgsz_bitmap ? rounddown_pow_of_two(pgsz_bitmap) : 0;
}
EXPORT_SYMBOL_NS_GPL(ib_umem_pfn_best_pgsz, "IB_UMEM_PFN");

/**
 * ib_umem_pfn_num_blocks - entries that a page table needs
 * @map: the mapping
 * @pgsz: as for ib_umem_pfn_for_each_block()
 */
size_t ib_umem_pfn_num_blocks(const struct pfn_dma_map *map,
			      unsigned long pgsz)
{
	/* With a good block size DMA address and iova agree below it. */
	u64 in_block = pfn_dma_map_addr(map, 0, NULL) & (pgsz - 1);

	return ((in_block + map->length - 1) >> __ffs(pgsz)) + 1;
}
EXPORT_SYMBOL_NS_GPL(ib_umem_pfn_num_blocks, "IB_UMEM_PFN");

/**
 * ib_umem_pfn_block_iter_start - begin ib_umem_pfn_for_each_block()
 * @biter: the iterator
 * @map: the mapping
 * @pgsz: bytes of a block
 *
 * Return: @biter.
 */
struct ib_umem_pfn_block_iter *
ib_umem_pfn_block_iter_start(struct ib_umem_pfn_block_iter *biter,
			     const struct pfn_dma_map *map, unsigned long pgsz)
{
	*biter = (struct ib_umem_pfn_block_iter) {
		/* Blocks smaller than a page begin where the bytes do. */
		.skip = (map->offset & ~PAGE_MASK) & ~(pgsz - 1),
		.left = ib_umem_pfn_num_blocks(map, pgsz),
		.pgsz = pgsz,
	};
	pfn_dma_iter_start(&biter->extent, map);
	pfn_dma_iter_next(&biter->extent);
	return biter;
}
EXPORT_SYMBOL_NS_GPL(ib_umem_pfn_block_iter_start, "IB_UMEM_PFN");

/**
 * ib_umem_pfn_block_iter_next - on to the next block
 * @biter: the iterator
 *
 * Return: false if there are no more.
 */
bool ib_umem_pfn_block_iter_next(struct ib_umem_pfn_block_iter *biter)
{
	u64 at;

	if (!biter->left)
		return false;
	biter->left--;

	at = biter->extent.addr + biter->skip;
	biter->addr = at & ~((u64)biter->pgsz - 1);
	biter->skip += biter->pgsz - (at - biter->addr);
	/* A block may hold several extents whose addresses follow each other. */
	while (biter->left && biter->skip >= biter->extent.len) {
		biter->skip -= biter->extent.len;
		pfn_dma_iter_next(&biter->extent);
	}
	return true;
}
EXPORT_SYMBOL_NS_GPL(ib_umem_pfn_block_iter_next, "IB_UMEM_PFN");
