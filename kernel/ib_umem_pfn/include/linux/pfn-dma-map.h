/* SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB */
/*
 * pfn_dma_map: where a device sees (a part of) a loan.
 *
 * A scatterlist mixes what memory is with where a device sees it, and says
 * neither which bus an address belongs to nor how to access it. Here the loan
 * says what the memory is, and &struct pfn_dma_map where one device sees it,
 * by which bus, and how it has to be accessed. It takes the same few bytes
 * whatever the fragmentation:
 *
 * IOVA		all of it is one range of the device's IOMMU address space
 * DIRECT	no translation per device: an address is computed from the
 *		physical address in the loan
 * P2P_BUS	memory of a PCI device behind a switch that both share, reached
 *		without the host bridge: an address on that bus
 *
 * There is never a bounce buffer: a device that cannot reach the memory is
 * refused, with a reason.
 */
#ifndef _LINUX_PFN_DMA_MAP_H
#define _LINUX_PFN_DMA_MAP_H

#include <linux/dma-mapping.h>
#include <linux/types.h>

struct dma_buf_pfn_loan;

/**
 * enum pfn_dma_bus - whose addresses a mapping consists of
 * @PFN_DMA_UNMAPPED: there is none
 * @PFN_DMA_IOVA: the IOMMU's; one range
 * @PFN_DMA_DIRECT: the host bridge's, as the CPU sees them but for a constant
 *	offset where a platform has one; one address for each range of the loan
 * @PFN_DMA_P2P_BUS: the PCI bus's, valid below the switch that both devices
 *	share; one address for each range of the loan
 */
enum pfn_dma_bus {
	PFN_DMA_UNMAPPED,
	PFN_DMA_IOVA,
	PFN_DMA_DIRECT,
	PFN_DMA_P2P_BUS,
};

/**
 * struct pfn_dma_map - a part of a loan as one device sees it
 * @bus: whose addresses they are
 * @coherent: CPUs may hold the memory in their caches, which the device has to
 *	snoop: don't set "No Snoop" in transactions. If false nobody caches it.
 * @dir: what the device may do; with an IOMMU that is enforced
 * @offset: first byte in the dma-buf
 * @length: bytes
 * @extents: number of pieces with consecutive addresses, see
 *	pfn_dma_for_each_extent()
 * @reason: a sentence that says why dma_buf_pfn_dma_map() failed, or NULL
 * @dev: the device
 * @loan: private: the ranges
 * @first: private: the first range that is a part of it
 * @first_start: private: offset in the dma-buf at which that range starts
 * @attrs: private: what the DMA API was told
 * @iova: private: for %PFN_DMA_IOVA
 * @delta: private: else, an address is the physical one plus this
 * @addrs: private: unless that isn't so; then one address for each range
 *
 * Constant while mapped.
 */
struct pfn_dma_map {
	enum pfn_dma_bus bus;
	bool coherent;
	enum dma_data_direction dir;
	u64 offset;
	u64 length;
	u64 extents;
	const char *reason;

	struct device *dev;
	const struct dma_buf_pfn_loan *loan;
	size_t first;
	u64 first_start;
	unsigned long attrs;
	struct dma_iova_state iova;
	u64 delta;
	dma_addr_t *addrs;
};

int dma_buf_pfn_dma_map(struct pfn_dma_map *map,
			const struct dma_buf_pfn_loan *loan, struct device *dev,
			u64 offset, u64 length, enum dma_data_direction dir);
void dma_buf_pfn_dma_unmap(struct pfn_dma_map *map);
size_t pfn_dma_map_metadata(const struct pfn_dma_map *map);
dma_addr_t pfn_dma_map_addr(const struct pfn_dma_map *map, u64 offset,
			    u64 *contiguous);

/**
 * struct pfn_dma_iter - walks over a mapping
 * @addr: DMA address of the present extent
 * @len: its bytes; extents are whole pages, so the first begins at the page
 *	that holds the mapping's first byte and the last ends with a page
 * @map: private
 * @index: private: the next range
 * @start: private: offset in the dma-buf at which that range starts
 */
struct pfn_dma_iter {
	dma_addr_t addr;
	u64 len;
	const struct pfn_dma_map *map;
	size_t index;
	u64 start;
};

struct pfn_dma_iter *pfn_dma_iter_start(struct pfn_dma_iter *iter,
					const struct pfn_dma_map *map);
bool pfn_dma_iter_next(struct pfn_dma_iter *iter);

/**
 * pfn_dma_for_each_extent - for each piece with consecutive DMA addresses
 * @map: the mapping
 * @iter: a &struct pfn_dma_iter; its addr and len are the piece
 */
#define pfn_dma_for_each_extent(map, iter)				\
	for (struct pfn_dma_iter *__iter = pfn_dma_iter_start(iter, map);	\
	     pfn_dma_iter_next(__iter);)

#endif /* _LINUX_PFN_DMA_MAP_H */
