/* SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB */
/*
 * dma_buf_pfn: dma-bufs that lend their physical ranges.
 *
 * The words, used the same way everywhere in this project:
 *
 * exporter	owns the memory; writes &struct dma_buf_pfn_ops and gets
 *		everything a dma-buf has to offer (sg_table, mmap, vmap) for free
 * importer	uses the memory; attaches with a mode and borrows a loan
 * loan		the exporter's list of physical ranges, checked once, shared
 *		read-only by all importers, valid until each has given it back
 * mode		what both sides have agreed on, see &enum dma_buf_pfn_mode
 * invalidate	the exporter takes its loan back because the memory moves
 * revoke	the exporter takes its loan back; whoever had it never gets another
 *
 * The exporter stays in charge: it opts in by calling dma_buf_pfn_export(), it
 * says what kind of memory it lends and how a CPU has to map it, it lends a
 * const list, it can see every importer and its mode, and whenever it must it
 * takes the list back and nothing touches the old memory from then on.
 *
 * An importer that wants to may also attach to dma-bufs whose exporters have
 * never heard of all this; a bridge then makes a loan of what they do offer.
 *
 * The full contract, rule by rule, is docs/access-rules.md.
 */
#ifndef _LINUX_DMA_BUF_PFN_H
#define _LINUX_DMA_BUF_PFN_H

#include <linux/bits.h>
#include <linux/dma-buf.h>
#include <linux/types.h>

/*
 * How long importers wait for the exporter's move to finish. An MR that is being
 * used must go away within the 50 s that rxe grants (rxe_pool.c), so this is well
 * below.
 */
#define DMA_BUF_PFN_MOVE_TIMEOUT	(10 * HZ)

struct dma_buf_pfn;
struct p2pdma_provider;
struct seq_file;

/**
 * enum dma_buf_pfn_cap - what an exporter promises and what it reserves
 * @DMA_BUF_PFN_CAN_PIN: holds still (no move, no revoke) while somebody pins
 * @DMA_BUF_PFN_MAY_MOVE: may change the physical ranges at any time
 * @DMA_BUF_PFN_MAY_REVOKE: may withdraw the memory for good
 *
 * An exporter with neither @DMA_BUF_PFN_MAY_MOVE nor @DMA_BUF_PFN_MAY_REVOKE
 * holds still without being asked, so every mode suits it.
 */
enum dma_buf_pfn_cap {
	DMA_BUF_PFN_CAN_PIN	= BIT(0),
	DMA_BUF_PFN_MAY_MOVE	= BIT(1),
	DMA_BUF_PFN_MAY_REVOKE	= BIT(2),
};

/**
 * enum dma_buf_pfn_mode - what importer and exporter agree on at attach
 * @DMA_BUF_PFN_DEFAULT: only as an argument: %DMA_BUF_PFN_DYNAMIC if the
 *	exporter may move, else %DMA_BUF_PFN_REVOCABLE if it may revoke, else
 *	%DMA_BUF_PFN_PINNED
 * @DMA_BUF_PFN_PINNED: exporter neither moves nor revokes while mapped
 * @DMA_BUF_PFN_REVOCABLE: exporter does not move while mapped, may revoke
 * @DMA_BUF_PFN_DYNAMIC: exporter may move and revoke at any time
 */
enum dma_buf_pfn_mode {
	DMA_BUF_PFN_DEFAULT,
	DMA_BUF_PFN_PINNED,
	DMA_BUF_PFN_REVOCABLE,
	DMA_BUF_PFN_DYNAMIC,
};

/**
 * enum dma_buf_pfn_kind - what stands behind the ranges
 * @DMA_BUF_PFN_RAM: RAM with struct page and in the kernel's direct map
 * @DMA_BUF_PFN_RAM_NOPAGE: RAM without one of the two
 * @DMA_BUF_PFN_MMIO: device memory, for example a PCI BAR
 * @DMA_BUF_PFN_VMAP: unknown: no ranges are lent, but a kernel mapping of the
 *	whole buffer, see dma_buf_pfn_loan_kmap(). Only from a bridge, see
 *	&dma_buf_pfn_importer_ops.allow_bridge.
 */
enum dma_buf_pfn_kind {
	DMA_BUF_PFN_RAM,
	DMA_BUF_PFN_RAM_NOPAGE,
	DMA_BUF_PFN_MMIO,
	DMA_BUF_PFN_VMAP,
};

/**
 * enum dma_buf_pfn_caching - how a CPU has to map the ranges
 * @DMA_BUF_PFN_WB: write-back; the only choice for %DMA_BUF_PFN_RAM. Of
 *	%DMA_BUF_PFN_VMAP: ordinary loads and stores, however it is cached
 * @DMA_BUF_PFN_WC: write-combining
 * @DMA_BUF_PFN_UC: uncached
 */
