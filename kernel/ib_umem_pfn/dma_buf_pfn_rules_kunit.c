// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * KUnit: the rules of docs/access-rules.md at the level of dma_buf_pfn's own
 * interface, for an exporter and importers that are not those of this project.
 */
#include <linux/dma-mapping.h>
#include <linux/dma-resv.h>
#include <linux/io.h>
#include <linux/iosys-map.h>
#include <linux/module.h>
#include <linux/scatterlist.h>
#include <linux/slab.h>

#include "pfn_fake_kunit.h"

#define PIN	FAKE_CAN_PIN
#define MOVE	FAKE_MAY_MOVE
#define REVOKE	FAKE_MAY_REVOKE

#define DEFAULT		DMA_BUF_PFN_DEFAULT
#define PINNED		DMA_BUF_PFN_PINNED
#define REVOCABLE	DMA_BUF_PFN_REVOCABLE
#define DYNAMIC		DMA_BUF_PFN_DYNAMIC
#define REFUSED		(-EOPNOTSUPP)

static const enum dma_buf_pfn_mode all_modes[] = { PINNED, REVOCABLE, DYNAMIC };

/**
 * struct caps_case - a row of the first table of docs/access-rules.md
 * @name: the exporter's capabilities, in words
 * @caps: and as a mask
 * @agreed: for each mode that is asked for the one that is agreed on
 * @static_may: L1: may an importer attach that cannot be told anything?
 */
struct caps_case {
	const char *name;
	unsigned long caps;
	int agreed[4];
	bool static_may;
};

static const struct caps_case caps_cases[] = {
	/*	asked for:	   DEFAULT, PINNED, REVOCABLE, DYNAMIC */
	{ "none", 0,		 { PINNED, PINNED, REVOCABLE, DYNAMIC }, true },
	{ "pin", PIN,		 { PINNED, PINNED, REVOCABLE, DYNAMIC }, true },
	{ "revoke", REVOKE,
	  { REVOCABLE, REFUSED, REVOCABLE, DYNAMIC }, false },
	{ "revoke, pin", REVOKE | PIN,
	  { REVOCABLE, PINNED, REVOCABLE, DYNAMIC }, true },
	{ "move", MOVE,
	  { DYNAMIC, REFUSED, REFUSED, DYNAMIC }, false },
	{ "move, pin", MOVE | PIN,
	  { DYNAMIC, PINNED, REVOCABLE, DYNAMIC }, true },
	{ "move, revoke", MOVE | REVOKE,
	  { DYNAMIC, REFUSED, REFUSED, DYNAMIC }, false },
	{ "move, revoke, pin", MOVE | REVOKE | PIN,
	  { DYNAMIC, PINNED, REVOCABLE, DYNAMIC }, true },
};

static void caps_desc(const struct caps_case *c, char *desc)
{
	strscpy(desc, c->name, KUNIT_PARAM_DESC_SIZE);
}

KUNIT_ARRAY_PARAM(caps, caps_cases, caps_desc);

static bool is_err(const void *ptr, int err)
{
	return ptr == ERR_PTR(err);
}

/* Exporting */

static int export_errno(struct kunit *test,
			const struct dma_buf_pfn_export_info *info)
{
	struct dma_buf *dmabuf = dma_buf_pfn_export(info);

	if (IS_ERR(dmabuf))
		return PTR_ERR(dmabuf);
	KUNIT_FAIL(test, "it was exported");
	dma_buf_put(dmabuf);
	return 0;
}

static void export_is_checked_test(struct kunit *test)
{
	const struct dma_buf_pfn_ops *good_ops = fake_exporter_ops();
	struct fake_exporter *ex = kunit_kzalloc(test, sizeof(*ex), GFP_KERNEL);
	const struct dma_buf_pfn_export_info good = {
		.exp_name = "fake",
		.owner = THIS_MODULE,
		.ops = good_ops,
		.caps = FAKE_ALL_CAPS,
		.size = PAGE_SIZE,
		.flags = O_RDWR,
		.priv = ex,
	};
	struct dma_buf_pfn_export_info info;
	struct dma_buf_pfn_ops ops;

	KUNIT_ASSERT_NOT_NULL(test, ex);
	ex->test = test;

#define REFUSES(what) do {						\
	info = good;							\
	ops = *good_ops;						\
	what;								\
	KUNIT_EXPECT_EQ_MSG(test, -EINVAL, export_errno(test, &info),	\
			    #what);					\
} while (0)
	REFUSES(info.ops = NULL);
	REFUSES(info.ops = &ops; ops.map = NULL);
	REFUSES(info.ops = &ops; ops.unmap = NULL);
	REFUSES(info.ops = &ops; ops.release = NULL);
	REFUSES(info.caps |= BIT(3));
	REFUSES(info.caps = ~0UL);
	REFUSES(info.size = 0);
	REFUSES(info.size = PAGE_SIZE + 8);
	REFUSES(info.size = PAGE_SIZE / 2);
#undef REFUSES
	KUNIT_EXPECT_EQ(test, ex->releases, 0);
}

