// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * Does the list of ranges that an exporter has lent make sense?
 *
 * Asked once per placement, and what a buffer's first importer waits for, so it is
 * made to take few instructions per range: one pass that only says whether there is
 * anything wrong; what it is, is found out in another. If the ranges are in no
 * order, the cheapest of three ways tells whether any two overlap:
 *
 *   a bit for each block between the lowest and the highest	ranges near each other
 *   a hash table of blocks		ranges of one block each, wherever they are
 *   sorting a copy		all else
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/bitmap.h>
#include <linux/hash.h>
#include <linux/log2.h>
#include <linux/mm.h>
#include <linux/overflow.h>
#include <linux/sched.h>
#include <linux/sizes.h>
#include <linux/slab.h>
#include <linux/sort.h>

#include "dma_buf_pfn_priv.h"

/* pfn_valid() says the same of all pages in an aligned block of this many bits. */
#if defined(CONFIG_SPARSEMEM) && !defined(CONFIG_HAVE_ARCH_PFN_VALID)
#define SAME_VALID_SHIFT	SUBSECTION_SHIFT
#else
#define SAME_VALID_SHIFT	PAGE_SHIFT
#endif

/* Ranges to look at before somebody else may have the CPU. */
#define CHUNK		SZ_64K

/**
 * struct list_scan - what one pass over a list tells
 * @len: of the first range
 * @bits: all addresses and lengths, or'ed
 * @lowest: first byte of all
 * @highest: last byte of all
 * @paddr: first byte of the range before
 * @last: last byte of the range before
 * @ascending: every range begins behind the one before
 * @descending: every range ends before the one before begins
 * @wraps: a range goes around the end of the address space
 */
struct list_scan {
	u64 len;
	u64 bits;
	phys_addr_t lowest;
	phys_addr_t highest;
	phys_addr_t paddr;
	phys_addr_t last;
	bool ascending;
	bool descending;
	bool wraps;
};

/* A list that makes no sense is the exporter's bug: say what is wrong with it. */
static int bad_list(const struct pfn_loan *loan, const char *why, size_t index)
{
	pr_warn_ratelimited("exporter %s lent %zu ranges for %llu bytes, number %zu %s\n",
			    loan->dmabuf->exp_name, loan->pub.lend.nr,
			    loan->pub.size, index, why);
	return -EIO;
}

/* Some range is wrong, or all together are. */
static int bad_range(const struct pfn_loan *loan)
{
	const struct dma_buf_pfn_lend *lend = &loan->pub.lend;
	u64 total = 0;
	size_t i;

	for (i = 0; i < lend->nr; i++) {
		const struct phys_vec *r = &lend->vec[i];
		phys_addr_t last;

		if (!r->len)
			return bad_list(loan, "is empty", i);
		if (!PAGE_ALIGNED(r->len) || !PAGE_ALIGNED(r->paddr))
			return bad_list(loan, "is not page aligned", i);
		if (check_add_overflow(r->paddr, r->len - 1, &last))
			return bad_list(loan, "wraps around", i);
		if (lend->kind == DMA_BUF_PFN_RAM &&
		    (!pfn_valid(PHYS_PFN(r->paddr)) || !pfn_valid(PHYS_PFN(last))))
			return bad_list(loan, "is not RAM", i);
		if (check_add_overflow(total, (u64)r->len, &total) ||
		    total > loan->pub.size)
			return bad_list(loan, "is more than the total", i);
		if (!(i % CHUNK))
			cond_resched();
	}
	return bad_list(loan, total == loan->pub.size ?
			"is the last, and in one of them is a hole in RAM" :
			"is the last and the total is wrong", lend->nr - 1);
}

/* What both kinds of pass note of a range. */
static __always_inline void scan_one(struct list_scan *s, phys_addr_t paddr,
				     phys_addr_t last)
{
	s->bits |= paddr;
	s->lowest = min(s->lowest, paddr);
	s->ascending &= paddr > s->last;
	s->descending &= last < s->paddr;
	s->paddr = paddr;
	s->last = last;
}

