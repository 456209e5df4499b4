// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * KUnit: what dma_buf_pfn does with a list of ranges: refuse it, find a byte in
 * it, tell how large a piece of a page table could map. Most ranges here are
 * nowhere: they are called MMIO, and nobody touches them.
 */
#include <linux/dma-resv.h>
#include <linux/mm.h>
#include <linux/sizes.h>
#include <linux/slab.h>

#include "pfn_fake_kunit.h"

#define NOWHERE		BIT_ULL(44)

/* Layouts */

enum direction { UP, DOWN, MIXED };

/**
 * struct layout - how to make up a list of ranges
 * @name: of the test
 * @nr: number of ranges
 * @min_pages: length of a range, at least
 * @max_pages: and at most
 * @last_pages: length of the last one, if it is special
 * @first_pages: length of the first one, if it is special
 * @spread: how far the places are apart, in lengths of the longest range; 0: 1
 * @direction: of the addresses
 * @stride: pages that the framework should find every range but the last to have
 */
struct layout {
	const char *name;
	size_t nr;
	unsigned int min_pages;
	unsigned int max_pages;
	unsigned int last_pages;
	unsigned int first_pages;
	unsigned int spread;
	enum direction direction;
	unsigned int stride;
};

static unsigned int pages_of(const struct layout *l, struct rnd_state *rnd,
			     size_t i)
{
	if (!i && l->first_pages)
		return l->first_pages;
	if (i == l->nr - 1 && l->last_pages)
		return l->last_pages;
	return l->min_pages + fake_below(rnd, l->max_pages - l->min_pages + 1);
}

static void swap_places(struct phys_vec *vec, size_t i, size_t j)
{
	/*
	 * Lengths stay where they are; the places are far enough apart for any
	 * of them.
	 */
	swap(vec[i].paddr, vec[j].paddr);
}

KUNIT_DEFINE_ACTION_WRAPPER(kvfree_action, kvfree, const void *);

static struct phys_vec *make_layout(struct kunit *test, struct rnd_state *rnd,
				    const struct layout *l)
{
	unsigned int room = max3(l->max_pages, l->first_pages, l->last_pages) *
			    (l->spread ?: 1);
	struct phys_vec *vec;
	size_t i;

	vec = kvcalloc(l->nr, sizeof(*vec), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, vec);
	KUNIT_ASSERT_EQ(test, 0,
			kunit_add_action_or_reset(test, kvfree_action, vec));

	for (i = 0; i < l->nr; i++) {
		vec[i].len = PAGE_SIZE * pages_of(l, rnd, i);
		vec[i].paddr = NOWHERE + (u64)i * room * PAGE_SIZE;
	}
	for (i = 0; i < l->nr / 2; i++)
		if (l->direction == DOWN)
			swap_places(vec, i, l->nr - 1 - i);
	for (i = 0; i < l->nr; i++)
		if (l->direction == MIXED)
			swap_places(vec, i, fake_below(rnd, l->nr));
	return vec;
}

static void layout_desc(const struct layout *l, char *desc)
{
	strscpy(desc, l->name, KUNIT_PARAM_DESC_SIZE);
}