/* A dma-buf of somebody else's. */
static struct sg_table *foreign_map(struct dma_buf_attachment *attach,
				    enum dma_data_direction dir)
{
	return ERR_PTR(-EIO);
}

static void foreign_unmap(struct dma_buf_attachment *attach,
			  struct sg_table *sgt, enum dma_data_direction dir)
{
}

static void foreign_release(struct dma_buf *dmabuf)
{
}

/* An importer that has use for ranges only. */
static const struct dma_buf_pfn_importer_ops no_bridge_ops = {};

static const struct dma_buf_ops foreign_ops = {
	.map_dma_buf = foreign_map,
	.unmap_dma_buf = foreign_unmap,
	.release = foreign_release,
};

static void identity_test(struct kunit *test)
{
	static const struct dma_buf_pfn_ops other_ops;
	struct fake_exporter *ex = fake_export_simple(test, FAKE_ALL_CAPS);
	DEFINE_DMA_BUF_EXPORT_INFO(info);
	struct dma_buf *foreign;

	KUNIT_EXPECT_TRUE(test, dma_buf_is_pfn(ex->dmabuf));
	KUNIT_EXPECT_PTR_EQ(test, dma_buf_pfn_dmabuf(ex->pfn), ex->dmabuf);
	KUNIT_EXPECT_PTR_EQ(test, dma_buf_pfn_priv(ex->pfn), (void *)ex);
	KUNIT_EXPECT_TRUE(test, dma_buf_pfn_exported_by(ex->dmabuf,
							fake_exporter_ops()));
	KUNIT_EXPECT_FALSE(test, dma_buf_pfn_exported_by(ex->dmabuf,
							 &other_ops));

	info.ops = &foreign_ops;
	info.size = PAGE_SIZE;
	info.priv = ex;
	foreign = dma_buf_export(&info);
	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, foreign);
	KUNIT_EXPECT_FALSE(test, dma_buf_is_pfn(foreign));
	KUNIT_EXPECT_NULL(test, to_dma_buf_pfn(foreign));
	KUNIT_EXPECT_FALSE(test, dma_buf_pfn_exported_by(foreign,
							 fake_exporter_ops()));
	KUNIT_EXPECT_TRUE(test, is_err(dma_buf_pfn_attach(foreign,
							  fake_device(test),
							  DYNAMIC,
							  &no_bridge_ops, NULL),
				       -EOPNOTSUPP));
	__fput_sync(foreign->file);
}

/* Modes */

/* Rule: M1-M8 */
static void negotiation_test(struct kunit *test)
{
	const struct caps_case *c = test->param_value;
	struct fake_exporter *ex = fake_export_simple(test, c->caps);
	struct device *dev = fake_device(test);
	unsigned int asked;

	for (asked = 0; asked < ARRAY_SIZE(c->agreed); asked++) {
		struct dma_buf_pfn_attachment *a;

		a = dma_buf_pfn_attach(ex->dmabuf, dev, asked, &no_bridge_ops,
				       NULL);
		if (c->agreed[asked] == REFUSED) {
			KUNIT_EXPECT_TRUE(test, is_err(a, -EOPNOTSUPP));
			if (!IS_ERR(a))
				dma_buf_pfn_detach(a);
			continue;
		}
		KUNIT_ASSERT_NOT_ERR_OR_NULL(test, a);
		KUNIT_EXPECT_EQ_MSG(test, (int)a->mode, c->agreed[asked],
				    "asked for %u", asked);
		/* To be attached is no reason for anything. */
		KUNIT_EXPECT_FALSE(test, fake_is_pinned(ex));
		KUNIT_EXPECT_EQ(test, fake_nr_attachments(ex), 1);
		dma_buf_pfn_detach(a);
	}
	KUNIT_EXPECT_TRUE(test,
			  is_err(dma_buf_pfn_attach(ex->dmabuf, dev,
						    DYNAMIC + 1,
						    &no_bridge_ops, NULL),
				 -EINVAL));
	KUNIT_EXPECT_EQ(test, fake_nr_attachments(ex), 0);
	KUNIT_EXPECT_EQ(test, ex->maps, 0);
}

/*
 * What the exporter may do while an importer has mapped.
 *
 * Rule: E1, E2, T3, T4, T6, T7
 */
