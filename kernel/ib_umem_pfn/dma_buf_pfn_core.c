// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * dma_buf_pfn: the contract between exporters that lend physical ranges and
 * the importers that borrow them.
 *
 * This file has export, attach and map, move and revoke. ..._loan.c checks,
 * shares and searches lists of ranges; ..._helpers.c gives everybody else
 * sg_table, mmap and vmap; ..._bridge.c attaches to exporters that do not lend.
 *
 * Identity: there is one static struct dma_buf_ops, and a dma-buf is pfn
 * capable if and only if it uses it.
 *
 * Locking: all state of a buffer is protected by its dma-buf's reservation
 * lock. Callbacks of importers and exporters are called with it held. Order:
 * mmap_lock, reservation lock, locks of importers.
 *
 * Principle: teardown never fails. An exporter can always get rid of its
 * importers (dma_buf_pfn_remove()) and an importer can always leave.
 */
#include <linux/device.h>
#include <linux/dma-resv.h>
#include <linux/error-injection.h>
#include <linux/export.h>
#include <linux/fs.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/seq_file.h>
#include <linux/slab.h>

#include "dma_buf_pfn_priv.h"

static const struct dma_buf_ops pfn_dma_buf_ops;
static const struct dma_buf_attach_ops pfn_attach_ops;

/**
 * dma_buf_is_pfn - does this dma-buf lend its physical ranges?
 * @dmabuf: any dma-buf
 */
bool dma_buf_is_pfn(const struct dma_buf *dmabuf)
{
	return dmabuf->ops == &pfn_dma_buf_ops;
}
EXPORT_SYMBOL_NS_GPL(dma_buf_is_pfn, "DMA_BUF_PFN");

/**
 * to_dma_buf_pfn - the framework's object behind a dma-buf
 * @dmabuf: any dma-buf
 *
 * Return: NULL unless dma_buf_is_pfn().
 */
struct dma_buf_pfn *to_dma_buf_pfn(struct dma_buf *dmabuf)
{
	return dma_buf_is_pfn(dmabuf) ? dmabuf->priv : NULL;
}
EXPORT_SYMBOL_NS_GPL(to_dma_buf_pfn, "DMA_BUF_PFN");

/**
 * dma_buf_pfn_priv - what the exporter passed as &dma_buf_pfn_export_info.priv
 * @pfn: the buffer
 */
void *dma_buf_pfn_priv(struct dma_buf_pfn *pfn)
{
	return pfn->priv;
}
EXPORT_SYMBOL_NS_GPL(dma_buf_pfn_priv, "DMA_BUF_PFN");

/**
 * dma_buf_pfn_dmabuf - the dma-buf of a buffer
 * @pfn: the buffer
 *
 * Takes no reference. Not valid in &dma_buf_pfn_ops.release.
 */
struct dma_buf *dma_buf_pfn_dmabuf(struct dma_buf_pfn *pfn)
{
	return pfn->dmabuf;
}
EXPORT_SYMBOL_NS_GPL(dma_buf_pfn_dmabuf, "DMA_BUF_PFN");

/**
 * dma_buf_pfn_exported_by - is this dma-buf of that exporter?
 * @dmabuf: any dma-buf
 * @ops: the exporter's callbacks
 */
bool dma_buf_pfn_exported_by(struct dma_buf *dmabuf,
			     const struct dma_buf_pfn_ops *ops)
{
	struct dma_buf_pfn *pfn = to_dma_buf_pfn(dmabuf);

	return pfn && pfn->ops == ops;
}
EXPORT_SYMBOL_NS_GPL(dma_buf_pfn_exported_by, "DMA_BUF_PFN");

/**
 * dma_buf_pfn_is_pinned - does somebody count on the buffer not to move?
 * @pfn: the buffer, reservation lock held
 */
bool dma_buf_pfn_is_pinned(struct dma_buf_pfn *pfn)
{
	dma_resv_assert_held(pfn->dmabuf->resv);
	return pfn->nr_still;
}
EXPORT_SYMBOL_NS_GPL(dma_buf_pfn_is_pinned, "DMA_BUF_PFN");