static const struct layout layouts[] = {
	{ "one page", .nr = 1, .min_pages = 1, .max_pages = 1, .stride = 1 },
	{ "one long range", .nr = 1, .min_pages = 5000, .max_pages = 5000,
	  .stride = 5000 },
	{ "two", .nr = 2, .min_pages = 1, .max_pages = 1, .last_pages = 7 },
	{ "two, shorter last", .nr = 2, .min_pages = 9, .max_pages = 9,
	  .last_pages = 1, .stride = 9 },
	{ "all pages", .nr = 1000, .min_pages = 1, .max_pages = 1,
	  .direction = MIXED, .stride = 1 },
	{ "equal", .nr = 100, .min_pages = 3, .max_pages = 3,
	  .direction = DOWN, .stride = 3 },
	{ "equal, shorter last", .nr = 500, .min_pages = 8, .max_pages = 8,
	  .last_pages = 3, .stride = 8 },
	{ "equal, longer last", .nr = 500, .min_pages = 8, .max_pages = 8,
	  .last_pages = 9 },
	{ "equal, longer first", .nr = 500, .min_pages = 8, .max_pages = 8,
	  .first_pages = 9 },
	{ "equal, shorter first", .nr = 500, .min_pages = 8, .max_pages = 8,
	  .first_pages = 1, .direction = MIXED },
	{ "too few for a table", .nr = 64, .min_pages = 1, .max_pages = 9,
	  .first_pages = 10, .last_pages = 11 },
	{ "enough for a table", .nr = 65, .min_pages = 1, .max_pages = 9,
	  .first_pages = 10, .last_pages = 11 },
	{ "two whole entries", .nr = 128, .min_pages = 1, .max_pages = 9,
	  .first_pages = 10, .last_pages = 11, .direction = DOWN },
	{ "and one more", .nr = 129, .min_pages = 1, .max_pages = 9,
	  .first_pages = 10, .last_pages = 11, .direction = MIXED },
	{ "thousands", .nr = 5000, .min_pages = 1, .max_pages = 600,
	  .first_pages = 601, .direction = MIXED },
	{ "a hundred thousand", .nr = 100000, .min_pages = 1, .max_pages = 5,
	  .first_pages = 6, .direction = MIXED },
	{ "two whole turns", .nr = 131072, .min_pages = 1, .max_pages = 1,
	  .direction = MIXED, .stride = 1 },
	{ "two turns and one more", .nr = 131073, .min_pages = 1, .max_pages = 1,
	  .direction = MIXED, .stride = 1 },
	{ "far apart", .nr = 5000, .min_pages = 1, .max_pages = 5,
	  .first_pages = 6, .spread = 100, .direction = MIXED },
	{ "pages far apart", .nr = 5000, .min_pages = 1, .max_pages = 1,
	  .spread = 1000, .direction = MIXED, .stride = 1 },
};

KUNIT_ARRAY_PARAM(layouts, layouts, layout_desc);

/* Finding a byte */

/* The largest page that all of the ranges are made of, found by trying. */
static u64 largest_page(const struct phys_vec *vec, size_t nr)
{
	u64 page = PAGE_SIZE;
	size_t i;

	for (;;) {
		for (i = 0; i < nr; i++)
			if (!IS_ALIGNED(vec[i].paddr, 2 * page) ||
			    !IS_ALIGNED(vec[i].len, 2 * page))
				return page;
		page *= 2;
	}
}

/*
 * Compares with going through the list from the start, at both ends of each
 * range and somewhere within.
 */
static void find_test(struct kunit *test)
{
	const struct layout *l = test->param_value;
	const struct dma_buf_pfn_loan *loan;
	struct fake_exporter *ex;
	struct phys_vec *vec;
	struct rnd_state rnd;
	u64 start = 0;
	size_t i;

	fake_seed(test, &rnd);
	vec = make_layout(test, &rnd, l);
	ex = fake_export(test, FAKE_ALL_CAPS, DMA_BUF_PFN_MMIO, vec, l->nr);
	loan = fake_map(fake_attach(test, ex, DMA_BUF_PFN_DYNAMIC));
	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, loan);

	KUNIT_EXPECT_EQ(test, loan->size, ex->dmabuf->size);
	KUNIT_EXPECT_EQ(test, loan->stride, (u64)l->stride * PAGE_SIZE);
	KUNIT_EXPECT_EQ(test, loan->page_size, largest_page(vec, l->nr));
	KUNIT_EXPECT_EQ(test, !!loan->skip, !l->stride && l->nr > 64);

	for (i = 0; i < l->nr; i++) {
		u64 pos[] = {
			start,
			start + vec[i].len - 1,
			start + fake_below(&rnd, vec[i].len),
		};
		unsigned int j;

		for (j = 0; j < ARRAY_SIZE(pos); j++) {
			u64 found_start = U64_MAX;
			size_t found;

			found = dma_buf_pfn_loan_find(loan, pos[j],
						      &found_start);
			if (found == i && found_start == start)
				continue;
			KUNIT_FAIL(test, "byte %llu: range %zu at %llu, not %zu at %llu",
				   pos[j], i, start, found, found_start);
			return;
		}
		start += vec[i].len;
		if (!(i % 1024))
			cond_resched();
	}
}

