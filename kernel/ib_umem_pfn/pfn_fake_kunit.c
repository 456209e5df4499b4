// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * What the KUnit suites start from, see pfn_fake_kunit.h.
 */
#include <linux/dma-mapping.h>
#include <linux/dma-resv.h>
#include <linux/file.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/random.h>
#include <linux/slab.h>

#include "pfn_fake_kunit.h"

static unsigned int seed;
module_param(seed, uint, 0444);
MODULE_PARM_DESC(seed, "of the random numbers, 0: another one each time");

void fake_seed(struct kunit *test, struct rnd_state *rnd)
{
	u32 this = seed ?: get_random_u32();

	kunit_info(test, "seed=%u", this);
	prandom_seed_state(rnd, this);
}

/* Exporter */

static int fake_exporter_map(struct dma_buf_pfn *pfn,
			     struct dma_buf_pfn_lend *lend)
{
	struct fake_exporter *ex = dma_buf_pfn_priv(pfn);

	dma_resv_assert_held(ex->dmabuf->resv);
	if (ex->map_err)
		return ex->map_err;
	ex->maps++;
	*lend = ex->lend;
	return 0;
}

static void fake_exporter_unmap(struct dma_buf_pfn *pfn,
				const struct dma_buf_pfn_lend *lend)
{
	struct fake_exporter *ex = dma_buf_pfn_priv(pfn);

	ex->unmaps++;
	ex->last_home = lend->cookie;
}

static void fake_exporter_release(struct dma_buf_pfn *pfn)
{
	struct fake_exporter *ex = dma_buf_pfn_priv(pfn);

	ex->releases++;
	/* Whatever the test was about: no loan is ever lost. */
	KUNIT_EXPECT_EQ(ex->test, ex->maps, ex->unmaps);
}

static const struct dma_buf_pfn_ops exporter_ops = {
	.map = fake_exporter_map,
	.unmap = fake_exporter_unmap,
	.release = fake_exporter_release,
};

const struct dma_buf_pfn_ops *fake_exporter_ops(void)
{
	return &exporter_ops;
}

/*
 * Tests run in kernel threads, for which an ordinary fput() would do its work
 * some time later: after the test, that is.
 */
static void put_now(struct dma_buf *dmabuf)
{
	__fput_sync(dmabuf->file);
}

KUNIT_DEFINE_ACTION_WRAPPER(put_now_action, put_now, struct dma_buf *);

u64 fake_size(const struct phys_vec *vec, size_t nr)
{
	u64 size = 0;
	size_t i;

	for (i = 0; i < nr; i++)
		size += vec[i].len;
	return size;
}

/**
 * fake_export - export a buffer that consists of these ranges
 * @test: the test
 * @caps: &enum dma_buf_pfn_cap
 * @kind: what the ranges are; any but RAM need not exist
 * @vec: the ranges
 * @nr: how many
 */
struct fake_exporter *fake_export(struct kunit *test, unsigned long caps,
				  enum dma_buf_pfn_kind kind,
				  const struct phys_vec *vec, size_t nr)
{
	struct dma_buf_pfn_export_info info = {
		.exp_name = "fake",
		.owner = THIS_MODULE,
		.ops = &exporter_ops,
		.caps = caps,
		.size = fake_size(vec, nr),
		.flags = O_RDWR,
	};
	struct fake_exporter *ex;

	ex = kunit_kzalloc(test, sizeof(*ex), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, ex);
	ex->test = test;
	ex->lend.vec = vec;
	ex->lend.nr = nr;
	ex->lend.kind = kind;

	info.priv = ex;
	ex->dmabuf = dma_buf_pfn_export(&info);
	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, ex->dmabuf);
	KUNIT_ASSERT_EQ(test, 0,
			kunit_add_action_or_reset(test, put_now_action,
						  ex->dmabuf));
	ex->pfn = to_dma_buf_pfn(ex->dmabuf);
	KUNIT_ASSERT_NOT_NULL(test, ex->pfn);
	return ex;
}

/* Two ranges that are nowhere. */
struct fake_exporter *fake_export_simple(struct kunit *test, unsigned long caps)
{
	static const struct phys_vec vec[] = {
		{ .paddr = BIT_ULL(45), .len = 3 * PAGE_SIZE },
		{ .paddr = BIT_ULL(44), .len = PAGE_SIZE },
	};

	return fake_export(test, caps, DMA_BUF_PFN_MMIO, vec, ARRAY_SIZE(vec));
}

/* Drop the reference before the test ends. */
void fake_put(struct kunit *test, struct fake_exporter *ex)
{
	kunit_release_action(test, put_now_action, ex->dmabuf);
}

int fake_invalidate(struct fake_exporter *ex)
{
	int err;

	dma_resv_lock(ex->dmabuf->resv, NULL);
	err = dma_buf_pfn_invalidate(ex->pfn);
	dma_resv_unlock(ex->dmabuf->resv);
	return err;
}

int fake_revoke(struct fake_exporter *ex)
{
	int err;

	dma_resv_lock(ex->dmabuf->resv, NULL);
	err = dma_buf_pfn_revoke(ex->pfn);
	dma_resv_unlock(ex->dmabuf->resv);
	return err;
}

int fake_unrevoke(struct fake_exporter *ex)
{
	int err;

	dma_resv_lock(ex->dmabuf->resv, NULL);
	err = dma_buf_pfn_unrevoke(ex->pfn);
	dma_resv_unlock(ex->dmabuf->resv);
	return err;
}