/**
 * dma_buf_pfn_is_revoked - is the buffer withdrawn?
 * @pfn: the buffer, reservation lock held
 */
bool dma_buf_pfn_is_revoked(struct dma_buf_pfn *pfn)
{
	dma_resv_assert_held(pfn->dmabuf->resv);
	return pfn->revoked;
}
EXPORT_SYMBOL_NS_GPL(dma_buf_pfn_is_revoked, "DMA_BUF_PFN");

/**
 * dma_buf_pfn_nr_attachments - number of importers attached now
 * @pfn: the buffer, reservation lock held
 */
unsigned int dma_buf_pfn_nr_attachments(struct dma_buf_pfn *pfn)
{
	dma_resv_assert_held(pfn->dmabuf->resv);
	return list_count_nodes(&pfn->dmabuf->attachments);
}
EXPORT_SYMBOL_NS_GPL(dma_buf_pfn_nr_attachments, "DMA_BUF_PFN");

static const char *pfn_mode_name(enum dma_buf_pfn_mode mode)
{
	switch (mode) {
	case DMA_BUF_PFN_PINNED:
		return "pinned";
	case DMA_BUF_PFN_REVOCABLE:
		return "revocable";
	case DMA_BUF_PFN_DYNAMIC:
		return "dynamic";
	default:
		return "default";
	}
}

/**
 * dma_buf_pfn_show_importers - one line for each, for an exporter's debugfs
 * @pfn: the buffer, reservation lock held
 * @m: where to
 */
void dma_buf_pfn_show_importers(struct dma_buf_pfn *pfn, struct seq_file *m)
{
	struct dma_buf_attachment *attach;

	dma_resv_assert_held(pfn->dmabuf->resv);

	list_for_each_entry(attach, &pfn->dmabuf->attachments, node) {
		struct dma_buf_pfn_attachment *a = attach->importer_priv;

		if (attach->importer_ops != &pfn_attach_ops)
			seq_printf(m, "  importer %s: legacy\n",
				   dev_name(attach->dev));
		else
			seq_printf(m, "  importer %s: %s, %s\n",
				   dev_name(attach->dev),
				   pfn_mode_name(a->mode),
				   a->loan ? "mapped" :
				   a->revoked ? "revoked" : "not mapped");
	}
}
EXPORT_SYMBOL_NS_GPL(dma_buf_pfn_show_importers, "DMA_BUF_PFN");

static int pfn_check_export_info(const struct dma_buf_pfn_export_info *info)
{
	const unsigned long known = DMA_BUF_PFN_CAN_PIN | DMA_BUF_PFN_MAY_MOVE |
				    DMA_BUF_PFN_MAY_REVOKE;

	if (!info->ops || !info->ops->map || !info->ops->unmap ||
	    !info->ops->release)
		return -EINVAL;
	if (info->caps & ~known)
		return -EINVAL;
	if (!info->size || !PAGE_ALIGNED(info->size))
		return -EINVAL;
	return 0;
}

/**
 * dma_buf_pfn_export - make a dma-buf that lends its ranges
 * @info: what to export
 *
 * No callback runs before this returns. On success the caller owns the one
 * reference (dma_buf_fd() or dma_buf_put() consumes it), and
 * &dma_buf_pfn_ops.release will be called; on failure it will not.
 *
 * Context: process context, may sleep.
 * Return: the dma-buf; ERR_PTR(-EINVAL) for bad arguments, or what
 * dma_buf_export() returns.
 */