/* Layouts that nobody has thought of. */
static void find_random_test(struct kunit *test)
{
	struct rnd_state rnd;
	unsigned int round;

	fake_seed(test, &rnd);
	for (round = 0; round < 50; round++) {
		struct layout l = {
			.nr = 1 + fake_below(&rnd, 300),
			.min_pages = 1,
			.max_pages = 1 + fake_below(&rnd, 3),
			.direction = fake_below(&rnd, 3),
		};
		struct phys_vec *vec = make_layout(test, &rnd, &l);
		const struct dma_buf_pfn_loan *loan;
		struct fake_exporter *ex;
		unsigned int i;

		ex = fake_export(test, 0, DMA_BUF_PFN_MMIO, vec, l.nr);
		loan = fake_map(fake_attach(test, ex, DMA_BUF_PFN_PINNED));
		KUNIT_ASSERT_NOT_ERR_OR_NULL(test, loan);
		for (i = 0; i < 100; i++) {
			u64 pos = fake_below(&rnd, loan->size);
			u64 start = 0, found_start;
			size_t found, n = 0;

			while (pos - start >= vec[n].len)
				start += vec[n++].len;
			found = dma_buf_pfn_loan_find(loan, pos, &found_start);
			KUNIT_ASSERT_EQ(test, found, n);
			KUNIT_ASSERT_EQ(test, found_start, start);
		}
	}
}

/* Lists that make no sense */

/**
 * struct bad_list - a list that has to be refused
 * @name: what is wrong with it
 * @pages: size of the buffer
 * @vec: the list
 * @nr: its length
 * @no_vec: lend NULL
 * @iomem: lend a kernel mapping
 * @kind: of the memory
 * @caching: of the memory
 */
struct bad_list {
	const char *name;
	size_t pages;
	struct phys_vec vec[4];
	size_t nr;
	bool no_vec;
	bool iomem;
	unsigned int kind;
	unsigned int caching;
};

#define AT(page, pages) \
	{ .paddr = NOWHERE + (page) * PAGE_SIZE, .len = (pages) * PAGE_SIZE }