static void refusals_test(struct kunit *test)
{
	const struct caps_case *c = test->param_value;
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(all_modes); i++) {
		enum dma_buf_pfn_mode mode = all_modes[i];
		int move = mode == DYNAMIC ? 0 : -EBUSY;
		int revoke = mode == PINNED ? -EBUSY : 0;
		struct fake_exporter *ex;
		struct fake_importer *im;

		if (!(c->caps & MOVE))
			move = -EOPNOTSUPP;
		if (!(c->caps & REVOKE))
			revoke = -EOPNOTSUPP;
		if (c->agreed[mode] == REFUSED)
			continue;

		ex = fake_export_simple(test, c->caps);
		im = fake_attach(test, ex, mode);
		KUNIT_ASSERT_FALSE(test, IS_ERR(fake_map(im)));
		KUNIT_EXPECT_EQ(test, fake_is_pinned(ex), mode != DYNAMIC);

		KUNIT_EXPECT_EQ_MSG(test, move, fake_invalidate(ex),
				    "mode %u", mode);
		KUNIT_EXPECT_EQ(test, im->invalidations, !move);
		KUNIT_EXPECT_EQ(test, !im->a->loan, !move);

		KUNIT_ASSERT_FALSE(test, IS_ERR(fake_map(im)));
		KUNIT_EXPECT_EQ_MSG(test, revoke, fake_revoke(ex),
				    "mode %u", mode);
		KUNIT_EXPECT_EQ(test, im->revokes, !revoke);
		KUNIT_EXPECT_EQ(test, !im->a->loan, !revoke);
		KUNIT_EXPECT_EQ(test, fake_is_revoked(ex), !revoke);
	}
}

/*
 * A promise begins with map and ends with unmap.
 *
 * Rule: E1, E2
 */
static void promise_ends_with_unmap_test(struct kunit *test)
{
	struct fake_exporter *ex = fake_export_simple(test, FAKE_ALL_CAPS);
	struct fake_importer *pinned = fake_attach(test, ex, PINNED);
	struct fake_importer *revocable = fake_attach(test, ex, REVOCABLE);
	struct fake_importer *dynamic = fake_attach(test, ex, DYNAMIC);

	KUNIT_EXPECT_EQ(test, 0, fake_invalidate(ex));

	fake_map(pinned);
	fake_map(pinned); /* twice is once */
	fake_map(revocable);
	fake_map(dynamic);
	KUNIT_EXPECT_EQ(test, -EBUSY, fake_invalidate(ex));
	fake_unmap(pinned);
	fake_unmap(pinned);
	KUNIT_EXPECT_EQ(test, -EBUSY, fake_invalidate(ex));
	fake_unmap(revocable);
	KUNIT_EXPECT_FALSE(test, fake_is_pinned(ex));
	KUNIT_EXPECT_EQ(test, 0, fake_invalidate(ex));
	KUNIT_EXPECT_NULL(test, dynamic->a->loan);

	/* Detaching unmaps. */
	fake_map(pinned);
	KUNIT_EXPECT_EQ(test, -EBUSY, fake_revoke(ex));
	fake_detach(test, pinned);
	fake_map(revocable);
	KUNIT_EXPECT_EQ(test, 0, fake_revoke(ex));
	KUNIT_EXPECT_NULL(test, revocable->a->loan);
	KUNIT_EXPECT_FALSE(test, fake_is_pinned(ex));
}

/* Loans */

static void loan_is_shared_test(struct kunit *test)
{
	struct fake_exporter *ex = fake_export_simple(test, FAKE_ALL_CAPS);
	const struct dma_buf_pfn_loan *loan;
	struct fake_importer *im[3];
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(im); i++)
		im[i] = fake_attach(test, ex, all_modes[i]);

	loan = fake_map(im[0]);
	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, loan);
	for (i = 0; i < ARRAY_SIZE(im); i++)
		KUNIT_EXPECT_PTR_EQ(test, fake_map(im[i]), loan);
	KUNIT_EXPECT_PTR_EQ(test, loan->lend.vec, ex->lend.vec);
	KUNIT_EXPECT_EQ(test, ex->maps, 1);

	/* The list is kept: the next one to come needs it again. */
	for (i = 0; i < ARRAY_SIZE(im); i++)
		fake_unmap(im[i]);
	KUNIT_EXPECT_EQ(test, ex->unmaps, 0);
	KUNIT_EXPECT_PTR_EQ(test, fake_map(im[1]), loan);
	KUNIT_EXPECT_EQ(test, ex->maps, 1);
	fake_unmap(im[1]);

	/* Until the exporter takes it back. */
	KUNIT_EXPECT_EQ(test, 0, fake_invalidate(ex));
	KUNIT_EXPECT_EQ(test, ex->unmaps, 1);
	KUNIT_EXPECT_FALSE(test, IS_ERR(fake_map(im[0])));
	KUNIT_EXPECT_EQ(test, ex->maps, 2);
}

