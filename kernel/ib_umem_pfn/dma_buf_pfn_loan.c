// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * Loans: sharing and searching an exporter's list of ranges.
 *
 * There is at most one current loan per buffer. It is made when the first
 * importer maps, kept until the exporter takes it back, and shared by all
 * importers, so that the list is checked once per placement and an importer
 * stores nothing per range. A loan taken back lives on, no longer current,
 * until its last (legacy) borrower has returned it.
 *
 * Searching: if all ranges but the last have the same length, a division finds
 * the range. Otherwise one offset is stored for every 64 ranges, which bounds
 * a search to log2(n / 64) + 64 steps at 1/128 of the list's own size.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/dma-resv.h>
#include <linux/export.h>
#include <linux/io.h>
#include <linux/math64.h>
#include <linux/mm.h>
#include <linux/slab.h>
#include <linux/vmalloc.h>

#include "dma_buf_pfn_priv.h"

#define SKIP_SHIFT	6

static int loan_build_skip(struct pfn_loan *loan)
{
	const struct dma_buf_pfn_lend *lend = &loan->pub.lend;
	u64 offset = 0;
	u64 *skip;
	size_t i;

	if (loan->pub.stride || lend->nr <= BIT(SKIP_SHIFT))
		return 0;

	skip = kvmalloc_array(DIV_ROUND_UP(lend->nr, BIT(SKIP_SHIFT)),
			      sizeof(*skip), GFP_KERNEL);
	if (!skip)
		return -ENOMEM;
	for (i = 0; i < lend->nr; i++) {
		if (!(i % BIT(SKIP_SHIFT)))
			skip[i >> SKIP_SHIFT] = offset;
		offset += lend->vec[i].len;
	}
	loan->pub.skip = skip;
	return 0;
}

/**
 * pfn_loan_init - check a list of ranges and get ready to search it
 * @loan: with its dma-buf and the list in it, all else zero
 *
 * Return: 0, to be undone by pfn_loan_fini(); -EIO for a bad list; -ENOMEM.
 */
int pfn_loan_init(struct pfn_loan *loan)
{
	int err;

	loan->pub.size = loan->dmabuf->size;
	err = pfn_loan_check(loan);
	return err ?: loan_build_skip(loan);
}

static void loan_kunmap(struct pfn_loan *loan)
{
	const struct dma_buf_pfn_lend *lend = &loan->pub.lend;

	if (!loan->kva)
		return;
	if (lend->nr > 1)
		vunmap(loan->kva);
	else if (lend->kind != DMA_BUF_PFN_RAM)
		memunmap(loan->kva);
}

/**
 * pfn_loan_fini - nobody uses it any more
 * @loan: the loan; its list is still the caller's
 */
void pfn_loan_fini(struct pfn_loan *loan)
{
	loan_kunmap(loan);
	kvfree(loan->pub.skip);
}

static struct pfn_loan *loan_create(struct dma_buf_pfn *pfn)
{
	struct pfn_loan *loan;
	int err;

	loan = kzalloc_obj(*loan);
	if (!loan)
		return ERR_PTR(-ENOMEM);
	loan->dmabuf = pfn->dmabuf;
	loan->pfn = pfn;
	loan->users = 1;

	err = pfn->ops->map(pfn, &loan->pub.lend);
	if (err)
		goto err_free;

	err = pfn_loan_init(loan);
	if (err)
		goto err_unmap;
	return loan;

err_unmap:
	pfn->ops->unmap(pfn, &loan->pub.lend);
err_free:
	kfree(loan);
	return ERR_PTR(err);
}

/**
 * pfn_loan_get - borrow the current loan, making it if there is none
 * @pfn: the buffer, reservation lock held
 *
 * Return: the loan, to be returned with pfn_loan_put(); ERR_PTR(-ENODEV) if
 * revoked, -ENOMEM, -EIO for a bad list, or the exporter's error.
 */
