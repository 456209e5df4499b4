// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * KUnit: DMA addresses of loans. Page lists are compared with what the kernel's
 * own functions make of a scatterlist of the same memory, on layouts made up at
 * random; mapping is done for a device without IOMMU, on a bus that translates
 * and on one that doesn't.
 */
#include <linux/dma-direct.h>
#include <linux/dma-mapping.h>
#include <linux/dma-resv.h>
#include <linux/pfn-dma-map.h>
#include <linux/scatterlist.h>
#include <linux/sizes.h>
#include <rdma/ib_umem.h>
#include <rdma/ib_umem_pfn.h>
#include <rdma/iter.h>

#include "pfn_fake_kunit.h"

/* Page lists */

#define MAX_RANGES	24
#define ROUNDS		2000

/**
 * struct twins - the same memory, once as a mapping and once as a scatterlist
 * @vec: the ranges
 * @loan: of them
 * @map: a part of that
 * @sg: DMA addresses of the same part
 * @umem: around @sg
 */
struct twins {
	struct phys_vec vec[MAX_RANGES];
	struct dma_buf_pfn_loan loan;
	struct pfn_dma_map map;
	struct scatterlist sg[MAX_RANGES];
	struct ib_umem umem;
};

static u64 random_u64(struct rnd_state *rnd)
{
	return (u64)prandom_u32_state(rnd) << 32 | prandom_u32_state(rnd);
}

/* A page-aligned address; every alignment up to 1 GiB is as likely. */
static u64 random_place(struct rnd_state *rnd)
{
	u64 align = PAGE_SIZE << fake_below(rnd, 19);

	return (random_u64(rnd) & GENMASK_ULL(46, 0)) & ~(align - 1);
}

/* Ranges may overlap here, that makes no difference; some continue the last. */
static void random_ranges(struct twins *t, struct rnd_state *rnd)
{
	size_t i, nr = 1 + fake_below(rnd, MAX_RANGES);
	u64 size = 0;

	for (i = 0; i < nr; i++) {
		struct phys_vec *r = &t->vec[i];

		if (i && !fake_below(rnd, 3))
			r->paddr = r[-1].paddr + r[-1].len;
		else
			r->paddr = random_place(rnd);
		/* Half of them powers of two. */
		r->len = PAGE_SIZE << fake_below(rnd, 11);
		if (fake_below(rnd, 2))
			r->len = PAGE_SIZE * (1 + fake_below(rnd, 700));
		size += r->len;
	}
	t->loan = (struct dma_buf_pfn_loan) {
		.lend = { .vec = t->vec, .nr = nr },
		.size = size,
	};
}

/* All, or a part that ends anywhere. */
static void random_part(struct twins *t, struct rnd_state *rnd)
{
	struct pfn_dma_map *map = &t->map;

	*map = (struct pfn_dma_map) {
		.bus = fake_below(rnd, 4) ? PFN_DMA_DIRECT : PFN_DMA_IOVA,
		.length = t->loan.size,
		.loan = &t->loan,
	};
	if (fake_below(rnd, 3)) {
		map->offset = random_u64(rnd) % t->loan.size;
		if (fake_below(rnd, 2))
			map->offset = round_down(map->offset, PAGE_SIZE);
		map->length = 1 + random_u64(rnd) %
				  (t->loan.size - map->offset);
	}
	map->first = dma_buf_pfn_loan_find(&t->loan, map->offset,
					   &map->first_start);
	if (map->bus == PFN_DMA_IOVA)
		map->iova.addr = random_place(rnd);
	else if (fake_below(rnd, 2))
		map->delta = random_place(rnd);
}