static const struct bad_list bad_lists[] = {
	{ "no list", 4, { AT(0, 4) }, 1, .no_vec = true,
	  .kind = DMA_BUF_PFN_MMIO },
	{ "no ranges", 4, { AT(0, 4) }, 0, .kind = DMA_BUF_PFN_MMIO },
	{ "more ranges than pages", 2, { AT(0, 1), AT(2, 1), AT(4, 1) }, 3,
	  .kind = DMA_BUF_PFN_MMIO },
	{ "first is empty", 4, { AT(0, 0), AT(2, 4) }, 2,
	  .kind = DMA_BUF_PFN_MMIO },
	{ "last is empty", 4, { AT(0, 4), AT(5, 0) }, 2,
	  .kind = DMA_BUF_PFN_MMIO },
	{ "half a page", 4, { { NOWHERE, PAGE_SIZE / 2 }, AT(1, 3) }, 2,
	  .kind = DMA_BUF_PFN_MMIO },
	{ "length not of whole pages", 4,
	  { { NOWHERE, 2 * PAGE_SIZE - 1 }, AT(4, 2) }, 2,
	  .kind = DMA_BUF_PFN_MMIO },
	{ "address within a page", 4, { AT(0, 2), { NOWHERE - 8, 2 * PAGE_SIZE } },
	  2, .kind = DMA_BUF_PFN_MMIO },
	{ "a page short", 4, { AT(0, 1), AT(2, 2) }, 2,
	  .kind = DMA_BUF_PFN_MMIO },
	{ "a page too much", 4, { AT(0, 1), AT(2, 4) }, 2,
	  .kind = DMA_BUF_PFN_MMIO },
	{ "around the end of the address space", 4,
	  { { -PAGE_SIZE, 2 * PAGE_SIZE }, AT(4, 2) }, 2,
	  .kind = DMA_BUF_PFN_MMIO },
	{ "total wraps around", 4,
	  { { 0, BIT_ULL(63) }, { BIT_ULL(63), BIT_ULL(63) }, AT(0, 4) }, 3,
	  .kind = DMA_BUF_PFN_MMIO },
	{ "twice the same", 4, { AT(0, 2), AT(0, 2) }, 2,
	  .kind = DMA_BUF_PFN_MMIO },
	{ "overlap, ascending", 4, { AT(0, 2), AT(1, 2) }, 2,
	  .kind = DMA_BUF_PFN_MMIO },
	{ "overlap, descending", 4, { AT(1, 2), AT(0, 2) }, 2,
	  .kind = DMA_BUF_PFN_MMIO },
	{ "one within another", 5, { AT(0, 4), AT(2, 1) }, 2,
	  .kind = DMA_BUF_PFN_MMIO },
	{ "overlap of the far ends", 8,
	  { AT(20, 2), AT(30, 2), AT(10, 2), AT(21, 2) }, 4,
	  .kind = DMA_BUF_PFN_MMIO },
	{ "overlap with a range before the last", 8,
	  { AT(20, 2), AT(10, 2), AT(30, 2), AT(9, 2) }, 4,
	  .kind = DMA_BUF_PFN_MMIO },
	{ "unknown kind", 4, { AT(0, 4) }, 1, .kind = DMA_BUF_PFN_MMIO + 1 },
	{ "unknown caching", 4, { AT(0, 4) }, 1, .kind = DMA_BUF_PFN_MMIO,
	  .caching = DMA_BUF_PFN_UC + 1 },
	{ "RAM that is not there", 4, { AT(0, 4) }, 1, .kind = DMA_BUF_PFN_RAM },
	{ "a mapping of RAM", 4, { AT(0, 4) }, 1, .kind = DMA_BUF_PFN_RAM_NOPAGE,
	  .iomem = true },
};

static void bad_list_desc(const struct bad_list *bad, char *desc)
{
	strscpy(desc, bad->name, KUNIT_PARAM_DESC_SIZE);
}

KUNIT_ARRAY_PARAM(bad_lists, bad_lists, bad_list_desc);

/* Rule: E4 */
static void bad_list_test(struct kunit *test)
{
	const struct bad_list *bad = test->param_value;
	const struct phys_vec good = AT(0, bad->pages);
	const struct dma_buf_pfn_loan *loan;
	struct fake_exporter *ex;
	struct fake_importer *im;

	ex = fake_export(test, FAKE_ALL_CAPS, DMA_BUF_PFN_MMIO, &good, 1);
	im = fake_attach(test, ex, DMA_BUF_PFN_PINNED);
	ex->lend.vec = bad->no_vec ? NULL : bad->vec;
	ex->lend.nr = bad->nr;
	ex->lend.kind = bad->kind;
	ex->lend.caching = bad->caching;
	ex->lend.iomem = bad->iomem ? (__force void __iomem *)ex : NULL;
	ex->lend.cookie = ex;

	loan = fake_map(im);
	KUNIT_EXPECT_PTR_EQ(test, loan, ERR_PTR(-EIO));
	/* The exporter has it back, and nobody has been promised anything. */
	KUNIT_EXPECT_EQ(test, ex->maps, 1);
	KUNIT_EXPECT_EQ(test, ex->unmaps, 1);
	KUNIT_EXPECT_PTR_EQ(test, ex->last_home, (void *)ex);
	KUNIT_EXPECT_FALSE(test, fake_is_pinned(ex));

	/* Once it lends sense, it works. */
	ex->lend = (struct dma_buf_pfn_lend){
		.vec = &good, .nr = 1, .kind = DMA_BUF_PFN_MMIO,
	};
	KUNIT_EXPECT_FALSE(test, IS_ERR(fake_map(im)));
}