struct pfn_loan *pfn_loan_get(struct dma_buf_pfn *pfn)
{
	struct pfn_loan *loan;

	dma_resv_assert_held(pfn->dmabuf->resv);

	if (pfn->revoked)
		return ERR_PTR(-ENODEV);
	if (!pfn->loan) {
		loan = loan_create(pfn);
		if (IS_ERR(loan))
			return loan;
		pfn->loan = loan;
	}
	pfn->loan->users++;
	return pfn->loan;
}

/**
 * pfn_loan_put - return a loan
 * @loan: the loan, reservation lock held
 */
void pfn_loan_put(struct pfn_loan *loan)
{
	dma_resv_assert_held(loan->dmabuf->resv);

	if (--loan->users)
		return;
	pfn_loan_fini(loan);
	loan->pfn->ops->unmap(loan->pfn, &loan->pub.lend);
	kfree(loan);
}

/**
 * pfn_loan_drop_current - the present placement is no longer to be lent
 * @pfn: the buffer, reservation lock held
 */
void pfn_loan_drop_current(struct dma_buf_pfn *pfn)
{
	struct pfn_loan *loan = pfn->loan;

	pfn->loan = NULL;
	if (loan)
		pfn_loan_put(loan);
}

/**
 * dma_buf_pfn_loan_find - which range holds a byte of the buffer?
 * @loan: a loan in use
 * @offset: byte offset, less than @loan->size
 * @start: set to the offset at which that range starts
 *
 * Context: any.
 * Return: index into @loan->lend.vec.
 */
size_t dma_buf_pfn_loan_find(const struct dma_buf_pfn_loan *loan, u64 offset,
			     u64 *start)
{
	const struct phys_vec *vec = loan->lend.vec;
	size_t lo = 0, hi, i;
	u64 pos = 0;

	if (loan->stride) {
		i = div64_u64(offset, loan->stride);
		*start = i * loan->stride;
		return i;
	}

	if (loan->skip) {
		hi = DIV_ROUND_UP(loan->lend.nr, BIT(SKIP_SHIFT));
		while (hi - lo > 1) {
			size_t mid = lo + (hi - lo) / 2;

			if (loan->skip[mid] <= offset)
				lo = mid;
			else
				hi = mid;
		}
		pos = loan->skip[lo];
	}

	for (i = lo << SKIP_SHIFT; offset - pos >= vec[i].len; i++)
		pos += vec[i].len;
	*start = pos;
	return i;
}
EXPORT_SYMBOL_NS_GPL(dma_buf_pfn_loan_find, "DMA_BUF_PFN");

static void *kmap_one(const struct dma_buf_pfn_lend *lend)
{
	const struct phys_vec *r = lend->vec;

	if (lend->kind == DMA_BUF_PFN_RAM)
		return phys_to_virt(r->paddr);
	/* The functions below warn about RAM that is called something else. */
	if (page_is_ram(PHYS_PFN(r->paddr)))
		return NULL;

	/* Where the direct map has it, WB memory comes from there. */
	switch (lend->caching) {
	case DMA_BUF_PFN_WB:
		return memremap(r->paddr, r->len, MEMREMAP_WB);
	case DMA_BUF_PFN_WC:
		return memremap(r->paddr, r->len, MEMREMAP_WC);
	case DMA_BUF_PFN_UC:
		return (__force void *)ioremap(r->paddr, r->len);
	}
	return NULL;
}

/**
 * pfn_lend_prot - page protection for a CPU mapping of lent memory
 * @lend: what the exporter says of it
 * @prot: what it would be for ordinary memory
 */
pgprot_t pfn_lend_prot(const struct dma_buf_pfn_lend *lend, pgprot_t prot)
{
	if (lend->kind == DMA_BUF_PFN_MMIO)
		prot = pgprot_decrypted(prot);

	switch (lend->caching) {
	case DMA_BUF_PFN_WC:
		return pgprot_writecombine(prot);
	case DMA_BUF_PFN_UC:
		return pgprot_noncached(prot);
	default:
		return prot;
	}
}