enum dma_buf_pfn_caching {
	DMA_BUF_PFN_WB,
	DMA_BUF_PFN_WC,
	DMA_BUF_PFN_UC,
};

/**
 * struct dma_buf_pfn_lend - what dma_buf_pfn_ops.map fills in
 * @vec: the ranges in buffer order, each a positive multiple of PAGE_SIZE at a
 *	page boundary, together as long as the dma-buf, none overlapping another;
 *	owned by the exporter, valid and unchanged until dma_buf_pfn_ops.unmap
 * @nr: number of ranges
 * @kind: what they are
 * @caching: how a CPU maps them
 * @provider: whose MMIO it is; required for %DMA_BUF_PFN_MMIO if the buffer is
 *	to be reachable for legacy (scatterlist) importers
 * @iomem: optional, of %DMA_BUF_PFN_MMIO: a kernel mapping that the exporter has
 *	anyway, of the whole buffer in its order, cached as @caching says. Spares
 *	importers that copy by CPU one for each placement. Not for legacy importers,
 *	who may let go late: it has to stay until dma_buf_pfn_invalidate(), _revoke()
 *	or _remove() has returned, or dma_buf_pfn_ops.unmap was called
 * @cookie: the exporter's own, handed back at unmap
 */
struct dma_buf_pfn_lend {
	const struct phys_vec *vec;
	size_t nr;
	enum dma_buf_pfn_kind kind;
	enum dma_buf_pfn_caching caching;
	struct p2pdma_provider *provider;
	void __iomem *iomem;
	void *cookie;
};

/**
 * struct dma_buf_pfn_ops - all an exporter has to write
 */
struct dma_buf_pfn_ops {
	/**
	 * @map: lend the ranges of the present placement. Called with the
	 * reservation lock held, once per placement and not once per importer:
	 * the list is checked and shared until the exporter takes it back. May
	 * sleep. Returns 0 or a negative errno that reaches the importer.
	 */
	int (*map)(struct dma_buf_pfn *pfn, struct dma_buf_pfn_lend *lend);

	/**
	 * @unmap: the last user has given @lend back. Called with the
	 * reservation lock held, except from the final release of the dma-buf
	 * (when nobody else can hold it). A legacy importer may give a list back
	 * some time after an invalidation, so the exporter must keep what
	 * @lend->cookie stands for alive until then.
	 */
	void (*unmap)(struct dma_buf_pfn *pfn,
		      const struct dma_buf_pfn_lend *lend);

	/** @release: the dma-buf is gone. No lock held. */
	void (*release)(struct dma_buf_pfn *pfn);
};

/**
 * struct dma_buf_pfn_export_info - arguments of dma_buf_pfn_export()
 * @exp_name: exporter's name in debugfs and fdinfo
 * @owner: module that must stay while the dma-buf exists
 * @ops: the exporter's callbacks
 * @caps: mask of &enum dma_buf_pfn_cap
 * @size: bytes, a positive multiple of PAGE_SIZE
 * @flags: open flags of the file (O_RDONLY, O_RDWR)
 * @resv: reservation object to use, or NULL for one of its own
 * @priv: for the exporter, see dma_buf_pfn_priv()
 */
struct dma_buf_pfn_export_info {
	const char *exp_name;
	struct module *owner;
	const struct dma_buf_pfn_ops *ops;
	unsigned long caps;
	size_t size;
	int flags;
	struct dma_resv *resv;
	void *priv;
};

/* Exporter's side */
struct dma_buf *
dma_buf_pfn_export(const struct dma_buf_pfn_export_info *info);
struct dma_buf_pfn *to_dma_buf_pfn(struct dma_buf *dmabuf);
void *dma_buf_pfn_priv(struct dma_buf_pfn *pfn);
struct dma_buf *dma_buf_pfn_dmabuf(struct dma_buf_pfn *pfn);
bool dma_buf_pfn_exported_by(struct dma_buf *dmabuf,
			     const struct dma_buf_pfn_ops *ops);
int dma_buf_pfn_invalidate(struct dma_buf_pfn *pfn);
int dma_buf_pfn_revoke(struct dma_buf_pfn *pfn);
int dma_buf_pfn_unrevoke(struct dma_buf_pfn *pfn);
void dma_buf_pfn_remove(struct dma_buf_pfn *pfn);
bool dma_buf_pfn_is_pinned(struct dma_buf_pfn *pfn);
bool dma_buf_pfn_is_revoked(struct dma_buf_pfn *pfn);
unsigned int dma_buf_pfn_nr_attachments(struct dma_buf_pfn *pfn);
void dma_buf_pfn_show_importers(struct dma_buf_pfn *pfn, struct seq_file *m);