struct dma_buf *
dma_buf_pfn_export(const struct dma_buf_pfn_export_info *info)
{
	DEFINE_DMA_BUF_EXPORT_INFO(exp);
	struct dma_buf_pfn *pfn;
	struct dma_buf *dmabuf;
	int err;

	err = pfn_check_export_info(info);
	if (err)
		return ERR_PTR(err);

	pfn = kzalloc_obj(*pfn);
	if (!pfn)
		return ERR_PTR(-ENOMEM);

	pfn->ops = info->ops;
	pfn->caps = info->caps;
	pfn->priv = info->priv;

	exp.exp_name = info->exp_name;
	exp.owner = info->owner;
	exp.ops = &pfn_dma_buf_ops;
	exp.size = info->size;
	exp.flags = info->flags;
	exp.resv = info->resv;
	exp.priv = pfn;

	dmabuf = dma_buf_export(&exp);
	if (IS_ERR(dmabuf)) {
		kfree(pfn);
		return dmabuf;
	}

	pfn->dmabuf = dmabuf;
	pfn->mapping = dmabuf->file->f_mapping;
	return dmabuf;
}
EXPORT_SYMBOL_NS_GPL(dma_buf_pfn_export, "DMA_BUF_PFN");

static void pfn_release(struct dma_buf *dmabuf)
{
	struct dma_buf_pfn *pfn = dmabuf->priv;

	dma_resv_lock(dmabuf->resv, NULL);
	pfn_loan_drop_current(pfn);
	dma_resv_unlock(dmabuf->resv);

	pfn->ops->release(pfn);
	kfree(pfn);
}

/*
 * Take the current loan back from everybody: importers stop, CPU mappings are
 * zapped (they fault again), and the list goes home when its last borrower has
 * returned it. Borrowers that are not pfn importers may take a while.
 */
static void pfn_recall(struct dma_buf_pfn *pfn)
{
	struct dma_buf *dmabuf = pfn->dmabuf;

	dma_buf_invalidate_mappings(dmabuf);
	unmap_mapping_range(pfn->mapping, 0, 0, 1);
	pfn_loan_drop_current(pfn);
}

/**
 * dma_buf_pfn_invalidate - take the ranges back because the memory will move
 * @pfn: the buffer, reservation lock held
 *
 * When this returns 0, no pfn importer and no CPU mapping touches the old
 * ranges any more, and the next &dma_buf_pfn_ops.map lends the new ones. The
 * exporter must keep holding the reservation lock until map would tell the
 * truth again. If the new place is still being filled, a KERNEL fence on the
 * reservation object keeps everybody out until it signals.
 *
 * Legacy importers are told as well but may go on until the fences on the
 * reservation object have signalled, see dma_buf_invalidate_mappings(); the
 * exporter must wait for those before it reuses the old memory.
 *
 * Context: process context, may sleep.
 * Return: 0; -EOPNOTSUPP if not exported with %DMA_BUF_PFN_MAY_MOVE; -ENODEV
 * if revoked; -EBUSY if somebody has pinned the buffer. Nothing has happened
 * on failure.
 */
int dma_buf_pfn_invalidate(struct dma_buf_pfn *pfn)
{
	dma_resv_assert_held(pfn->dmabuf->resv);

	if (!(pfn->caps & DMA_BUF_PFN_MAY_MOVE))
		return -EOPNOTSUPP;
	if (pfn->revoked)
		return -ENODEV;
	if (pfn->nr_still)
		return -EBUSY;

	pfn_recall(pfn);
	return 0;
}
EXPORT_SYMBOL_NS_GPL(dma_buf_pfn_invalidate, "DMA_BUF_PFN");

static void pfn_withdraw(struct dma_buf_pfn *pfn)
{
	if (pfn->revoked)
		return;
	pfn->revoked = true;
	pfn_recall(pfn);
}

/**
 * dma_buf_pfn_revoke - take the ranges back for good
 * @pfn: the buffer, reservation lock held
 *
 * As dma_buf_pfn_invalidate(), but there is no next time: importers get
 * -ENODEV, CPU mappings SIGBUS.
 *
 * Context: process context, may sleep.
 * Return: 0; -EOPNOTSUPP if not exported with %DMA_BUF_PFN_MAY_REVOKE; -ENODEV
 * if revoked already; -EBUSY if an importer was promised that this won't happen.
 */
int dma_buf_pfn_revoke(struct dma_buf_pfn *pfn)
{
	dma_resv_assert_held(pfn->dmabuf->resv);

	if (!(pfn->caps & DMA_BUF_PFN_MAY_REVOKE))
		return -EOPNOTSUPP;
	if (pfn->revoked)
		return -ENODEV;
	if (pfn->nr_pinned)
		return -EBUSY;

	pfn_withdraw(pfn);
	return 0;
}
EXPORT_SYMBOL_NS_GPL(dma_buf_pfn_revoke, "DMA_BUF_PFN");

