// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * pfn_vram: a test aid that proves that nobody touches old memory.
 *
 * Usually a move leaves the old memory as it is until the copy has read it, and
 * then frees it: an importer that has not really let go is not noticed. With
 * module parameter poison_old, a move first takes a snapshot of the old memory
 * and poisons all of it, at once, before it gives the reservation lock back.
 * Whoever reads late, reads poison; and after the copy, which is made from the
 * snapshot, and poison_old milliseconds, whoever has written is found out. That
 * is told in the kernel log, where ./lab takes it for a failure, and counted in
 * debugfs.
 *
 * Nor do importers that map a BAR while the aid is on get our mapping of it. They
 * make their own, which is gone when the last one has let go, and so is the kernel if
 * one has not.
 */
#include <linux/delay.h>
#include <linux/module.h>
#include <linux/seq_file.h>
#include <linux/slab.h>

#include "pfn_vram_priv.h"

static unsigned int poison_old;
module_param(poison_old, uint, 0644);
MODULE_PARM_DESC(poison_old, "Test aid: poison old memory at every move and see for so many milliseconds if it stays so (0: off, to 1000)");
#define MAX_POISON_MS	1000

static atomic64_t nr_checked;
static atomic64_t nr_touched;

/* Does a move that begins now poison the old memory? */
bool pfn_vram_quarantine_on(void)
{
	return READ_ONCE(poison_old);
}

/**
 * struct pfn_vram_quarantine - the old memory of one move
 * @snapshot: what its bytes were
 * @old: the memory, poisoned; NULL before that
 * @page: to look at @old with
 * @ms: how long to wait
 */
struct pfn_vram_quarantine {
	struct pfn_vram_mem *snapshot;
	struct pfn_vram_mem *old;
	void *page;
	unsigned int ms;
};

/**
 * pfn_vram_quarantine_new - get all that it takes
 * @dev: the device
 * @size: of the memory, bytes
 *
 * Return: NULL if the test aid is off; ERR_PTR() of pfn_vram_mem_alloc().
 */
struct pfn_vram_quarantine *pfn_vram_quarantine_new(struct pfn_vram_dev *dev,
						    u64 size)
{
	unsigned int ms = READ_ONCE(poison_old);
	struct pfn_vram_quarantine *q;
	int err = -ENOMEM;

	if (!ms)
		return NULL;

	q = kzalloc_obj(*q);
	if (!q)
		return ERR_PTR(-ENOMEM);
	q->ms = min(ms, MAX_POISON_MS);
	q->page = kmalloc(PAGE_SIZE, GFP_KERNEL);
	if (!q->page)
		goto err_free;
	q->snapshot = pfn_vram_mem_alloc(dev, PFN_VRAM_PLACEMENT_SYSTEM, size,
					 0, false);
	if (IS_ERR(q->snapshot)) {
		err = PTR_ERR(q->snapshot);
		goto err_page;
	}
	return q;

err_page:
	kfree(q->page);
err_free:
	kfree(q);
	return ERR_PTR(err);
}

/**
 * pfn_vram_quarantine_free - the end
 * @q: the quarantine, or NULL
 */
void pfn_vram_quarantine_free(struct pfn_vram_quarantine *q)
{
	if (!q)
		return;
	pfn_vram_mem_put(q->old);
	pfn_vram_mem_put(q->snapshot);
	kfree(q->page);
	kfree(q);
}

/**
 * pfn_vram_quarantine_enter - nobody may touch this memory any more
 * @q: the quarantine
 * @old: the memory; the caller's reference is taken over
 *
 * Return: where the bytes are now, with a reference for the caller.
 */
struct pfn_vram_mem *pfn_vram_quarantine_enter(struct pfn_vram_quarantine *q,
					       struct pfn_vram_mem *old)
{
	q->old = old;
	/* Of an unplugged device nothing can be saved, nor has to be. */
	if (!pfn_vram_mem_copy(q->snapshot, old, NULL))
		pfn_vram_mem_poison(old);
	return pfn_vram_mem_get(q->snapshot);
}

/**
 * pfn_vram_quarantine_check - has anybody?
 * @q: a quarantine that was entered; its memory is given back
 *
 * Context: process context, sleeps.
 */
void pfn_vram_quarantine_check(struct pfn_vram_quarantine *q)
{
	phys_addr_t where;

	msleep(q->ms);
	if (pfn_vram_mem_find_touched(q->old, q->page, &where) > 0) {
		atomic64_inc(&nr_touched);
		pr_err("pfn_vram: BUG: old memory touched at %pap\n", &where);
	}
	pfn_vram_mem_put(q->old);
	q->old = NULL;
	/* Last: who has seen this has seen the rest. */
	atomic64_inc(&nr_checked);
}

/**
 * pfn_vram_quarantine_show - the counters, for debugfs
 * @m: where to
 */
void pfn_vram_quarantine_show(struct seq_file *m)
{
	seq_printf(m, "checked %lld\ntouched %lld\n",
		   atomic64_read(&nr_checked), atomic64_read(&nr_touched));
}
