/* SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB */
/* Shared between the files of module dma_buf_pfn only. */
#ifndef _DMA_BUF_PFN_PRIV_H
#define _DMA_BUF_PFN_PRIV_H

#include <linux/dma-buf-pfn.h>
#include <linux/pgtable.h>

/**
 * struct pfn_loan - a list of ranges that has been checked and is in use
 * @pub: what importers see
 * @dmabuf: whose ranges they are
 * @pfn: the buffer it belongs to, NULL if a bridge has made it
 * @users: borrowers, plus one for being @pfn's current loan; under the
 *	reservation lock
 * @kva: lazily made kernel mapping of the whole buffer, see loan_kmap
 */
struct pfn_loan {
	struct dma_buf_pfn_loan pub;
	struct dma_buf *dmabuf;
	struct dma_buf_pfn *pfn;
	unsigned int users;
	void *kva;
};

/**
 * struct dma_buf_pfn - the framework's side of an exported buffer
 * @dmabuf: the dma-buf
 * @mapping: of its inode, which may outlive its file (O_PATH through /proc)
 * @ops: exporter's callbacks
 * @caps: &enum dma_buf_pfn_cap
 * @priv: exporter's
 * @loan: current loan or NULL
 * @vmap_loan: what a dma_buf_vmap() user sees, or NULL
 * @nr_still: users that forbid a move
 * @nr_pinned: those of them that forbid a revoke, too
 * @revoked: nobody may borrow; for good if @removed
 * @removed: the device is gone
 *
 * Everything from @loan on is protected by the reservation lock.
 */
struct dma_buf_pfn {
	struct dma_buf *dmabuf;
	struct address_space *mapping;
	const struct dma_buf_pfn_ops *ops;
	unsigned long caps;
	void *priv;

	struct pfn_loan *loan;
	struct pfn_loan *vmap_loan;
	unsigned int nr_still;
	unsigned int nr_pinned;
	bool revoked;
	bool removed;
};

/* A loan that importers know by its public part. */
static inline struct pfn_loan *pfn_loan_of(const struct dma_buf_pfn_loan *pub)
{
	return container_of((struct dma_buf_pfn_loan *)pub, struct pfn_loan,
			    pub);
}

/* dma_buf_pfn_check.c */
int pfn_loan_check(struct pfn_loan *loan);

/* dma_buf_pfn_loan.c */
int pfn_loan_init(struct pfn_loan *loan);
void pfn_loan_fini(struct pfn_loan *loan);
struct pfn_loan *pfn_loan_get(struct dma_buf_pfn *pfn);
void pfn_loan_put(struct pfn_loan *loan);
void pfn_loan_drop_current(struct dma_buf_pfn *pfn);
void *pfn_loan_kmap(struct pfn_loan *loan);
pgprot_t pfn_lend_prot(const struct dma_buf_pfn_lend *lend, pgprot_t prot);

/* dma_buf_pfn_bridge.c */
bool pfn_bridge_wanted(const struct dma_buf *dmabuf);
int pfn_bridge_attach(struct dma_buf_pfn_attachment *a, struct dma_buf *dmabuf,
		      struct device *dev);
void pfn_bridge_detach(struct dma_buf_pfn_attachment *a);
int pfn_bridge_map(struct dma_buf_pfn_attachment *a, bool intr);
void pfn_bridge_unmap(struct dma_buf_pfn_attachment *a);
size_t pfn_bridge_bytes(const struct dma_buf_pfn_attachment *a);

/* dma_buf_pfn_helpers.c */
struct sg_table *pfn_map_dma_buf(struct dma_buf_attachment *attach,
				 enum dma_data_direction dir);
void pfn_unmap_dma_buf(struct dma_buf_attachment *attach, struct sg_table *sgt,
		       enum dma_data_direction dir);
int pfn_mmap(struct dma_buf *dmabuf, struct vm_area_struct *vma);
int pfn_vmap(struct dma_buf *dmabuf, struct iosys_map *map);
void pfn_vunmap(struct dma_buf *dmabuf, struct iosys_map *map);

#endif /* _DMA_BUF_PFN_PRIV_H */