/**
 * struct dma_buf_pfn_loan - the ranges as importers see them
 * @lend: what the exporter said
 * @size: bytes, the dma-buf's size
 * @stride: if not 0, every range but the last is this long
 * @page_size: the largest power of two that the address and the length of every
 *	range are a multiple of, bytes
 * @skip: byte offset at which every 64th range starts, or NULL if @stride says
 *	it all; 8 bytes for 64 ranges, once per placement however many importers
 *
 * Constant while borrowed. Use dma_buf_pfn_loan_find() to look things up.
 */
struct dma_buf_pfn_loan {
	struct dma_buf_pfn_lend lend;
	u64 size;
	u64 stride;
	u64 page_size;
	const u64 *skip;
};

struct dma_buf_pfn_attachment;
struct pfn_bridge;

/**
 * enum dma_buf_pfn_backend - what a loan is made of
 * @DMA_BUF_PFN_BACKEND_RANGES: the exporter lends its ranges
 * @DMA_BUF_PFN_BACKEND_VMAP: the exporter knows nothing of ranges and maps the
 *	buffer into the kernel's address space (&dma_buf_ops.vmap)
 * @DMA_BUF_PFN_BACKEND_P2P: the exporter knows nothing of ranges, does not map
 *	for the kernel, but tells PCI devices the bus addresses of a BAR
 */
enum dma_buf_pfn_backend {
	DMA_BUF_PFN_BACKEND_RANGES,
	DMA_BUF_PFN_BACKEND_VMAP,
	DMA_BUF_PFN_BACKEND_P2P,
};

/**
 * struct dma_buf_pfn_importer_ops - what an importer has to write
 */
struct dma_buf_pfn_importer_ops {
	/**
	 * @allow_bridge: dma-bufs whose exporters lend no ranges are welcome,
	 * too. Loans may then be of kind %DMA_BUF_PFN_VMAP, for the CPU only.
	 */
	bool allow_bridge;

	/**
	 * @invalidate: give the loan back, now: when this returns, nothing may
	 * touch the ranges any more and dma_buf_pfn_unmap() must have been
	 * called (if it was mapped). Called with the reservation lock held and
	 * must not take long. @revoked says it is for good. Required in every
	 * mode: even a PINNED buffer goes when its device is pulled out.
	 */
	void (*invalidate)(struct dma_buf_pfn_attachment *attach, bool revoked);
};

/**
 * struct dma_buf_pfn_attachment - an importer's side of the contract
 * @attach: the dma-buf attachment underneath
 * @mode: what was agreed on, never %DMA_BUF_PFN_DEFAULT
 * @ops: importer's callbacks
 * @priv: for the importer
 * @loan: what is borrowed now, or NULL; changes under the reservation lock
 * @revoked: was attached at a revoke and never gets another loan; changes under
 *	the reservation lock
 * @backend: what its loans are made of
 * @bridge: to an exporter that does not lend, or NULL
 */
struct dma_buf_pfn_attachment {
	struct dma_buf_attachment *attach;
	enum dma_buf_pfn_mode mode;
	const struct dma_buf_pfn_importer_ops *ops;
	void *priv;
	const struct dma_buf_pfn_loan *loan;
	bool revoked;
	enum dma_buf_pfn_backend backend;
	struct pfn_bridge *bridge;
};

/* Importer's side */
bool dma_buf_is_pfn(const struct dma_buf *dmabuf);
struct dma_buf_pfn_attachment *
dma_buf_pfn_attach(struct dma_buf *dmabuf, struct device *dev,
		   enum dma_buf_pfn_mode mode,
		   const struct dma_buf_pfn_importer_ops *ops, void *priv);
void dma_buf_pfn_detach(struct dma_buf_pfn_attachment *attach);
const struct dma_buf_pfn_loan *
dma_buf_pfn_map(struct dma_buf_pfn_attachment *attach);
const struct dma_buf_pfn_loan *
dma_buf_pfn_map_interruptible(struct dma_buf_pfn_attachment *attach);
void dma_buf_pfn_unmap(struct dma_buf_pfn_attachment *attach);
int dma_buf_pfn_lookup(struct dma_buf_pfn_attachment *attach, pgoff_t pgoff,
		       unsigned long *pfn, unsigned int *max_order);
size_t dma_buf_pfn_loan_find(const struct dma_buf_pfn_loan *loan, u64 offset,
			     u64 *start);
void *dma_buf_pfn_loan_kmap(const struct dma_buf_pfn_loan *loan);
size_t dma_buf_pfn_attachment_bytes(const struct dma_buf_pfn_attachment *attach);

#endif /* _LINUX_DMA_BUF_PFN_H */