/* What ib_umem_dmabuf_map_pages() leaves of the exporter's scatterlist. */
static void make_scatterlist(struct twins *t)
{
	const struct pfn_dma_map *map = &t->map;
	u64 from = round_down(map->offset, PAGE_SIZE);
	u64 to = round_up(map->offset + map->length, PAGE_SIZE);
	unsigned int nents = 0;
	u64 pos = 0;
	size_t i;

	sg_init_table(t->sg, MAX_RANGES);
	for (i = 0; i < t->loan.lend.nr; pos += t->vec[i++].len) {
		u64 lo = max(pos, from), hi = min(pos + t->vec[i].len, to);

		if (lo >= hi)
			continue;
		sg_dma_address(&t->sg[nents]) =
			t->vec[i].paddr + (lo - pos) + map->delta;
		sg_dma_len(&t->sg[nents++]) = hi - lo;
	}
	if (map->bus == PFN_DMA_IOVA) {
		sg_dma_address(&t->sg[0]) = map->iova.addr;
		sg_dma_len(&t->sg[0]) = to - from;
		nents = 1;
	}
	sg_mark_end(&t->sg[nents - 1]);

	t->umem = (struct ib_umem) {
		.address = map->offset,
		.length = map->length,
		.is_dmabuf = 1,
	};
	t->umem.sgt_append.sgt.sgl = t->sg;
	t->umem.sgt_append.sgt.nents = nents;
}

static void make_twins(struct twins *t, struct rnd_state *rnd)
{
	memset(t, 0, sizeof(*t));
	random_ranges(t, rnd);
	random_part(t, rnd);
	make_scatterlist(t);
}

static struct twins *alloc_twins(struct kunit *test)
{
	struct twins *t = kunit_kzalloc(test, sizeof(*t), GFP_KERNEL);

	KUNIT_ASSERT_NOT_NULL(test, t);
	return t;
}

/* Sizes that devices have: all from some size on, a few, one; some below 4 KiB. */
static unsigned long random_bitmap(struct rnd_state *rnd)
{
	unsigned int lowest = fake_below(rnd, 4) ? PAGE_SHIFT : 6;
	unsigned long all = GENMASK(40, lowest);

	switch (fake_below(rnd, 4)) {
	case 0:
		return all;
	case 1:
		return SZ_4K | SZ_2M | SZ_1G;
	case 2:
		return BIT(lowest + fake_below(rnd, 30));
	default:
		return random_u64(rnd) & all;
	}
}

/* Where users see it: with the right place in the page, or sometimes not. */
static u64 random_iova(const struct twins *t, struct rnd_state *rnd)
{
	u64 iova = random_place(rnd) + (t->map.offset & ~PAGE_MASK);

	switch (fake_below(rnd, 8)) {
	case 0:
		return random_u64(rnd);
	case 1:
	case 2:
		return t->map.offset;
	case 3:
	case 4:
		return sg_dma_address(t->sg) + (t->map.offset & ~PAGE_MASK);
	default:
		return iova;
	}
}

/* Returns false if the two differ. */
static bool same_blocks(struct kunit *test, struct twins *t, unsigned long pgsz)
{
	size_t nr = ib_umem_num_dma_blocks(&t->umem, pgsz);
	struct ib_umem_pfn_block_iter ours;
	struct ib_block_iter theirs;
	size_t n = 0;

	if (ib_umem_pfn_num_blocks(&t->map, pgsz) != nr)
		return false;
	ib_umem_pfn_block_iter_start(&ours, &t->map, pgsz);
	rdma_umem_for_each_dma_block(&t->umem, &theirs, pgsz) {
		if (!ib_umem_pfn_block_iter_next(&ours) ||
		    ib_umem_pfn_block_addr(&ours) !=
		    rdma_block_iter_dma_address(&theirs))
			return false;
		n++;
	}
	return n == nr && !ib_umem_pfn_block_iter_next(&ours);
}