/**
 * dma_buf_pfn_remove - the memory is gone, whatever was promised
 * @pfn: the buffer, reservation lock held
 *
 * For surprise removal of the device. Cannot fail and may be called twice.
 */
void dma_buf_pfn_remove(struct dma_buf_pfn *pfn)
{
	dma_resv_assert_held(pfn->dmabuf->resv);

	pfn->removed = true;
	pfn_withdraw(pfn);
}
EXPORT_SYMBOL_NS_GPL(dma_buf_pfn_remove, "DMA_BUF_PFN");

/**
 * dma_buf_pfn_unrevoke - lend again after dma_buf_pfn_revoke()
 * @pfn: the buffer, reservation lock held
 *
 * For those who attach from now on. Importers that were attached at the revoke
 * have been told that it is for good, and it stays so: nobody finds other bytes
 * behind a mapping that it believed dead. CPU mappings ask at every page fault
 * and may see the new memory.
 *
 * The exporter must keep holding the reservation lock until its map callback
 * would tell the truth again.
 *
 * Return: 0; -EINVAL if not revoked; -ENODEV after dma_buf_pfn_remove().
 */
int dma_buf_pfn_unrevoke(struct dma_buf_pfn *pfn)
{
	dma_resv_assert_held(pfn->dmabuf->resv);

	if (pfn->removed)
		return -ENODEV;
	if (!pfn->revoked)
		return -EINVAL;
	pfn->revoked = false;
	return 0;
}
EXPORT_SYMBOL_NS_GPL(dma_buf_pfn_unrevoke, "DMA_BUF_PFN");

/* Will the exporter hold still if it is asked to? */
static bool pfn_can_hold_still(const struct dma_buf_pfn *pfn, bool or_revoke)
{
	unsigned long bad = DMA_BUF_PFN_MAY_MOVE;

	if (or_revoke)
		bad |= DMA_BUF_PFN_MAY_REVOKE;
	return (pfn->caps & DMA_BUF_PFN_CAN_PIN) || !(pfn->caps & bad);
}

static int pfn_negotiate(const struct dma_buf_pfn *pfn,
			 enum dma_buf_pfn_mode *mode)
{
	switch (*mode) {
	case DMA_BUF_PFN_DEFAULT:
		if (pfn->caps & DMA_BUF_PFN_MAY_MOVE)
			*mode = DMA_BUF_PFN_DYNAMIC;
		else if (pfn->caps & DMA_BUF_PFN_MAY_REVOKE)
			*mode = DMA_BUF_PFN_REVOCABLE;
		else
			*mode = DMA_BUF_PFN_PINNED;
		return 0;
	case DMA_BUF_PFN_PINNED:
		return pfn_can_hold_still(pfn, true) ? 0 : -EOPNOTSUPP;
	case DMA_BUF_PFN_REVOCABLE:
		return pfn_can_hold_still(pfn, false) ? 0 : -EOPNOTSUPP;
	case DMA_BUF_PFN_DYNAMIC:
		return 0;
	}
	return -EINVAL;
}

static void pfn_attach_invalidate(struct dma_buf_attachment *attach)
{
	struct dma_buf_pfn_attachment *a = attach->importer_priv;
	struct dma_buf_pfn *pfn = attach->dmabuf->priv;

	a->revoked |= pfn->revoked;
	a->ops->invalidate(a, pfn->revoked);
	if (WARN_ONCE(a->loan, "importer %ps kept a loan\n",
		      a->ops->invalidate))
		dma_buf_pfn_unmap(a);
}

static const struct dma_buf_attach_ops pfn_attach_ops = {
	.allow_peer2peer = true,
	.invalidate_mappings = pfn_attach_invalidate,
};

static int pfn_attach_lender(struct dma_buf_pfn_attachment *a,
			     struct dma_buf *dmabuf, struct device *dev)
{
	struct dma_buf_attachment *attach;
	int err;