void fake_remove(struct fake_exporter *ex)
{
	dma_resv_lock(ex->dmabuf->resv, NULL);
	dma_buf_pfn_remove(ex->pfn);
	dma_resv_unlock(ex->dmabuf->resv);
}

bool fake_is_pinned(struct fake_exporter *ex)
{
	bool pinned;

	dma_resv_lock(ex->dmabuf->resv, NULL);
	pinned = dma_buf_pfn_is_pinned(ex->pfn);
	dma_resv_unlock(ex->dmabuf->resv);
	return pinned;
}

bool fake_is_revoked(struct fake_exporter *ex)
{
	bool revoked;

	dma_resv_lock(ex->dmabuf->resv, NULL);
	revoked = dma_buf_pfn_is_revoked(ex->pfn);
	dma_resv_unlock(ex->dmabuf->resv);
	return revoked;
}

unsigned int fake_nr_attachments(struct fake_exporter *ex)
{
	unsigned int nr;

	dma_resv_lock(ex->dmabuf->resv, NULL);
	nr = dma_buf_pfn_nr_attachments(ex->pfn);
	dma_resv_unlock(ex->dmabuf->resv);
	return nr;
}

/* Importer */

static void fake_importer_invalidate(struct dma_buf_pfn_attachment *a,
				     bool revoked)
{
	struct fake_importer *im = a->priv;

	if (revoked)
		im->revokes++;
	else
		im->invalidations++;
	if (!im->keeps)
		dma_buf_pfn_unmap(a);
}

static const struct dma_buf_pfn_importer_ops importer_ops = {
	.invalidate = fake_importer_invalidate,
};

/* The same one for all importers of a test. */
struct device *fake_device(struct kunit *test)
{
	struct device *dev = test->priv;

	if (dev)
		return dev;
	dev = kunit_device_register(test, "importer");
	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, dev);
	test->priv = dev;
	KUNIT_ASSERT_EQ(test, 0,
			dma_coerce_mask_and_coherent(dev, DMA_BIT_MASK(64)));
	return dev;
}

KUNIT_DEFINE_ACTION_WRAPPER(detach_action, dma_buf_pfn_detach,
			    struct dma_buf_pfn_attachment *);

/**
 * fake_attach - become an importer
 * @test: the test
 * @ex: of this exporter's buffer
 * @mode: to ask for; refusing it fails the test
 */
struct fake_importer *fake_attach(struct kunit *test, struct fake_exporter *ex,
				  enum dma_buf_pfn_mode mode)
{
	struct device *dev = fake_device(test);
	struct fake_importer *im;

	im = kunit_kzalloc(test, sizeof(*im), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, im);
	im->a = dma_buf_pfn_attach(ex->dmabuf, dev, mode, &importer_ops, im);
	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, im->a);
	KUNIT_ASSERT_EQ(test, 0,
			kunit_add_action_or_reset(test, detach_action, im->a));
	return im;
}

void fake_detach(struct kunit *test, struct fake_importer *im)
{
	kunit_release_action(test, detach_action, im->a);
	im->a = NULL;
}

const struct dma_buf_pfn_loan *fake_map(struct fake_importer *im)
{
	struct dma_resv *resv = im->a->attach->dmabuf->resv;
	const struct dma_buf_pfn_loan *loan;

	dma_resv_lock(resv, NULL);
	loan = dma_buf_pfn_map(im->a);
	dma_resv_unlock(resv);
	return loan;
}

void fake_unmap(struct fake_importer *im)
{
	struct dma_resv *resv = im->a->attach->dmabuf->resv;

	dma_resv_lock(resv, NULL);
	dma_buf_pfn_unmap(im->a);
	dma_resv_unlock(resv);
}

/* Memory */

struct ram_block {
	void *va;
	size_t len;
};

static void free_ram_block(void *arg)
{
	struct ram_block *block = arg;

	free_pages_exact(block->va, block->len);
}

struct phys_vec *fake_ram(struct kunit *test, struct rnd_state *rnd,
			  unsigned int pages, unsigned int max_pages,
			  size_t *nr)
{
	struct ram_block *blocks;
	struct phys_vec *vec;

	vec = kunit_kcalloc(test, pages, sizeof(*vec), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, vec);
	blocks = kunit_kcalloc(test, pages, sizeof(*blocks), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, blocks);

	for (*nr = 0; pages; ++*nr) {
		struct ram_block *block = &blocks[*nr];
		unsigned int n = 1 + fake_below(rnd, min(pages, max_pages));

		block->len = n * PAGE_SIZE;
		block->va = alloc_pages_exact(block->len,
					      GFP_KERNEL | __GFP_ZERO);
		KUNIT_ASSERT_NOT_NULL(test, block->va);
		KUNIT_ASSERT_EQ(test, 0,
				kunit_add_action_or_reset(test, free_ram_block,
							  block));
		vec[*nr].paddr = virt_to_phys(block->va);
		vec[*nr].len = block->len;
		pages -= n;
	}
	return vec;
}

MODULE_DESCRIPTION("KUnit suites of dma_buf_pfn and ib_umem_pfn");
MODULE_AUTHOR("umem-pfn");
MODULE_LICENSE("Dual BSD/GPL");
MODULE_IMPORT_NS("DMA_BUF");
MODULE_IMPORT_NS("DMA_BUF_PFN");
MODULE_IMPORT_NS("IB_UMEM_PFN");
MODULE_IMPORT_NS("EXPORTED_FOR_KUNIT_TESTING");