static void same_page_lists_test(struct kunit *test)
{
	unsigned int i, none = 0, large = 0;
	struct twins *t = alloc_twins(test);
	struct rnd_state rnd;

	fake_seed(test, &rnd);
	for (i = 0; i < ROUNDS; i++) {
		unsigned long bitmap, ours, theirs;
		u64 iova;

		make_twins(t, &rnd);
		bitmap = random_bitmap(&rnd);
		iova = random_iova(t, &rnd);
		ours = ib_umem_pfn_best_pgsz(&t->map, bitmap, iova);
		theirs = ib_umem_find_best_pgsz(&t->umem, bitmap, iova);
		KUNIT_ASSERT_EQ_MSG(test, ours, theirs,
				    "round %u: bitmap %lx iova %llx", i, bitmap,
				    iova);
		if (!ours) {
			none++;
			continue;
		}
		if (ours > PAGE_SIZE)
			large++;
		KUNIT_ASSERT_TRUE_MSG(test, same_blocks(test, t, ours),
				      "round %u: blocks of %lx, iova %llx", i,
				      ours, iova);
	}
	/* Not that they agree on nothing. */
	KUNIT_EXPECT_GT(test, none, ROUNDS / 100);
	KUNIT_EXPECT_GT(test, large, ROUNDS / 20);
}

/* Small blocks need no best size: drivers with 4 KiB only just use them. */
static void same_small_blocks_test(struct kunit *test)
{
	struct twins *t = alloc_twins(test);
	struct rnd_state rnd;
	unsigned int i;

	fake_seed(test, &rnd);
	for (i = 0; i < ROUNDS / 10; i++) {
		unsigned long pgsz = PAGE_SIZE >> fake_below(&rnd, 4);

		make_twins(t, &rnd);
		t->umem.iova = t->map.offset;
		KUNIT_ASSERT_TRUE_MSG(test, same_blocks(test, t, pgsz),
				      "round %u: blocks of %lx", i, pgsz);
	}
}

static void one_page_test(struct kunit *test)
{
	struct twins *t = alloc_twins(test);
	struct pfn_dma_map *map = &t->map;

	t->vec[0] = (struct phys_vec) { .paddr = SZ_1G, .len = PAGE_SIZE };
	t->loan.lend.vec = t->vec;
	t->loan.lend.nr = 1;
	t->loan.size = PAGE_SIZE;
	*map = (struct pfn_dma_map) {
		.bus = PFN_DMA_DIRECT,
		.offset = 100,
		.length = 1,
		.loan = &t->loan,
	};
	KUNIT_EXPECT_EQ(test, ib_umem_pfn_best_pgsz(map, SZ_4K, 100), SZ_4K);
	/* Not larger than it takes to hold it. */
	KUNIT_EXPECT_EQ(test, ib_umem_pfn_best_pgsz(map, SZ_4K | SZ_1G, 100),
			SZ_4K);
	KUNIT_EXPECT_EQ(test, ib_umem_pfn_best_pgsz(map, SZ_1G, 100), SZ_1G);
	KUNIT_EXPECT_EQ(test, ib_umem_pfn_best_pgsz(map, SZ_4K, 101), 0);
	KUNIT_EXPECT_EQ(test, ib_umem_pfn_best_pgsz(map, 0, 100), 0);
	KUNIT_EXPECT_EQ(test, ib_umem_pfn_num_blocks(map, SZ_4K), 1);
	KUNIT_EXPECT_EQ(test, pfn_dma_map_addr(map, 0, NULL), SZ_1G + 100);
	/* Up to the end of address space, and beyond. */
	KUNIT_EXPECT_EQ(test, ib_umem_pfn_best_pgsz(map, SZ_4K,
						    U64_MAX - 4095 + 100),
			SZ_4K);
	map->length = 3996;
	KUNIT_EXPECT_EQ(test, ib_umem_pfn_best_pgsz(map, SZ_4K, U64_MAX - 99),
			0);
}

/* Mapping */

static int map_locked(struct fake_importer *im, struct pfn_dma_map *map,
		      u64 offset, u64 length)
{
	struct dma_resv *resv = im->a->attach->dmabuf->resv;
	int err;

	dma_resv_lock(resv, NULL);
	err = dma_buf_pfn_dma_map(map, im->a->loan, im->a->attach->dev, offset,
				  length, DMA_BIDIRECTIONAL);
	dma_resv_unlock(resv);
	return err;
}