/* Rule: I2 */
static void all_importers_let_go_test(struct kunit *test)
{
	struct fake_exporter *ex = fake_export_simple(test, FAKE_ALL_CAPS);
	struct fake_importer *im[3], *idle;
	int marks[2];
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(im); i++) {
		im[i] = fake_attach(test, ex, DYNAMIC);
		KUNIT_ASSERT_FALSE(test, IS_ERR(fake_map(im[i])));
	}
	idle = fake_attach(test, ex, DYNAMIC);

	ex->lend.cookie = &marks[0];
	KUNIT_EXPECT_EQ(test, 0, fake_invalidate(ex));
	KUNIT_EXPECT_EQ(test, ex->unmaps, 1);
	for (i = 0; i < ARRAY_SIZE(im); i++) {
		KUNIT_EXPECT_EQ(test, im[i]->invalidations, 1);
		KUNIT_EXPECT_EQ(test, im[i]->revokes, 0);
		KUNIT_EXPECT_NULL(test, im[i]->a->loan);
	}
	KUNIT_EXPECT_EQ(test, idle->invalidations, 1);

	/* The new place, not the old one. */
	fake_map(im[2]);
	ex->lend.cookie = &marks[1];
	KUNIT_EXPECT_EQ(test, 0, fake_invalidate(ex));
	KUNIT_EXPECT_PTR_EQ(test, ex->last_home, (void *)&marks[0]);
}

/*
 * An importer with a bug does not keep the exporter from getting its list back.
 *
 * Rule: I2
 */
static void importer_that_keeps_a_loan_test(struct kunit *test)
{
	struct fake_exporter *ex = fake_export_simple(test, FAKE_ALL_CAPS);
	struct fake_importer *im = fake_attach(test, ex, DYNAMIC);

	fake_map(im);
	im->keeps = true;
	kunit_warning_suppress(test) {
		KUNIT_EXPECT_EQ(test, 0, fake_invalidate(ex));
		/* 0 if the suite runs again: it says so once */
		KUNIT_EXPECT_LE(test, KUNIT_SUPPRESSED_WARNING_COUNT(), 1);
	}
	KUNIT_EXPECT_NULL(test, im->a->loan);
	KUNIT_EXPECT_EQ(test, ex->unmaps, 1);
}

static void map_error_reaches_the_importer_test(struct kunit *test)
{
	struct fake_exporter *ex = fake_export_simple(test, FAKE_ALL_CAPS);
	struct fake_importer *im = fake_attach(test, ex, PINNED);

	ex->map_err = -ENOSPC;
	KUNIT_EXPECT_TRUE(test, is_err(fake_map(im), -ENOSPC));
	KUNIT_EXPECT_TRUE(test, is_err(fake_map(im), -ENOSPC));
	KUNIT_EXPECT_FALSE(test, fake_is_pinned(ex));
	KUNIT_EXPECT_EQ(test, ex->unmaps, 0);
	ex->map_err = 0;
	KUNIT_EXPECT_FALSE(test, IS_ERR(fake_map(im)));
	KUNIT_EXPECT_TRUE(test, fake_is_pinned(ex));
}

static void release_takes_the_loan_home_test(struct kunit *test)
{
	struct fake_exporter *ex = fake_export_simple(test, FAKE_ALL_CAPS);
	struct fake_importer *im = fake_attach(test, ex, DYNAMIC);

	fake_map(im);
	fake_detach(test, im);
	KUNIT_EXPECT_EQ(test, ex->unmaps, 0);
	KUNIT_EXPECT_EQ(test, ex->releases, 0);
	fake_put(test, ex);
	KUNIT_EXPECT_EQ(test, ex->unmaps, 1);
	KUNIT_EXPECT_EQ(test, ex->releases, 1);
}

/* The end */

/* Rule: E2 */
static void revoke_is_for_good_test(struct kunit *test)
{
	struct fake_exporter *ex = fake_export_simple(test, FAKE_ALL_CAPS);
	struct fake_importer *im = fake_attach(test, ex, REVOCABLE);
	struct fake_importer *late;

	fake_map(im);
	KUNIT_EXPECT_EQ(test, 0, fake_revoke(ex));
	KUNIT_EXPECT_EQ(test, ex->unmaps, 1);
	KUNIT_EXPECT_EQ(test, -ENODEV, fake_revoke(ex));
	KUNIT_EXPECT_EQ(test, -ENODEV, fake_invalidate(ex));
	KUNIT_EXPECT_EQ(test, im->revokes, 1);
	KUNIT_EXPECT_EQ(test, im->invalidations, 0);

	KUNIT_EXPECT_TRUE(test, is_err(fake_map(im), -ENODEV));
	late = fake_attach(test, ex, DYNAMIC);
	KUNIT_EXPECT_TRUE(test, is_err(fake_map(late), -ENODEV));
	KUNIT_EXPECT_EQ(test, ex->maps, 1);
}