/* Rule: E4 */
static void ram_is_write_back_test(struct kunit *test)
{
	struct fake_exporter *ex;
	struct fake_importer *im;
	struct phys_vec *vec;
	struct rnd_state rnd;
	size_t nr;

	fake_seed(test, &rnd);
	vec = fake_ram(test, &rnd, 5, 3, &nr);
	ex = fake_export(test, 0, DMA_BUF_PFN_RAM, vec, nr);
	im = fake_attach(test, ex, DMA_BUF_PFN_DYNAMIC);
	ex->lend.caching = DMA_BUF_PFN_WC;
	KUNIT_EXPECT_PTR_EQ(test, fake_map(im), ERR_PTR(-EIO));
	ex->lend.caching = DMA_BUF_PFN_UC;
	KUNIT_EXPECT_PTR_EQ(test, fake_map(im), ERR_PTR(-EIO));
	ex->lend.caching = DMA_BUF_PFN_WB;
	KUNIT_EXPECT_FALSE(test, IS_ERR(fake_map(im)));
}

/* Lists that look odd and are fine. */
static void good_list_test(struct kunit *test)
{
	static const struct phys_vec touching_up[] = { AT(0, 2), AT(2, 1) };
	static const struct phys_vec touching_down[] = { AT(2, 1), AT(0, 2) };
	static const struct phys_vec interleaved[] = {
		AT(4, 1), AT(0, 1), AT(5, 1), AT(1, 2),
	};
	static const struct phys_vec at_the_ends[] = {
		{ .paddr = -PAGE_SIZE, .len = PAGE_SIZE },
		{ .paddr = 0, .len = PAGE_SIZE },
	};
	static const struct {
		const struct phys_vec *vec;
		size_t nr;
	} lists[] = {
		{ touching_up, ARRAY_SIZE(touching_up) },
		{ touching_down, ARRAY_SIZE(touching_down) },
		{ interleaved, ARRAY_SIZE(interleaved) },
		{ at_the_ends, ARRAY_SIZE(at_the_ends) },
	};
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(lists); i++) {
		const struct dma_buf_pfn_loan *loan;
		struct fake_exporter *ex;

		ex = fake_export(test, 0, DMA_BUF_PFN_MMIO, lists[i].vec,
				 lists[i].nr);
		loan = fake_map(fake_attach(test, ex, DMA_BUF_PFN_DYNAMIC));
		KUNIT_EXPECT_FALSE_MSG(test, IS_ERR(loan), "list %u: %pe", i,
				       loan);
	}
}

/* Ranges near each other and far apart are looked at in different ways. */
static const unsigned int spreads[] = { 1, 1000 };

static void spread_desc(const unsigned int *spread, char *desc)
{
	snprintf(desc, KUNIT_PARAM_DESC_SIZE, "%u lengths apart", *spread);
}

KUNIT_ARRAY_PARAM(spreads, spreads, spread_desc);

/* With range @i at another address the list is refused, and it is fine without. */
static void expect_bad_if_at(struct kunit *test, const struct layout *l,
			     struct phys_vec *vec, size_t i, phys_addr_t paddr,
			     enum dma_buf_pfn_kind kind)
{
	const phys_addr_t good = vec[i].paddr;
	struct fake_exporter *ex;
	struct fake_importer *im;

	ex = fake_export(test, 0, kind, vec, l->nr);
	im = fake_attach(test, ex, DMA_BUF_PFN_PINNED);
	vec[i].paddr = paddr;
	KUNIT_EXPECT_PTR_EQ(test, fake_map(im), ERR_PTR(-EIO));
	vec[i].paddr = good;
	KUNIT_EXPECT_FALSE(test, IS_ERR(fake_map(im)));
}