/*
 * Looks at ranges until there is one that isn't as long as the first; often there is
 * none. What can be said of all of them afterwards is not asked of each.
 */
static size_t scan_equal(struct list_scan *all, const struct phys_vec *r, size_t nr)
{
	struct list_scan s = *all; /* in registers */
	const u64 len = s.len;
	phys_addr_t top = 0;
	size_t i;

	for (i = 0; i < nr && r[i].len == len; i++) {
		const phys_addr_t paddr = r[i].paddr;
		const phys_addr_t last = paddr + (len - 1);

		top = max(top, paddr);
		scan_one(&s, paddr, last);
	}
	s.wraps |= check_add_overflow(top, (phys_addr_t)len - 1, &top);
	s.highest = max(s.highest, top);
	*all = s;
	return i;
}

/* The same for ranges of any length. Returns false if one is wrong. */
static bool scan_any(struct list_scan *all, const struct phys_vec *r, size_t nr,
		     u64 size, u64 *total)
{
	struct list_scan s = *all;
	u64 sum = *total;
	size_t i;

	for (i = 0; i < nr; i++) {
		const phys_addr_t paddr = r[i].paddr;
		const u64 len = r[i].len;
		const phys_addr_t last = paddr + (len - 1);

		sum += len;
		/* No range is longer than the buffer, so the sum does not overflow. */
		if (len - 1 >= size || last < paddr || sum > size)
			return false;
		s.bits |= len;
		s.highest = max(s.highest, last);
		scan_one(&s, paddr, last);
	}
	*all = s;
	*total = sum;
	return true;
}

/*
 * The pass itself. Returns false if anything is wrong but for overlaps and what
 * kind of memory it is. A first range at either end of the address space makes the
 * list one without order, which is only slower.
 */
static bool scan(struct pfn_loan *loan, struct list_scan *s)
{
	const struct dma_buf_pfn_lend *lend = &loan->pub.lend;
	const u64 size = loan->pub.size, len = lend->vec[0].len;
	size_t i = 0, n;
	u64 total;

	*s = (struct list_scan) {
		.len = len,
		.bits = len,
		.lowest = PHYS_ADDR_MAX,
		.paddr = PHYS_ADDR_MAX,
		.ascending = true,
		.descending = true,
	};
	if (!len)
		return false;
	do {
		n = scan_equal(s, lend->vec + i, min(lend->nr - i, CHUNK));
		i += n;
		cond_resched();
	} while (n == CHUNK);
	if (s->wraps || check_mul_overflow((u64)i, len, &total) || total > size)
		return false;

	loan->pub.stride = 0;
	if (i == lend->nr || (i == lend->nr - 1 && lend->vec[i].len < len))
		loan->pub.stride = len;

	for (; i < lend->nr; i += n) {
		n = min(lend->nr - i, CHUNK);
		if (!scan_any(s, lend->vec + i, n, size, &total))
			return false;
		cond_resched();
	}
	loan->pub.page_size = BIT_ULL(__ffs64(s->bits));
	return total == size && PAGE_ALIGNED(s->bits);
}

/*
 * Both ends of each range: to look for holes in the middle would take time that grows
 * with its size (blocks_are_ram() finds some, because it costs nothing there). In a
 * list that is in order, most ranges are where the one before was.
 */
static bool all_ram(const struct dma_buf_pfn_lend *lend)
{
	phys_addr_t known = PHYS_ADDR_MAX;
	size_t i;

	for (i = 0; i < lend->nr; i++) {
		const phys_addr_t first = lend->vec[i].paddr;
		const phys_addr_t last = first + lend->vec[i].len - 1;

		if (first >> SAME_VALID_SHIFT != known &&
		    !pfn_valid(PHYS_PFN(first)))
			return false;
		known = last >> SAME_VALID_SHIFT;
		if (first >> SAME_VALID_SHIFT != known &&
		    !pfn_valid(PHYS_PFN(last)))
			return false;
		if (!(i % CHUNK))
			cond_resched();
	}
	return true;
}