/* Rule: E7, T12, T14 */
static void restoring_revives_nobody_test(struct kunit *test)
{
	struct fake_exporter *ex = fake_export_simple(test, FAKE_ALL_CAPS);
	struct fake_importer *mapped = fake_attach(test, ex, REVOCABLE);
	struct fake_importer *idle = fake_attach(test, ex, DYNAMIC);
	struct fake_importer *meanwhile, *later;

	KUNIT_EXPECT_EQ(test, -EINVAL, fake_unrevoke(ex));
	fake_map(mapped);
	KUNIT_EXPECT_EQ(test, 0, fake_revoke(ex));
	meanwhile = fake_attach(test, ex, PINNED);
	KUNIT_EXPECT_TRUE(test, is_err(fake_map(meanwhile), -ENODEV));

	KUNIT_EXPECT_EQ(test, 0, fake_unrevoke(ex));
	KUNIT_EXPECT_EQ(test, -EINVAL, fake_unrevoke(ex));
	KUNIT_EXPECT_FALSE(test, fake_is_revoked(ex));
	KUNIT_EXPECT_TRUE(test, is_err(fake_map(mapped), -ENODEV));
	KUNIT_EXPECT_TRUE(test, is_err(fake_map(idle), -ENODEV));
	/* Neither has ever been told that it would not get anything. */
	later = fake_attach(test, ex, PINNED);
	KUNIT_EXPECT_FALSE(test, IS_ERR(fake_map(later)));
	KUNIT_EXPECT_FALSE(test, IS_ERR(fake_map(meanwhile)));
	KUNIT_EXPECT_EQ(test, -EBUSY, fake_revoke(ex));
	fake_unmap(later);
	fake_unmap(meanwhile);
	KUNIT_EXPECT_EQ(test, 0, fake_revoke(ex));

	KUNIT_EXPECT_EQ(test, 0, fake_unrevoke(ex));
	fake_remove(ex);
	KUNIT_EXPECT_EQ(test, -ENODEV, fake_unrevoke(ex));
	KUNIT_EXPECT_TRUE(test, fake_is_revoked(ex));
}

/*
 * Whatever was promised, and whatever the exporter is capable of.
 *
 * Rule: E3
 */
static void removal_breaks_every_promise_test(struct kunit *test)
{
	const struct caps_case *c = test->param_value;
	struct fake_exporter *ex = fake_export_simple(test, c->caps);
	struct fake_importer *im[ARRAY_SIZE(all_modes)] = {};
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(all_modes); i++) {
		if (c->agreed[all_modes[i]] == REFUSED)
			continue;
		im[i] = fake_attach(test, ex, all_modes[i]);
		KUNIT_ASSERT_FALSE(test, IS_ERR(fake_map(im[i])));
	}
	fake_remove(ex);
	KUNIT_EXPECT_TRUE(test, fake_is_revoked(ex));
	KUNIT_EXPECT_FALSE(test, fake_is_pinned(ex));
	KUNIT_EXPECT_EQ(test, ex->unmaps, 1);
	fake_remove(ex); /* once more does no harm */
	for (i = 0; i < ARRAY_SIZE(all_modes); i++) {
		if (!im[i])
			continue;
		KUNIT_EXPECT_EQ(test, im[i]->revokes, 1);
		KUNIT_EXPECT_NULL(test, im[i]->a->loan);
		KUNIT_EXPECT_TRUE(test, is_err(fake_map(im[i]), -ENODEV));
	}
}

/* Legacy importers */

/**
 * struct legacy - an importer that wants scatterlists
 * @attach: its attachment
 * @sgt: what it has mapped, or NULL
 * @told: times its invalidate_mappings was called
 */
struct legacy {
	struct dma_buf_attachment *attach;
	struct sg_table *sgt;
	unsigned int told;
};

static void legacy_invalidate(struct dma_buf_attachment *attach)
{
	struct legacy *l = attach->importer_priv;

	l->told++;
}

/* Can be told, and then unmaps when it finds the time. */
static const struct dma_buf_attach_ops told_ops = {
	.allow_peer2peer = true,
	.invalidate_mappings = legacy_invalidate,
};

static const struct dma_buf_attach_ops not_told_ops = {
	.allow_peer2peer = true,
};

static void legacy_unmap(struct legacy *l)
{
	dma_buf_unmap_attachment_unlocked(l->attach, l->sgt, DMA_FROM_DEVICE);
	l->sgt = NULL;
}

static void legacy_detach(void *arg)
{
	struct legacy *l = arg;

	if (l->sgt)
		legacy_unmap(l);
	dma_buf_detach(l->attach->dmabuf, l->attach);
}