	err = pfn_negotiate(dmabuf->priv, &a->mode);
	if (err)
		return err;
	attach = dma_buf_dynamic_attach(dmabuf, dev, &pfn_attach_ops, a);
	return PTR_ERR_OR_ZERO(attach);
}

/**
 * dma_buf_pfn_attach - become an importer
 * @dmabuf: the dma-buf; the caller keeps a reference until after detach
 * @dev: the importing device, for debugfs and legacy exporters' eyes only: no
 *	DMA API call is made for it
 * @mode: what to agree on
 * @ops: importer's callbacks; @ops->invalidate may run at any time from now on
 * @priv: for the importer
 *
 * Context: process context, reservation lock not held.
 * Return: the attachment; ERR_PTR(-EOPNOTSUPP) if the exporter cannot promise
 * what @mode needs, or the dma-buf does not lend ranges and @ops does not allow
 * a bridge; -EINVAL for an unknown mode; -ENOMEM; with a bridge also -ENXIO if
 * there is no way to the memory, -ENODEV if it has been revoked, -EBUSY if a
 * device could not be looked at, -EINTR or -ERESTARTSYS, or what the exporter
 * returned.
 */
struct dma_buf_pfn_attachment *
dma_buf_pfn_attach(struct dma_buf *dmabuf, struct device *dev,
		   enum dma_buf_pfn_mode mode,
		   const struct dma_buf_pfn_importer_ops *ops, void *priv)
{
	struct dma_buf_pfn_attachment *a;
	int err;

	a = kzalloc_obj(*a, GFP_KERNEL_ACCOUNT);
	if (!a)
		return ERR_PTR(-ENOMEM);
	a->mode = mode;
	a->ops = ops;
	a->priv = priv;

	if (ops->allow_bridge && pfn_bridge_wanted(dmabuf))
		err = pfn_bridge_attach(a, dmabuf, dev);
	else if (dma_buf_is_pfn(dmabuf))
		err = pfn_attach_lender(a, dmabuf, dev);
	else
		err = -EOPNOTSUPP;
	if (err) {
		kfree(a);
		return ERR_PTR(err);
	}
	return a;
}
EXPORT_SYMBOL_NS_GPL(dma_buf_pfn_attach, "DMA_BUF_PFN");

/**
 * dma_buf_pfn_detach - stop being an importer
 * @a: the attachment; gone afterwards
 *
 * Gives back what is still borrowed. Never fails.
 *
 * Context: process context, reservation lock not held.
 */
void dma_buf_pfn_detach(struct dma_buf_pfn_attachment *a)
{
	struct dma_buf *dmabuf = a->attach->dmabuf;

	dma_resv_lock(dmabuf->resv, NULL);
	dma_buf_pfn_unmap(a);
	dma_resv_unlock(dmabuf->resv);

	if (a->bridge)
		pfn_bridge_detach(a);
	else
		dma_buf_detach(dmabuf, a->attach);
	kfree(a);
}
EXPORT_SYMBOL_NS_GPL(dma_buf_pfn_detach, "DMA_BUF_PFN");

static void pfn_hold_still(struct dma_buf_pfn *pfn, enum dma_buf_pfn_mode mode,
			   int delta)
{
	if (mode != DMA_BUF_PFN_DYNAMIC)
		pfn->nr_still += delta;
	if (mode == DMA_BUF_PFN_PINNED)
		pfn->nr_pinned += delta;
}

static int pfn_map_lender(struct dma_buf_pfn_attachment *a)
{
	struct dma_buf_pfn *pfn = a->attach->dmabuf->priv;
	struct pfn_loan *loan;

	loan = pfn_loan_get(pfn);
	if (IS_ERR(loan))
		return PTR_ERR(loan);

	pfn_hold_still(pfn, a->mode, 1);
	a->loan = &loan->pub;
	return 0;
}

static const struct dma_buf_pfn_loan *
pfn_map(struct dma_buf_pfn_attachment *a, bool intr)
{
	int err;

	dma_resv_assert_held(a->attach->dmabuf->resv);

	if (a->loan)
		return a->loan;
	if (a->revoked)
		return ERR_PTR(-ENODEV);

	err = a->bridge ? pfn_bridge_map(a, intr) : pfn_map_lender(a);
	return err ? ERR_PTR(err) : a->loan;
}