/**
 * struct block_map - which blocks of memory a list has
 * @map: a bit for each block, from @first on
 * @nr: of bits
 * @first: a block, the first one of those about which pfn_valid() says the same
 * @shift: bits of a block's size; at most %SAME_VALID_SHIFT
 */
struct block_map {
	unsigned long *map;
	unsigned long nr;
	u64 first;
	unsigned int shift;
};

/* One pfn_valid() for all pages about which it says the same. */
static bool blocks_are_ram(const struct block_map *b)
{
	const unsigned long same = BIT(SAME_VALID_SHIFT - b->shift);
	unsigned long bit, n = 0;

	for (bit = find_first_bit(b->map, b->nr); bit < b->nr;
	     bit = find_next_bit(b->map, b->nr, round_up(bit + 1, same))) {
		if (!pfn_valid((b->first + bit) << (b->shift - PAGE_SHIFT)))
			return false;
		if (!(++n % CHUNK))
			cond_resched();
	}
	return true;
}

/* Returns how many ranges it could set before one that overlaps with one before. */
static size_t set_ranges(struct block_map b, const struct phys_vec *r, size_t nr)
{
	const u64 block = BIT_ULL(b.shift);
	size_t i;

	for (i = 0; i < nr; i++) {
		const unsigned long at = (r[i].paddr >> b.shift) - b.first;
		unsigned long n;

		if (r[i].len == block) {
			if (__test_and_set_bit(at, b.map))
				break;
			continue;
		}
		n = r[i].len >> b.shift;
		if (find_next_bit(b.map, at + n, at) < at + n)
			break;
		bitmap_set(b.map, at, n);
	}
	return i;
}

static int check_near(const struct pfn_loan *loan, const struct block_map *b)
{
	const struct dma_buf_pfn_lend *lend = &loan->pub.lend;
	size_t i, n, set;

	for (i = 0; i < lend->nr; i += n) {
		n = min(lend->nr - i, CHUNK);
		set = set_ranges(*b, lend->vec + i, n);
		if (set < n)
			return bad_list(loan, "overlaps with one before", i + set);
		cond_resched();
	}
	if (lend->kind == DMA_BUF_PFN_RAM && !blocks_are_ram(b))
		return bad_range(loan);
	return 0;
}

/*
 * Ranges of one block each, which overlap if one is there twice. A hash table with
 * linear probing, half full, as large as a copy of the list or twice that.
 */
static int check_blocks(const struct pfn_loan *loan, unsigned int shift)
{
	const struct dma_buf_pfn_lend *lend = &loan->pub.lend;
	unsigned int bits = ilog2(roundup_pow_of_two(2 * lend->nr));
	size_t i, at, mask = BIT(bits) - 1;
	unsigned long *seen, block;
	int err = 0;

	/* That of 256 GiB in pages is more than one allocation can be. */
	seen = kvcalloc(BIT(bits), sizeof(*seen), GFP_KERNEL | __GFP_NOWARN);
	if (!seen)
		return -ENOMEM;

	for (i = 0; i < lend->nr; i++) {
		block = (lend->vec[i].paddr >> shift) + 1; /* 0: free */
		at = hash_long(block, bits);
		while (seen[at] && seen[at] != block)
			at = (at + 1) & mask;
		if (seen[at]) {
			err = bad_list(loan, "overlaps with one before", i);
			break;
		}
		seen[at] = block;
		if (!(i % CHUNK))
			cond_resched();
	}
	kvfree(seen);
	return err;
}

static int cmp_paddr(const void *a, const void *b)
{
	const struct phys_vec *l = a, *r = b;

	if (l->paddr == r->paddr)
		return 0;
	return l->paddr < r->paddr ? -1 : 1;
}