/* @ops: NULL for a static importer */
static struct legacy *legacy_attach(struct kunit *test,
				    struct fake_exporter *ex,
				    struct device *dev,
				    const struct dma_buf_attach_ops *ops)
{
	struct legacy *l = kunit_kzalloc(test, sizeof(*l), GFP_KERNEL);

	KUNIT_ASSERT_NOT_NULL(test, l);
	l->attach = dma_buf_dynamic_attach(ex->dmabuf, dev, ops, l);
	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, l->attach);
	KUNIT_ASSERT_EQ(test, 0,
			kunit_add_action_or_reset(test, legacy_detach, l));
	return l;
}

static int legacy_map(struct legacy *l)
{
	struct sg_table *sgt;

	sgt = dma_buf_map_attachment_unlocked(l->attach, DMA_FROM_DEVICE);
	if (IS_ERR(sgt))
		return PTR_ERR(sgt);
	l->sgt = sgt;
	return 0;
}

static int legacy_pin(struct legacy *l)
{
	int err;

	dma_resv_lock(l->attach->dmabuf->resv, NULL);
	err = dma_buf_pin(l->attach);
	dma_resv_unlock(l->attach->dmabuf->resv);
	return err;
}

static void legacy_unpin(struct legacy *l)
{
	dma_resv_lock(l->attach->dmabuf->resv, NULL);
	dma_buf_unpin(l->attach);
	dma_resv_unlock(l->attach->dmabuf->resv);
}

static struct fake_exporter *export_ram(struct kunit *test, unsigned long caps,
					unsigned int pages)
{
	struct rnd_state rnd;
	struct phys_vec *vec;
	size_t nr;

	fake_seed(test, &rnd);
	vec = fake_ram(test, &rnd, pages, 4, &nr);
	return fake_export(test, caps, DMA_BUF_PFN_RAM, vec, nr);
}

/* Rule: L1 */
static void legacy_attach_test(struct kunit *test)
{
	static const struct dma_buf_attach_ops *const cannot_be_told[] = {
		NULL, &not_told_ops,
	};
	const struct caps_case *c = test->param_value;
	struct fake_exporter *ex = fake_export_simple(test, c->caps);
	struct device *dev = fake_device(test);
	struct dma_buf_attachment *attach;
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(cannot_be_told); i++) {
		attach = dma_buf_dynamic_attach(ex->dmabuf, dev,
						cannot_be_told[i], ex);
		if (c->static_may) {
			KUNIT_ASSERT_NOT_ERR_OR_NULL(test, attach);
			dma_buf_detach(ex->dmabuf, attach);
		} else {
			KUNIT_EXPECT_TRUE(test, is_err(attach, -EOPNOTSUPP));
		}
	}
	legacy_attach(test, ex, dev, &told_ops);
	KUNIT_EXPECT_EQ(test, fake_nr_attachments(ex), 1);
}

/* Rule: L1, E1, E2 */
static void static_importer_is_pinned_test(struct kunit *test)
{
	struct fake_exporter *ex = export_ram(test, FAKE_ALL_CAPS, 9);
	struct legacy *l = legacy_attach(test, ex, fake_device(test), NULL);

	KUNIT_EXPECT_FALSE(test, fake_is_pinned(ex));
	KUNIT_ASSERT_EQ(test, 0, legacy_map(l));
	KUNIT_EXPECT_TRUE(test, fake_is_pinned(ex));
	KUNIT_EXPECT_EQ(test, -EBUSY, fake_invalidate(ex));
	KUNIT_EXPECT_EQ(test, -EBUSY, fake_revoke(ex));
	legacy_unmap(l);
	KUNIT_EXPECT_FALSE(test, fake_is_pinned(ex));
	KUNIT_EXPECT_EQ(test, 0, fake_invalidate(ex));
	KUNIT_EXPECT_EQ(test, 0, fake_revoke(ex));
	KUNIT_EXPECT_EQ(test, -ENODEV, legacy_map(l));
	KUNIT_EXPECT_FALSE(test, fake_is_pinned(ex));
}

/*
 * A pin by one that can be told is a promise not to move.
 *
 * Rule: L1
 */
static void legacy_pin_is_revocable_test(struct kunit *test)
{
	const struct caps_case *c = test->param_value;
	bool can = (c->caps & PIN) || !(c->caps & MOVE);
	struct fake_exporter *ex = export_ram(test, c->caps, 9);
	struct legacy *l = legacy_attach(test, ex, fake_device(test),
					 &told_ops);

	KUNIT_ASSERT_EQ(test, can ? 0 : -EOPNOTSUPP, legacy_pin(l));
	KUNIT_EXPECT_EQ(test, can, fake_is_pinned(ex));
	if (!can)
		return;
	KUNIT_ASSERT_EQ(test, 0, legacy_map(l));
	KUNIT_EXPECT_EQ(test, c->caps & MOVE ? -EBUSY : -EOPNOTSUPP,
			fake_invalidate(ex));
	KUNIT_EXPECT_EQ(test, l->told, 0);
	KUNIT_EXPECT_EQ(test, c->caps & REVOKE ? 0 : -EOPNOTSUPP,
			fake_revoke(ex));
	KUNIT_EXPECT_EQ(test, l->told, !!(c->caps & REVOKE));
	legacy_unmap(l);
	legacy_unpin(l);
	KUNIT_EXPECT_FALSE(test, fake_is_pinned(ex));
}