/**
 * dma_buf_pfn_map - borrow the ranges
 * @a: the attachment, reservation lock of its dma-buf held
 *
 * The loan stays valid until dma_buf_pfn_unmap(); the ranges must not be
 * accessed before the KERNEL fences on the reservation object have signalled.
 * Borrowing twice returns the same loan.
 *
 * Return: the loan; ERR_PTR(-ENODEV) if revoked, now or ever since @a was
 * attached, -ENOMEM, -EIO if the exporter lent a list that makes no sense,
 * -ETIMEDOUT if it does not finish a move, or what the exporter returned.
 */
const struct dma_buf_pfn_loan *
dma_buf_pfn_map(struct dma_buf_pfn_attachment *a)
{
	return pfn_map(a, false);
}
EXPORT_SYMBOL_NS_GPL(dma_buf_pfn_map, "DMA_BUF_PFN");
/* So that a test can have a fault that finds no memory, see fail_function. */
ALLOW_ERROR_INJECTION(dma_buf_pfn_map, ERRNO);

/**
 * dma_buf_pfn_map_interruptible - borrow the ranges on behalf of a system call
 * @a: the attachment, reservation lock of its dma-buf held
 *
 * As dma_buf_pfn_map(), but a signal ends the wait for an exporter behind a bridge,
 * which may begin to move the buffer because it is borrowed. Nobody else makes one
 * wait.
 *
 * Return: the loan; ERR_PTR(-ERESTARTSYS) because of a signal; else as
 * dma_buf_pfn_map().
 */
const struct dma_buf_pfn_loan *
dma_buf_pfn_map_interruptible(struct dma_buf_pfn_attachment *a)
{
	return pfn_map(a, true);
}
EXPORT_SYMBOL_NS_GPL(dma_buf_pfn_map_interruptible, "DMA_BUF_PFN");

/**
 * dma_buf_pfn_unmap - give the ranges back
 * @a: the attachment, reservation lock of its dma-buf held
 *
 * Nothing may touch the ranges any more. Harmless if nothing is borrowed.
 */
void dma_buf_pfn_unmap(struct dma_buf_pfn_attachment *a)
{
	struct pfn_loan *loan;

	dma_resv_assert_held(a->attach->dmabuf->resv);

	if (!a->loan)
		return;
	if (a->bridge) {
		pfn_bridge_unmap(a);
		return;
	}

	loan = container_of((struct dma_buf_pfn_loan *)a->loan,
			    struct pfn_loan, pub);
	a->loan = NULL;
	pfn_hold_still(loan->pfn, a->mode, -1);
	pfn_loan_put(loan);
}
EXPORT_SYMBOL_NS_GPL(dma_buf_pfn_unmap, "DMA_BUF_PFN");

/**
 * dma_buf_pfn_lookup - physical page behind a page of the buffer
 * @a: a mapped attachment, reservation lock of its dma-buf held
 * @pgoff: page number within the buffer
 * @pfn: set to its page frame number
 * @max_order: if not NULL, set to the order of the largest naturally aligned
 *	block around @pgoff that one range holds at the same alignment, so that
 *	page tables can map it in one piece
 *
 * Return: 0; -EINVAL beyond the end; -ENXIO if nothing is mapped, or mapped for
 * the CPU only (%DMA_BUF_PFN_VMAP).
 */