static void unmap_locked(struct fake_importer *im, struct pfn_dma_map *map)
{
	struct dma_resv *resv = im->a->attach->dmabuf->resv;

	dma_resv_lock(resv, NULL);
	dma_buf_pfn_dma_unmap(map);
	dma_resv_unlock(resv);
}

/* An importer that has borrowed real RAM. */
static struct fake_importer *borrow_ram(struct kunit *test,
					struct rnd_state *rnd)
{
	struct fake_importer *im;
	struct fake_exporter *ex;
	struct phys_vec *vec;
	size_t nr;

	fake_seed(test, rnd);
	vec = fake_ram(test, rnd, 40, 4, &nr);
	ex = fake_export(test, FAKE_ALL_CAPS, DMA_BUF_PFN_RAM, vec, nr);
	im = fake_attach(test, ex, DMA_BUF_PFN_DYNAMIC);
	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, fake_map(im));
	return im;
}

/* Each byte is where the bus has it, and extents are what they say. */
static void expect_addresses(struct kunit *test, struct fake_importer *im,
			     const struct pfn_dma_map *map)
{
	const struct phys_vec *vec = im->a->loan->lend.vec;
	struct device *dev = im->a->attach->dev;
	u64 pos, start, left, total = 0;
	struct pfn_dma_iter e;
	u64 extents = 0;

	for (pos = 0; pos < map->length; pos += 511) {
		size_t i = dma_buf_pfn_loan_find(im->a->loan,
						 map->offset + pos, &start);
		phys_addr_t at = vec[i].paddr + (map->offset + pos - start);

		KUNIT_ASSERT_EQ(test, pfn_dma_map_addr(map, pos, &left),
				phys_to_dma(dev, at));
		KUNIT_ASSERT_EQ(test, left,
				min(map->length - pos,
				    start + vec[i].len - map->offset - pos));
	}
	pfn_dma_for_each_extent(map, &e) {
		KUNIT_EXPECT_TRUE(test, PAGE_ALIGNED(e.addr) && e.len);
		total += e.len;
		extents++;
	}
	KUNIT_EXPECT_EQ(test, extents, map->extents);
	KUNIT_EXPECT_EQ(test, total, round_up(map->offset + map->length,
					      PAGE_SIZE) -
				     round_down(map->offset, PAGE_SIZE));
}

static void direct_map_test(struct kunit *test)
{
	struct pfn_dma_map map = {};
	struct fake_importer *im;
	struct rnd_state rnd;
	u64 size, offset;
	int i;

	im = borrow_ram(test, &rnd);
	size = im->a->loan->size;
	for (i = 0; i < 50; i++) {
		offset = i ? fake_below(&rnd, size) : 0;
		KUNIT_ASSERT_EQ(test, 0,
				map_locked(im, &map, offset,
					   i ? 1 + fake_below(&rnd, size - offset) :
					       size));
		KUNIT_EXPECT_EQ(test, map.bus, PFN_DMA_DIRECT);
		KUNIT_EXPECT_TRUE(test, map.coherent);
		KUNIT_EXPECT_EQ(test, pfn_dma_map_metadata(&map), 0);
		expect_addresses(test, im, &map);
		unmap_locked(im, &map);
		KUNIT_EXPECT_EQ(test, map.bus, PFN_DMA_UNMAPPED);
	}
	unmap_locked(im, &map);
}