static void *kmap_pages(const struct dma_buf_pfn_loan *loan)
{
	const struct dma_buf_pfn_lend *lend = &loan->lend;
	size_t nr = loan->size >> PAGE_SHIFT;
	struct page **pages;
	size_t i, j, n = 0;
	void *kva;

	pages = kvmalloc_array(nr, sizeof(*pages), GFP_KERNEL);
	if (!pages)
		return NULL;
	for (i = 0; i < lend->nr; i++)
		for (j = 0; j < lend->vec[i].len >> PAGE_SHIFT; j++)
			pages[n++] = phys_to_page(lend->vec[i].paddr) + j;
	kva = vmap(pages, nr, VM_MAP, PAGE_KERNEL);
	kvfree(pages);
	return kva;
}

static void *kmap_pfns(const struct dma_buf_pfn_loan *loan)
{
	const struct dma_buf_pfn_lend *lend = &loan->lend;
	size_t nr = loan->size >> PAGE_SHIFT;
	unsigned long *pfns;
	void *kva = NULL;
	size_t i, j, n = 0;

	pfns = kvmalloc_array(nr, sizeof(*pfns), GFP_KERNEL);
	if (!pfns)
		return NULL;
	for (i = 0; i < lend->nr; i++) {
		for (j = 0; j < lend->vec[i].len >> PAGE_SHIFT; j++) {
			pfns[n] = PHYS_PFN(lend->vec[i].paddr) + j;
			/* vmap_pfn() warns about these. */
			if (pfn_valid(pfns[n++]))
				goto out;
		}
	}
	kva = vmap_pfn(pfns, nr, pfn_lend_prot(lend, PAGE_KERNEL));
out:
	kvfree(pfns);
	return kva;
}

/**
 * pfn_loan_kmap - the whole buffer, contiguous in kernel address space
 * @loan: a loan in use, reservation lock held
 *
 * Made at the first call, shared, torn down with the loan.
 *
 * Return: the address; NULL without memory or address space for it.
 */
void *pfn_loan_kmap(struct pfn_loan *loan)
{
	const struct dma_buf_pfn_lend *lend = &loan->pub.lend;

	dma_resv_assert_held(loan->dmabuf->resv);

	if (loan->kva)
		return loan->kva;
	/* The arrays that vmap() and vmap_pfn() want have their limits. */
	if (lend->nr > 1 && loan->pub.size >> PAGE_SHIFT > INT_MAX / sizeof(u64))
		return NULL;

	if (lend->nr == 1)
		loan->kva = kmap_one(lend);
	else if (lend->kind == DMA_BUF_PFN_RAM)
		loan->kva = kmap_pages(&loan->pub);
	else
		loan->kva = kmap_pfns(&loan->pub);
	return loan->kva;
}

/**
 * dma_buf_pfn_loan_kmap - the whole buffer, contiguous in kernel address space
 * @loan: a borrowed loan, reservation lock held
 *
 * For CPU access to memory that is not in the direct map: MMIO must be accessed
 * with the io accessors (cast the result to void __iomem \*), and so must
 * %DMA_BUF_PFN_VMAP that isn't %DMA_BUF_PFN_WB. For %DMA_BUF_PFN_RAM
 * phys_to_virt() on the ranges is cheaper and needs no mapping. Valid as long as
 * the loan.
 *
 * Return: the address; NULL without memory or address space for it.
 */
void *dma_buf_pfn_loan_kmap(const struct dma_buf_pfn_loan *loan)
{
	if (loan->lend.iomem)
		return (__force void *)loan->lend.iomem;
	return pfn_loan_kmap(container_of((struct dma_buf_pfn_loan *)loan,
					  struct pfn_loan, pub));
}
EXPORT_SYMBOL_NS_GPL(dma_buf_pfn_loan_kmap, "DMA_BUF_PFN");