/* Rule: E6, L1 */
static void legacy_returns_it_late_test(struct kunit *test)
{
	struct fake_exporter *ex = export_ram(test, MOVE | REVOKE, 9);
	struct fake_importer *im = fake_attach(test, ex, DYNAMIC);
	struct device *dev = fake_device(test);
	struct legacy *late, *later;
	int old, new, revoked;

	late = legacy_attach(test, ex, dev, &told_ops);
	later = legacy_attach(test, ex, dev, &told_ops);

	ex->lend.cookie = &old;
	KUNIT_ASSERT_FALSE(test, IS_ERR(fake_map(im)));
	KUNIT_ASSERT_EQ(test, 0, legacy_map(late));

	/* A pfn importer lets go at once; the scatterlist is still there. */
	KUNIT_EXPECT_EQ(test, 0, fake_invalidate(ex));
	KUNIT_EXPECT_EQ(test, late->told, 1);
	KUNIT_EXPECT_EQ(test, ex->unmaps, 0);

	ex->lend.cookie = &new;
	KUNIT_ASSERT_FALSE(test, IS_ERR(fake_map(im)));
	KUNIT_ASSERT_EQ(test, 0, legacy_map(later));
	KUNIT_EXPECT_EQ(test, ex->maps, 2);
	KUNIT_EXPECT_EQ(test, ex->unmaps, 0);

	legacy_unmap(late);
	KUNIT_EXPECT_EQ(test, ex->unmaps, 1);
	KUNIT_EXPECT_PTR_EQ(test, ex->last_home, (void *)&old);

	/* A revoke waits for nobody either. */
	ex->lend.cookie = &revoked;
	KUNIT_EXPECT_EQ(test, 0, fake_revoke(ex));
	KUNIT_EXPECT_EQ(test, ex->unmaps, 1);
	legacy_unmap(later);
	KUNIT_EXPECT_EQ(test, ex->unmaps, 2);
	KUNIT_EXPECT_PTR_EQ(test, ex->last_home, (void *)&new);
}

/* The scatterlist is the ranges, in their order, without gap or overlap. */
static void scatterlist_covers_the_ranges_test(struct kunit *test)
{
	struct fake_exporter *ex = export_ram(test, 0, 40);
	struct legacy *l = legacy_attach(test, ex, fake_device(test), NULL);
	const struct phys_vec *vec = ex->lend.vec;
	size_t i = 0, in = 0, total = 0;
	struct scatterlist *sg;
	int n;

	KUNIT_ASSERT_EQ(test, 0, legacy_map(l));
	for_each_sgtable_dma_sg(l->sgt, sg, n) {
		dma_addr_t addr = sg_dma_address(sg);
		size_t len = sg_dma_len(sg);

		total += len;
		/* One entry may hold several ranges that happen to touch. */
		while (len && i < ex->lend.nr) {
			size_t part = min(len, vec[i].len - in);

			/* No IOMMU in front of a device that isn't one. */
			KUNIT_EXPECT_EQ(test, addr, vec[i].paddr + in);
			addr += part;
			len -= part;
			in += part;
			if (in == vec[i].len) {
				in = 0;
				i++;
			}
		}
		KUNIT_EXPECT_EQ(test, len, 0);
	}
	KUNIT_EXPECT_EQ(test, i, ex->lend.nr);
	KUNIT_EXPECT_EQ(test, total, ex->dmabuf->size);
	KUNIT_EXPECT_EQ(test, ex->maps, 1);
	legacy_unmap(l);
}

static void legacy_map_fails_cleanly_test(struct kunit *test)
{
	struct fake_exporter *ex = export_ram(test, FAKE_ALL_CAPS, 9);
	struct device *dev = fake_device(test);
	struct legacy *l = legacy_attach(test, ex, dev, NULL);
	struct fake_exporter *mmio;
	u64 *mask = dev->dma_mask;

	dev->dma_mask = NULL; /* cannot do DMA at all */
	KUNIT_EXPECT_EQ(test, -EOPNOTSUPP, legacy_map(l));
	dev->dma_mask = mask;
	ex->map_err = -ENOSPC;
	KUNIT_EXPECT_EQ(test, 0, fake_invalidate(ex));
	KUNIT_EXPECT_EQ(test, -ENOSPC, legacy_map(l));
	KUNIT_EXPECT_FALSE(test, fake_is_pinned(ex));
	ex->map_err = 0;
	KUNIT_EXPECT_EQ(test, 0, legacy_map(l));

	/* MMIO that nobody says how to reach. */
	mmio = fake_export_simple(test, 0);
	l = legacy_attach(test, mmio, dev, NULL);
	KUNIT_EXPECT_EQ(test, -EOPNOTSUPP, legacy_map(l));
	KUNIT_EXPECT_FALSE(test, fake_is_pinned(mmio));
}