/*
 * Any list with one overlap in it.
 *
 * Rule: E4
 */
static void random_overlap_test(struct kunit *test)
{
	struct layout l = {
		.nr = 200, .min_pages = 2, .max_pages = 5, .direction = MIXED,
		.spread = *(const unsigned int *)test->param_value,
	};
	struct rnd_state rnd;
	unsigned int round;

	fake_seed(test, &rnd);
	for (round = 0; round < 50; round++) {
		struct phys_vec *vec = make_layout(test, &rnd, &l);
		size_t i = fake_below(&rnd, l.nr);
		size_t j = (i + 1 + fake_below(&rnd, l.nr - 1)) % l.nr;

		/* The last page of j is the first one of i. */
		expect_bad_if_at(test, &l, vec, i,
				 vec[j].paddr + vec[j].len - PAGE_SIZE,
				 DMA_BUF_PFN_MMIO);
	}
}

/*
 * And any list of single blocks with one of them in it twice.
 *
 * Rule: E4
 */
static void random_twice_test(struct kunit *test)
{
	struct layout l = {
		.nr = 200, .direction = MIXED,
		.spread = *(const unsigned int *)test->param_value,
	};
	struct rnd_state rnd;
	unsigned int round;

	fake_seed(test, &rnd);
	for (round = 0; round < 50; round++) {
		struct phys_vec *vec;
		size_t i, j;

		l.min_pages = 1 << fake_below(&rnd, 3);
		l.max_pages = l.min_pages;
		vec = make_layout(test, &rnd, &l);
		i = fake_below(&rnd, l.nr);
		j = (i + 1 + fake_below(&rnd, l.nr - 1)) % l.nr;
		expect_bad_if_at(test, &l, vec, i, vec[j].paddr, DMA_BUF_PFN_MMIO);
	}
}

/*
 * Pages in RAM, but for one that is just behind it, or nowhere near. At the end of an
 * ascending list and at the beginning of a descending one, so that they stay what they
 * are.
 *
 * Rule: E4
 */
static void not_ram_test(struct kunit *test)
{
	struct layout l = { .nr = 200, .min_pages = 1, .max_pages = 1 };
	unsigned long end;
	struct rnd_state rnd;
	size_t i;

	fake_seed(test, &rnd);
	/* Where RAM ends, or has its first hole. */
	for (end = 0; pfn_valid(end); end++)
		;
	if (end < l.nr)
		kunit_skip(test, "no RAM at address 0");
	for (l.direction = UP; l.direction <= MIXED; l.direction++) {
		const size_t bad = l.direction == UP ? l.nr - 1 :
				   l.direction == DOWN ? 0 : fake_below(&rnd, l.nr);
		struct phys_vec *vec = make_layout(test, &rnd, &l);

		for (i = 0; i < l.nr; i++)
			vec[i].paddr += PFN_PHYS(end - l.nr) - NOWHERE;
		expect_bad_if_at(test, &l, vec, bad, PFN_PHYS(end), DMA_BUF_PFN_RAM);
		expect_bad_if_at(test, &l, vec, bad, NOWHERE, DMA_BUF_PFN_RAM);
	}
}

/*
 * The last of its pages is behind RAM.
 *
 * Rule: E4
 */
static void ends_behind_ram_test(struct kunit *test)
{
	const struct layout l = { .nr = 1 };
	struct phys_vec vec = { .len = 2 * PAGE_SIZE };
	unsigned long end;

	for (end = 0; pfn_valid(end); end++)
		;
	if (end < 2)
		kunit_skip(test, "no RAM at address 0");
	vec.paddr = PFN_PHYS(end - 2);
	expect_bad_if_at(test, &l, &vec, 0, PFN_PHYS(end - 1), DMA_BUF_PFN_RAM);
}

/*
 * A kernel mapping that the exporter has anyway is as good as one of our own, but not
 * for those who may let go late.
 *
 * Rule: E8
 */