/* Two halves of memory at different distances: one number won't do. */
static void translating_bus_test(struct kunit *test)
{
	struct bus_dma_region regions[3] = {};
	const struct dma_buf_pfn_lend *lend;
	struct fake_importer *im;
	phys_addr_t middle = 0;
	struct pfn_dma_map map;
	struct rnd_state rnd;
	struct device *dev;
	size_t i;

	im = borrow_ram(test, &rnd);
	dev = im->a->attach->dev;
	lend = &im->a->loan->lend;
	KUNIT_ASSERT_GT(test, lend->nr, 1);
	for (i = 0; i < lend->nr; i++)
		middle = max(middle, lend->vec[i].paddr);
	regions[0].size = middle;
	regions[0].dma_start = BIT_ULL(40);
	regions[1].cpu_start = middle;
	regions[1].size = BIT_ULL(40) - middle;
	regions[1].dma_start = BIT_ULL(42);
	dev->dma_range_map = regions;

	KUNIT_EXPECT_EQ(test, 0, map_locked(im, &map, 0, im->a->loan->size));
	KUNIT_EXPECT_EQ(test, pfn_dma_map_metadata(&map),
			lend->nr * sizeof(dma_addr_t));
	expect_addresses(test, im, &map);
	unmap_locked(im, &map);
	KUNIT_EXPECT_EQ(test, pfn_dma_map_metadata(&map), 0);

	KUNIT_EXPECT_EQ(test, 0, map_locked(im, &map, 3 * PAGE_SIZE + 5,
					    12 * PAGE_SIZE));
	expect_addresses(test, im, &map);
	unmap_locked(im, &map);
	dev->dma_range_map = NULL;
}

/* Rule: D3 */
static void refusals_test(struct kunit *test)
{
	struct pfn_dma_map map;
	struct fake_importer *im;
	struct rnd_state rnd;
	struct device *dev;
	u64 *mask, size;

	im = borrow_ram(test, &rnd);
	dev = im->a->attach->dev;
	size = im->a->loan->size;

	KUNIT_EXPECT_EQ(test, -EINVAL, map_locked(im, &map, 0, 0));
	KUNIT_EXPECT_EQ(test, -EINVAL, map_locked(im, &map, 0, size + 1));
	KUNIT_EXPECT_EQ(test, -EINVAL, map_locked(im, &map, size, 1));
	KUNIT_EXPECT_EQ(test, -EINVAL, map_locked(im, &map, U64_MAX, 2));
	KUNIT_EXPECT_NOT_NULL(test, map.reason);

	mask = dev->dma_mask;
	dev->dma_mask = NULL;
	KUNIT_EXPECT_EQ(test, -EOPNOTSUPP, map_locked(im, &map, 0, size));
	KUNIT_EXPECT_NOT_NULL(test, map.reason);
	dev->dma_mask = mask;

	*mask = im->a->loan->lend.vec[0].paddr;
	KUNIT_EXPECT_EQ(test, -ERANGE, map_locked(im, &map, 0, size));
	KUNIT_EXPECT_NOT_NULL(test, map.reason);
	KUNIT_EXPECT_EQ(test, map.bus, PFN_DMA_UNMAPPED);
	*mask = DMA_BIT_MASK(64);

	/* Nothing of all that is left over. */
	KUNIT_EXPECT_EQ(test, 0, map_locked(im, &map, 0, size));
	KUNIT_EXPECT_NULL(test, map.reason);
	unmap_locked(im, &map);
}

/*
 * A PCI device's memory is for those who can be its peers.
 * Rule: D3
 */
static void mmio_test(struct kunit *test)
{
	const struct phys_vec vec = { .paddr = BIT_ULL(44), .len = SZ_64K };
	struct fake_importer *im;
	struct fake_exporter *ex;
	struct pfn_dma_map map;

	ex = fake_export(test, FAKE_ALL_CAPS, DMA_BUF_PFN_MMIO, &vec, 1);
	im = fake_attach(test, ex, DMA_BUF_PFN_DYNAMIC);
	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, fake_map(im));
	KUNIT_EXPECT_EQ(test, -EOPNOTSUPP, map_locked(im, &map, 0, SZ_64K));
	KUNIT_EXPECT_NOT_NULL(test, map.reason);
}

static struct kunit_case dma_cases[] = {
	KUNIT_CASE(same_page_lists_test),
	KUNIT_CASE(same_small_blocks_test),
	KUNIT_CASE(one_page_test),
	KUNIT_CASE(direct_map_test),
	KUNIT_CASE(translating_bus_test),
	KUNIT_CASE(refusals_test),
	KUNIT_CASE(mmio_test),
	{}
};

static struct kunit_suite dma_suite = {
	.name = "pfn_dma",
	.test_cases = dma_cases,
};

kunit_test_suite(dma_suite);