int dma_buf_pfn_lookup(struct dma_buf_pfn_attachment *a, pgoff_t pgoff,
		       unsigned long *pfn, unsigned int *max_order)
{
	const struct phys_vec *r;
	pgoff_t first, nr;
	unsigned long base;
	unsigned int order;
	u64 start;

	dma_resv_assert_held(a->attach->dmabuf->resv);

	if (!a->loan || !a->loan->lend.nr)
		return -ENXIO;
	if (pgoff >= a->loan->size >> PAGE_SHIFT)
		return -EINVAL;

	r = &a->loan->lend.vec[dma_buf_pfn_loan_find(a->loan,
						     (u64)pgoff << PAGE_SHIFT,
						     &start)];
	first = start >> PAGE_SHIFT;
	nr = r->len >> PAGE_SHIFT;
	base = PHYS_PFN(r->paddr);
	*pfn = base + (pgoff - first);

	if (!max_order)
		return 0;

	/* A block of this order needs pgoff and pfn equal modulo its size. */
	order = *pfn == pgoff ? BITS_PER_LONG - 1 : __ffs(*pfn ^ pgoff);
	for (; order; order--) {
		pgoff_t lo = round_down(pgoff, 1UL << order);

		if (lo >= first && (1UL << order) <= nr - (lo - first))
			break;
	}
	*max_order = order;
	return 0;
}
EXPORT_SYMBOL_NS_GPL(dma_buf_pfn_lookup, "DMA_BUF_PFN");

/**
 * dma_buf_pfn_attachment_bytes - kernel memory that an importer costs
 * @a: the attachment
 *
 * That which is the importer's alone: not what exporters keep, nor page tables.
 *
 * Context: any; of a bridge, a rough figure unless the reservation lock is held.
 */
size_t dma_buf_pfn_attachment_bytes(const struct dma_buf_pfn_attachment *a)
{
	return kmalloc_size_roundup(sizeof(*a)) +
	       kmalloc_size_roundup(sizeof(*a->attach)) +
	       (a->bridge ? pfn_bridge_bytes(a) : 0);
}
EXPORT_SYMBOL_NS_GPL(dma_buf_pfn_attachment_bytes, "DMA_BUF_PFN");

/*
 * Of legacy importers, one that cannot be told about moves and revokes is only
 * let in if the exporter can promise there will be none: the dma-buf core pins
 * for it when it maps.
 */
static int pfn_attach(struct dma_buf *dmabuf, struct dma_buf_attachment *attach)
{
	const struct dma_buf_attach_ops *ops = attach->importer_ops;
	struct dma_buf_pfn_attachment *a = attach->importer_priv;

	if (ops == &pfn_attach_ops) {
		/* Here, since the exporter may invalidate from now on. */
		a->attach = attach;
		return 0;
	}
	if (ops && ops->invalidate_mappings)
		return 0;
	return pfn_can_hold_still(dmabuf->priv, true) ? 0 : -EOPNOTSUPP;
}

/* A pin is no more than a promise not to move to those who can be told. */
static enum dma_buf_pfn_mode pfn_legacy_mode(struct dma_buf_attachment *attach)
{
	return dma_buf_attach_revocable(attach) ? DMA_BUF_PFN_REVOCABLE :
						  DMA_BUF_PFN_PINNED;
}

static int pfn_pin(struct dma_buf_attachment *attach)
{
	enum dma_buf_pfn_mode mode = pfn_legacy_mode(attach);
	struct dma_buf_pfn *pfn = attach->dmabuf->priv;

	if (pfn->revoked)
		return -ENODEV;
	if (!pfn_can_hold_still(pfn, mode == DMA_BUF_PFN_PINNED))
		return -EOPNOTSUPP;
	pfn_hold_still(pfn, mode, 1);
	return 0;
}

static void pfn_unpin(struct dma_buf_attachment *attach)
{
	pfn_hold_still(attach->dmabuf->priv, pfn_legacy_mode(attach), -1);
}

static const struct dma_buf_ops pfn_dma_buf_ops = {
	.attach = pfn_attach,
	.pin = pfn_pin,
	.unpin = pfn_unpin,
	.map_dma_buf = pfn_map_dma_buf,
	.unmap_dma_buf = pfn_unmap_dma_buf,
	.mmap = pfn_mmap,
	.vmap = pfn_vmap,
	.vunmap = pfn_vunmap,
	.release = pfn_release,
};

MODULE_DESCRIPTION("dma-bufs that lend their physical ranges");
MODULE_AUTHOR("umem-pfn");
MODULE_LICENSE("Dual BSD/GPL");
MODULE_IMPORT_NS("DMA_BUF");