static void exporters_mapping_test(struct kunit *test)
{
	const struct phys_vec vec[] = { AT(0, 1), AT(2, 1) };
	const struct dma_buf_pfn_loan *loan;
	struct fake_exporter *ex;
	struct iosys_map map;
	char there[1];

	ex = fake_export(test, FAKE_ALL_CAPS, DMA_BUF_PFN_MMIO, vec,
			 ARRAY_SIZE(vec));
	ex->lend.iomem = (__force void __iomem *)there;
	loan = fake_map(fake_attach(test, ex, DMA_BUF_PFN_DYNAMIC));
	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, loan);
	dma_resv_lock(ex->dmabuf->resv, NULL);
	KUNIT_EXPECT_PTR_EQ(test, dma_buf_pfn_loan_kmap(loan), (void *)there);
	dma_resv_unlock(ex->dmabuf->resv);

	KUNIT_ASSERT_EQ(test, 0, dma_buf_vmap_unlocked(ex->dmabuf, &map));
	KUNIT_EXPECT_TRUE(test, map.is_iomem);
	KUNIT_EXPECT_PTR_NE(test, (__force void *)map.vaddr_iomem, (void *)there);
	dma_buf_vunmap_unlocked(ex->dmabuf, &map);
}

/* dma_buf_pfn_lookup() */

static int lookup(struct fake_importer *im, pgoff_t pgoff, unsigned long *pfn,
		  unsigned int *order)
{
	struct dma_resv *resv = im->a->attach->dmabuf->resv;
	int err;

	dma_resv_lock(resv, NULL);
	err = dma_buf_pfn_lookup(im->a, pgoff, pfn, order);
	dma_resv_unlock(resv);
	return err;
}

/*
 * The largest order such that the naturally aligned block around @pgoff is
 * within the range that starts at page @first, and as aligned in memory.
 */
static unsigned int naive_order(const struct phys_vec *r, pgoff_t first,
				pgoff_t pgoff)
{
	pgoff_t end = first + (r->len >> PAGE_SHIFT);
	unsigned int order, best = 0;

	for (order = 1; order < 40; order++) {
		u64 nr = BIT_ULL(order);
		u64 block = pgoff & ~(nr - 1);
		u64 pfn = (r->paddr >> PAGE_SHIFT) + (block - first);

		if (block >= first && block + nr <= end && !(pfn & (nr - 1)))
			best = order;
	}
	return best;
}

static void check_lookups(struct kunit *test, const struct phys_vec *vec,
			  size_t nr, unsigned int *best)
{
	struct fake_exporter *ex;
	struct fake_importer *im;
	pgoff_t pgoff = 0;
	size_t i;

	ex = fake_export(test, 0, DMA_BUF_PFN_MMIO, vec, nr);
	im = fake_attach(test, ex, DMA_BUF_PFN_DYNAMIC);
	KUNIT_ASSERT_FALSE(test, IS_ERR(fake_map(im)));

	for (i = 0; i < nr; i++) {
		pgoff_t first = pgoff;

		for (; pgoff - first < vec[i].len >> PAGE_SHIFT; pgoff++) {
			unsigned int should = naive_order(&vec[i], first,
							  pgoff);
			unsigned long pfn = 0, again = 0;
			unsigned int order = 99;

			KUNIT_ASSERT_EQ(test, 0,
					lookup(im, pgoff, &pfn, &order));
			KUNIT_ASSERT_EQ(test, pfn,
					(vec[i].paddr >> PAGE_SHIFT) +
					(pgoff - first));
			KUNIT_ASSERT_EQ_MSG(test, order, should,
					    "page %lu of range %zu", pgoff, i);
			KUNIT_ASSERT_EQ(test, 0,
					lookup(im, pgoff, &again, NULL));
			KUNIT_ASSERT_EQ(test, again, pfn);
			*best = max(*best, order);
		}
	}
}