/* Kernel mappings */

static int ops_vmap(struct fake_exporter *ex, struct iosys_map *map)
{
	int err;

	/* dma_buf_vmap() would WARN about any error. */
	dma_resv_lock(ex->dmabuf->resv, NULL);
	err = ex->dmabuf->ops->vmap(ex->dmabuf, map);
	if (!err)
		ex->dmabuf->ops->vunmap(ex->dmabuf, map);
	dma_resv_unlock(ex->dmabuf->resv);
	return err;
}

/* Rule: L3, E1, E6 */
static void vmap_test(struct kunit *test)
{
	const struct caps_case *c = test->param_value;
	bool can = (c->caps & PIN) || !(c->caps & MOVE);
	struct fake_exporter *ex = export_ram(test, c->caps, 15);
	const struct phys_vec *vec = ex->lend.vec;
	struct iosys_map map, again;
	size_t pos = 0, i;

	KUNIT_ASSERT_EQ(test, can ? 0 : -EOPNOTSUPP, ops_vmap(ex, &map));
	KUNIT_EXPECT_FALSE(test, fake_is_pinned(ex));
	if (!can)
		return;

	for (i = 0; i < ex->lend.nr; i++)
		memset(phys_to_virt(vec[i].paddr), 'a' + i, vec[i].len);
	KUNIT_ASSERT_EQ(test, 0, dma_buf_vmap_unlocked(ex->dmabuf, &map));
	KUNIT_ASSERT_EQ(test, 0, dma_buf_vmap_unlocked(ex->dmabuf, &again));
	KUNIT_EXPECT_TRUE(test, iosys_map_is_equal(&map, &again));
	for (i = 0; i < ex->lend.nr; i++) {
		KUNIT_EXPECT_PTR_EQ(test, NULL,
				    memchr_inv(map.vaddr + pos, 'a' + i,
					       vec[i].len));
		pos += vec[i].len;
	}

	KUNIT_EXPECT_TRUE(test, fake_is_pinned(ex));
	KUNIT_EXPECT_EQ(test, c->caps & MOVE ? -EBUSY : -EOPNOTSUPP,
			fake_invalidate(ex));
	KUNIT_EXPECT_EQ(test, c->caps & REVOKE ? 0 : -EOPNOTSUPP,
			fake_revoke(ex));
	/* The memory is kept all the same. */
	KUNIT_EXPECT_EQ(test, ex->unmaps, 0);
	KUNIT_EXPECT_EQ(test, *(char *)map.vaddr, 'a');

	dma_buf_vunmap_unlocked(ex->dmabuf, &again);
	KUNIT_EXPECT_TRUE(test, fake_is_pinned(ex));
	dma_buf_vunmap_unlocked(ex->dmabuf, &map);
	KUNIT_EXPECT_FALSE(test, fake_is_pinned(ex));
	KUNIT_EXPECT_EQ(test, ex->unmaps, !!(c->caps & REVOKE));
}

static struct kunit_case rules_cases[] = {
	KUNIT_CASE(export_is_checked_test),
	KUNIT_CASE(identity_test),
	KUNIT_CASE_PARAM(negotiation_test, caps_gen_params),
	KUNIT_CASE_PARAM(refusals_test, caps_gen_params),
	KUNIT_CASE(promise_ends_with_unmap_test),
	KUNIT_CASE(loan_is_shared_test),
	KUNIT_CASE(all_importers_let_go_test),
	KUNIT_CASE(importer_that_keeps_a_loan_test),
	KUNIT_CASE(map_error_reaches_the_importer_test),
	KUNIT_CASE(release_takes_the_loan_home_test),
	KUNIT_CASE(revoke_is_for_good_test),
	KUNIT_CASE(restoring_revives_nobody_test),
	KUNIT_CASE_PARAM(removal_breaks_every_promise_test, caps_gen_params),
	KUNIT_CASE_PARAM(legacy_attach_test, caps_gen_params),
	KUNIT_CASE(static_importer_is_pinned_test),
	KUNIT_CASE_PARAM(legacy_pin_is_revocable_test, caps_gen_params),
	KUNIT_CASE(legacy_returns_it_late_test),
	KUNIT_CASE(scatterlist_covers_the_ranges_test),
	KUNIT_CASE(legacy_map_fails_cleanly_test),
	KUNIT_CASE_PARAM(vmap_test, caps_gen_params),
	{}
};

static struct kunit_suite rules_suite = {
	.name = "dma_buf_pfn_rules",
	.test_cases = rules_cases,
};

kunit_test_suite(rules_suite);