static int check_sorted(const struct pfn_loan *loan)
{
	const struct dma_buf_pfn_lend *lend = &loan->pub.lend;
	struct phys_vec *sorted;
	int err = 0;
	size_t i;

	sorted = kvmalloc_array(lend->nr, sizeof(*sorted), GFP_KERNEL);
	if (!sorted)
		return -ENOMEM;
	memcpy(sorted, lend->vec, lend->nr * sizeof(*sorted));
	sort_nonatomic(sorted, lend->nr, sizeof(*sorted), cmp_paddr, NULL);

	for (i = 1; i < lend->nr; i++) {
		if (sorted[i].paddr - sorted[i - 1].paddr < sorted[i - 1].len) {
			err = bad_list(loan, "by address overlaps", i);
			break;
		}
	}
	kvfree(sorted);
	return err;
}

/* Returns 1 if the ranges are too far from each other for this. */
static int check_if_near(const struct pfn_loan *loan, const struct list_scan *s)
{
	const struct dma_buf_pfn_lend *lend = &loan->pub.lend;
	struct block_map b = {
		.shift = min(__ffs64(s->bits), SAME_VALID_SHIFT),
	};
	u64 nr;
	int ret;

	b.first = round_down(s->lowest, BIT_ULL(SAME_VALID_SHIFT)) >> b.shift;
	nr = (s->highest >> b.shift) - b.first + 1;
	/* Not more memory than the other ways take, and what bitmap_set() can. */
	if (nr >= (u64)lend->nr * BITS_PER_TYPE(*lend->vec) || nr > INT_MAX)
		return 1;
	b.nr = nr;
	b.map = kvcalloc(BITS_TO_LONGS(b.nr), sizeof(long),
			 GFP_KERNEL | __GFP_NOWARN);
	if (!b.map)
		return 1;
	ret = check_near(loan, &b);
	kvfree(b.map);
	return ret;
}

/* For a list in no order. */
static int check_scattered(const struct pfn_loan *loan,
			   const struct list_scan *s)
{
	const struct dma_buf_pfn_lend *lend = &loan->pub.lend;
	int ret;

	ret = check_if_near(loan, s);
	if (ret <= 0)
		return ret;

	if (lend->kind == DMA_BUF_PFN_RAM && !all_ram(lend))
		return bad_range(loan);
	if (lend->nr * loan->pub.page_size == loan->pub.size)
		return check_blocks(loan, __ffs64(s->bits));
	return check_sorted(loan);
}

/**
 * pfn_loan_check - does the list make sense, and what does it look like?
 * @loan: with its dma-buf, its size and the list in it
 *
 * Sets stride and page_size. Neighbours are not merged: the exporter's ranges are as
 * long as they can be, or short on purpose. Process context.
 *
 * Return: 0; -EIO for a bad list, which the kernel log says more about; -ENOMEM.
 */
int pfn_loan_check(struct pfn_loan *loan)
{
	const struct dma_buf_pfn_lend *lend = &loan->pub.lend;
	struct list_scan s;

	if (!lend->vec || !lend->nr || lend->nr > loan->pub.size >> PAGE_SHIFT)
		return bad_list(loan, "is one too few or too many", lend->nr);
	if (lend->kind > DMA_BUF_PFN_MMIO || lend->caching > DMA_BUF_PFN_UC)
		return bad_list(loan, "is of an unknown kind or caching", 0);
	if (lend->kind == DMA_BUF_PFN_RAM && lend->caching != DMA_BUF_PFN_WB)
		return bad_list(loan, "is RAM that isn't write-back", 0);
	if (lend->iomem && lend->kind != DMA_BUF_PFN_MMIO)
		return bad_list(loan, "has a mapping of MMIO and is something else", 0);

	if (!scan(loan, &s))
		return bad_range(loan);
	if (!s.ascending && !s.descending)
		return check_scattered(loan, &s);
	if (lend->kind == DMA_BUF_PFN_RAM && !all_ram(lend))
		return bad_range(loan);
	return 0;
}