static void lookup_random_test(struct kunit *test)
{
	struct phys_vec *vec;
	unsigned int best = 0;
	struct rnd_state rnd;
	unsigned int round;

	fake_seed(test, &rnd);
	for (round = 0; round < 20; round++) {
		size_t nr = 1 + fake_below(&rnd, 20), i;
		u64 base = NOWHERE, offset = 0;

		vec = kunit_kcalloc(test, nr, sizeof(*vec), GFP_KERNEL);
		KUNIT_ASSERT_NOT_NULL(test, vec);
		for (i = 0; i < nr; i++) {
			/* Aligned as the offset is, up to some order. */
			u64 align = PAGE_SIZE << fake_below(&rnd, 8);

			vec[i].len = PAGE_SIZE * (1 + fake_below(&rnd, 80));
			vec[i].paddr = base + (offset & (align - 1)) +
				       fake_below(&rnd, 2) * align;
			offset += vec[i].len;
			base += SZ_1G;
		}
		check_lookups(test, vec, nr, &best);
	}
	/* Or else the test has not tested much. */
	KUNIT_EXPECT_GE(test, best, 4);
}

static void lookup_corner_test(struct kunit *test)
{
	/* Page n of the buffer is page frame n. */
	static const struct phys_vec same[] = { { .paddr = 0, .len = SZ_4M } };
	/* As aligned as can be, and not at all. */
	static const struct phys_vec huge[] = {
		{ .paddr = NOWHERE, .len = SZ_2M },
		{ .paddr = NOWHERE + SZ_4M, .len = SZ_2M },
		{ .paddr = NOWHERE + SZ_8M + PAGE_SIZE, .len = SZ_2M },
	};
	unsigned int best = 0;

	check_lookups(test, same, ARRAY_SIZE(same), &best);
	KUNIT_EXPECT_EQ(test, best, get_order(SZ_4M));
	best = 0;
	check_lookups(test, huge, ARRAY_SIZE(huge), &best);
	KUNIT_EXPECT_EQ(test, best, get_order(SZ_2M));
}

static void lookup_errors_test(struct kunit *test)
{
	struct fake_exporter *ex = fake_export_simple(test, FAKE_ALL_CAPS);
	struct fake_importer *im = fake_attach(test, ex, DMA_BUF_PFN_DYNAMIC);
	unsigned long pfn = 0;

	KUNIT_EXPECT_EQ(test, -ENXIO, lookup(im, 0, &pfn, NULL));
	KUNIT_ASSERT_FALSE(test, IS_ERR(fake_map(im)));
	KUNIT_EXPECT_EQ(test, 0, lookup(im, 3, &pfn, NULL));
	KUNIT_EXPECT_EQ(test, -EINVAL, lookup(im, 4, &pfn, NULL));
	KUNIT_EXPECT_EQ(test, -EINVAL, lookup(im, ULONG_MAX, &pfn, NULL));
	KUNIT_EXPECT_EQ(test, 0, fake_invalidate(ex));
	KUNIT_EXPECT_EQ(test, -ENXIO, lookup(im, 0, &pfn, NULL));
}

static struct kunit_case ranges_cases[] = {
	KUNIT_CASE_PARAM(find_test, layouts_gen_params),
	KUNIT_CASE(find_random_test),
	KUNIT_CASE_PARAM(bad_list_test, bad_lists_gen_params),
	KUNIT_CASE(ram_is_write_back_test),
	KUNIT_CASE(good_list_test),
	KUNIT_CASE_PARAM(random_overlap_test, spreads_gen_params),
	KUNIT_CASE_PARAM(random_twice_test, spreads_gen_params),
	KUNIT_CASE(not_ram_test),
	KUNIT_CASE(ends_behind_ram_test),
	KUNIT_CASE(exporters_mapping_test),
	KUNIT_CASE(lookup_random_test),
	KUNIT_CASE(lookup_corner_test),
	KUNIT_CASE(lookup_errors_test),
	{}
};

static struct kunit_suite ranges_suite = {
	.name = "dma_buf_pfn_ranges",
	.test_cases = ranges_cases,
};

kunit_test_suite(ranges_suite);
