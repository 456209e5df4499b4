// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * KUnit: bridges to exporters that do not lend, by an exporter that can do what
 * those of the lab's guest never do: move, refuse, and count.
 */
#include <linux/dma-fence.h>
#include <linux/dma-resv.h>
#include <linux/fdtable.h>
#include <linux/file.h>
#include <linux/iosys-map.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>
#include <linux/workqueue.h>
#include <rdma/ib_umem_pfn.h>
#include <rdma/ib_verbs.h>

#include "pfn_fake_kunit.h"

#define PAGES	2
#define SIZE	(PAGES * PAGE_SIZE)

/**
 * struct stranger - an exporter that has never heard of loans
 * @ops: what it offers; taken away by tests before they attach
 * @dmabuf: the one reference to it
 * @place: two places for its memory
 * @now: which of them it is in
 * @must_be_told: refuses importers that cannot be told of a revoke
 * @vmap_err: what vmap returns
 * @pin_err: what pin returns
 * @fence: added to the reservation object by vmap, or NULL
 * @vmaps: kernel mappings that exist
 * @pins: pins that exist
 * @begins: times CPU access began
 * @ends: times it ended
 */
struct stranger {
	struct dma_buf_ops ops;
	struct dma_buf *dmabuf;
	void *place[2];
	unsigned int now;
	bool must_be_told;
	int vmap_err;
	int pin_err;
	struct dma_fence *fence;
	int vmaps;
	int pins;
	unsigned int begins;
	unsigned int ends;
};

static int stranger_attach(struct dma_buf *dmabuf,
			   struct dma_buf_attachment *attach)
{
	struct stranger *s = dmabuf->priv;

	return s->must_be_told && !dma_buf_attach_revocable(attach) ?
	       -EOPNOTSUPP : 0;
}

static int stranger_pin(struct dma_buf_attachment *attach)
{
	struct stranger *s = attach->dmabuf->priv;

	dma_resv_assert_held(attach->dmabuf->resv);
	if (s->pin_err)
		return s->pin_err;
	s->pins++;
	return 0;
}

static void stranger_unpin(struct dma_buf_attachment *attach)
{
	struct stranger *s = attach->dmabuf->priv;

	dma_resv_assert_held(attach->dmabuf->resv);
	s->pins--;
}

static int stranger_vmap(struct dma_buf *dmabuf, struct iosys_map *map)
{
	struct stranger *s = dmabuf->priv;

	dma_resv_assert_held(dmabuf->resv);
	if (s->vmap_err)
		return s->vmap_err;
	if (s->fence) {
		int err = dma_resv_reserve_fences(dmabuf->resv, 1);

		if (err)
			return err;
		dma_resv_add_fence(dmabuf->resv, s->fence,
				   DMA_RESV_USAGE_KERNEL);
	}
	s->vmaps++;
	iosys_map_set_vaddr(map, s->place[s->now]);
	return 0;
}

static void stranger_vunmap(struct dma_buf *dmabuf, struct iosys_map *map)
{
	struct stranger *s = dmabuf->priv;

	dma_resv_assert_held(dmabuf->resv);
	s->vmaps--;
}

static int stranger_begin(struct dma_buf *dmabuf, enum dma_data_direction dir)
{
	struct stranger *s = dmabuf->priv;

	s->begins++;
	return 0;
}

static int stranger_end(struct dma_buf *dmabuf, enum dma_data_direction dir)
{
	struct stranger *s = dmabuf->priv;

	s->ends++;
	return 0;
}

static struct sg_table *stranger_map(struct dma_buf_attachment *attach,
				     enum dma_data_direction dir)
{
	return ERR_PTR(-EINVAL);
}

static void stranger_unmap(struct dma_buf_attachment *attach,
			   struct sg_table *sgt, enum dma_data_direction dir)
{
}

static void stranger_release(struct dma_buf *dmabuf)
{
}

static const struct dma_buf_ops all_stranger_ops = {
	.attach = stranger_attach,
	.pin = stranger_pin,
	.unpin = stranger_unpin,
	.map_dma_buf = stranger_map,
	.unmap_dma_buf = stranger_unmap,
	.vmap = stranger_vmap,
	.vunmap = stranger_vunmap,
	.begin_cpu_access = stranger_begin,
	.end_cpu_access = stranger_end,
	.release = stranger_release,
};

static void put_now(struct dma_buf *dmabuf)
{
	__fput_sync(dmabuf->file);
}

KUNIT_DEFINE_ACTION_WRAPPER(put_now_action, put_now, struct dma_buf *);

static struct stranger *stranger_export(struct kunit *test)
{
	DEFINE_DMA_BUF_EXPORT_INFO(info);
	struct stranger *s = kunit_kzalloc(test, sizeof(*s), GFP_KERNEL);
	unsigned int i;

	KUNIT_ASSERT_NOT_NULL(test, s);
	s->ops = all_stranger_ops;
	for (i = 0; i < ARRAY_SIZE(s->place); i++) {
		s->place[i] = kunit_kzalloc(test, SIZE, GFP_KERNEL);
		KUNIT_ASSERT_NOT_NULL(test, s->place[i]);
	}

	info.exp_name = "stranger";
	info.ops = &s->ops;
	info.size = SIZE;
	info.flags = O_RDWR;
	info.priv = s;
	s->dmabuf = dma_buf_export(&info);
	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, s->dmabuf);
	KUNIT_ASSERT_EQ(test, 0,
			kunit_add_action_or_reset(test, put_now_action,
						  s->dmabuf));
	return s;
}

/* Everybody is told; and the memory is elsewhere, the bytes with it. */
static void stranger_move(struct stranger *s)
{
	dma_resv_lock(s->dmabuf->resv, NULL);
	dma_buf_invalidate_mappings(s->dmabuf);
	memcpy(s->place[!s->now], s->place[s->now], SIZE);
	memset(s->place[s->now], 0xee, SIZE);
	s->now = !s->now;
	dma_resv_unlock(s->dmabuf->resv);
}

static void guest_invalidate(struct dma_buf_pfn_attachment *a, bool revoked)
{
	struct fake_importer *im = a->priv;

	if (revoked)
		im->revokes++;
	else
		im->invalidations++;
	dma_buf_pfn_unmap(a);
}

static const struct dma_buf_pfn_importer_ops guest_ops = {
	.allow_bridge = true,
	.invalidate = guest_invalidate,
};

static void guest_detach(void *arg)
{
	struct fake_importer *im = arg;

	dma_buf_pfn_detach(im->a);
}

/* Attach an importer that allows bridges, or return why not. */
static int try_attach(struct kunit *test, struct stranger *s,
		      enum dma_buf_pfn_mode mode, struct fake_importer **out)
{
	struct fake_importer *im = kunit_kzalloc(test, sizeof(*im), GFP_KERNEL);

	KUNIT_ASSERT_NOT_NULL(test, im);
	im->a = dma_buf_pfn_attach(s->dmabuf, fake_device(test), mode,
				   &guest_ops, im);
	if (IS_ERR(im->a))
		return PTR_ERR(im->a);
	KUNIT_ASSERT_EQ(test, 0,
			kunit_add_action_or_reset(test, guest_detach, im));
	*out = im;
	return 0;
}

static struct fake_importer *attach(struct kunit *test, struct stranger *s,
				    enum dma_buf_pfn_mode mode)
{
	struct fake_importer *im;

	KUNIT_ASSERT_EQ(test, 0, try_attach(test, s, mode, &im));
	return im;
}

static enum dma_buf_pfn_mode agreed(struct kunit *test, struct stranger *s,
				    enum dma_buf_pfn_mode mode)
{
	struct fake_importer *im = attach(test, s, mode);

	mode = im->a->mode;
	kunit_release_action(test, guest_detach, im);
	return mode;
}

/* Rule: B5 */
static void neither_nor_test(struct kunit *test)
{
	struct stranger *s = stranger_export(test);
	struct fake_importer *im;

	s->ops.vmap = NULL;
	s->ops.vunmap = NULL;
	KUNIT_EXPECT_EQ(test, -ENXIO,
			try_attach(test, s, DMA_BUF_PFN_DEFAULT, &im));
	KUNIT_EXPECT_TRUE(test, list_empty(&s->dmabuf->attachments));
	KUNIT_EXPECT_EQ(test, 0, s->pins);
}

/* Rule: B5 */
static void kernel_mapping_is_a_loan_test(struct kunit *test)
{
	struct stranger *s = stranger_export(test);
	struct fake_importer *im = attach(test, s, DMA_BUF_PFN_DYNAMIC);
	const struct dma_buf_pfn_loan *loan = fake_map(im);
	unsigned long pfn;

	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, loan);
	KUNIT_EXPECT_EQ(test, im->a->backend, DMA_BUF_PFN_BACKEND_VMAP);
	KUNIT_EXPECT_EQ(test, loan->lend.kind, DMA_BUF_PFN_VMAP);
	KUNIT_EXPECT_EQ(test, loan->lend.nr, 0);
	KUNIT_EXPECT_EQ(test, loan->size, SIZE);
	dma_resv_lock(s->dmabuf->resv, NULL);
	KUNIT_EXPECT_PTR_EQ(test, s->place[0], dma_buf_pfn_loan_kmap(loan));
	KUNIT_EXPECT_EQ(test, -ENXIO,
			dma_buf_pfn_lookup(im->a, 0, &pfn, NULL));
	dma_resv_unlock(s->dmabuf->resv);
	fake_unmap(im);
	KUNIT_EXPECT_EQ(test, 0, s->vmaps);
}

/* Rule: B1 */
static void who_holds_still_is_pinned_test(struct kunit *test)
{
	struct stranger *s = stranger_export(test);
	enum dma_buf_pfn_mode mode;

	s->ops.pin = NULL;
	s->ops.unpin = NULL;
	KUNIT_EXPECT_EQ(test, DMA_BUF_PFN_PINNED,
			agreed(test, s, DMA_BUF_PFN_DEFAULT));
	for (mode = DMA_BUF_PFN_PINNED; mode <= DMA_BUF_PFN_DYNAMIC; mode++)
		KUNIT_EXPECT_EQ(test, mode, agreed(test, s, mode));
}

/* Rule: B2 */
static void who_must_tell_is_revocable_test(struct kunit *test)
{
	struct stranger *s = stranger_export(test);
	struct fake_importer *im;

	s->ops.pin = NULL;
	s->ops.unpin = NULL;
	s->must_be_told = true;
	KUNIT_EXPECT_EQ(test, DMA_BUF_PFN_REVOCABLE,
			agreed(test, s, DMA_BUF_PFN_DEFAULT));
	KUNIT_EXPECT_EQ(test, -EOPNOTSUPP,
			try_attach(test, s, DMA_BUF_PFN_PINNED, &im));
	KUNIT_EXPECT_EQ(test, DMA_BUF_PFN_DYNAMIC,
			agreed(test, s, DMA_BUF_PFN_DYNAMIC));
}

/* Rule: B3 */
static void who_can_pin_is_pinned_test(struct kunit *test)
{
	struct stranger *s = stranger_export(test);
	enum dma_buf_pfn_mode mode;
	struct fake_importer *im;

	KUNIT_EXPECT_EQ(test, DMA_BUF_PFN_DYNAMIC,
			agreed(test, s, DMA_BUF_PFN_DEFAULT));
	for (mode = DMA_BUF_PFN_PINNED; mode <= DMA_BUF_PFN_DYNAMIC; mode++) {
		im = attach(test, s, mode);
		KUNIT_EXPECT_EQ(test, 0, s->pins);
		KUNIT_ASSERT_NOT_ERR_OR_NULL(test, fake_map(im));
		KUNIT_EXPECT_EQ(test, mode != DMA_BUF_PFN_DYNAMIC, s->pins);
		kunit_release_action(test, guest_detach, im);
		KUNIT_EXPECT_EQ(test, 0, s->pins);
		KUNIT_EXPECT_EQ(test, 0, s->vmaps);
	}

	im = attach(test, s, DMA_BUF_PFN_REVOCABLE);
	s->pin_err = -EBUSY;
	KUNIT_EXPECT_EQ(test, -EBUSY, PTR_ERR_OR_ZERO(fake_map(im)));
	KUNIT_EXPECT_EQ(test, 0, s->vmaps);
}

/* Rule: I1, I2, B4 */
static void moves_are_followed_test(struct kunit *test)
{
	struct stranger *s = stranger_export(test);
	struct fake_importer *im = attach(test, s, DMA_BUF_PFN_DYNAMIC);
	unsigned int i;

	stranger_move(s);	/* who has nothing is not bothered */
	KUNIT_EXPECT_EQ(test, 0, im->invalidations);

	for (i = 1; i <= 3; i++) {
		const struct dma_buf_pfn_loan *loan = fake_map(im);

		KUNIT_ASSERT_NOT_ERR_OR_NULL(test, loan);
		dma_resv_lock(s->dmabuf->resv, NULL);
		KUNIT_EXPECT_PTR_EQ(test, s->place[s->now],
				    dma_buf_pfn_loan_kmap(loan));
		dma_resv_unlock(s->dmabuf->resv);
		stranger_move(s);
		KUNIT_EXPECT_EQ(test, i, im->invalidations);
		KUNIT_EXPECT_NULL(test, im->a->loan);
		KUNIT_EXPECT_EQ(test, 0, s->vmaps);
	}
	KUNIT_EXPECT_EQ(test, 0, im->revokes);
}

/* Rule: B4 */
static void revocable_is_revoked_test(struct kunit *test)
{
	struct stranger *s = stranger_export(test);
	struct fake_importer *im = attach(test, s, DMA_BUF_PFN_REVOCABLE);

	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, fake_map(im));
	stranger_move(s);
	KUNIT_EXPECT_EQ(test, 1, im->revokes);
	KUNIT_EXPECT_EQ(test, 0, s->vmaps);
	KUNIT_EXPECT_EQ(test, 0, s->pins);
	KUNIT_EXPECT_EQ(test, -ENODEV, PTR_ERR_OR_ZERO(fake_map(im)));
	KUNIT_EXPECT_EQ(test, 1, im->revokes);
}

/* Rule: B4 */
static void dynamic_is_revoked_when_it_maps_test(struct kunit *test)
{
	struct stranger *s = stranger_export(test);
	struct fake_importer *im = attach(test, s, DMA_BUF_PFN_DYNAMIC);

	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, fake_map(im));
	stranger_move(s);
	s->vmap_err = -ENODEV;
	KUNIT_EXPECT_EQ(test, 0, im->revokes);
	KUNIT_EXPECT_EQ(test, -ENODEV, PTR_ERR_OR_ZERO(fake_map(im)));
	KUNIT_EXPECT_EQ(test, 1, im->revokes);
	s->vmap_err = 0;
	KUNIT_EXPECT_EQ(test, -ENODEV, PTR_ERR_OR_ZERO(fake_map(im)));
	KUNIT_EXPECT_EQ(test, 1, im->revokes);
}

/* The core's dma_buf_vmap() would have warned. */
static void mapping_that_fails_test(struct kunit *test)
{
	struct stranger *s = stranger_export(test);
	struct fake_importer *im = attach(test, s, DMA_BUF_PFN_PINNED);

	s->vmap_err = -ENOMEM;
	KUNIT_EXPECT_EQ(test, -ENOMEM, PTR_ERR_OR_ZERO(fake_map(im)));
	KUNIT_EXPECT_EQ(test, 0, s->pins);
	KUNIT_EXPECT_EQ(test, 0, im->revokes);
	s->vmap_err = 0;
	KUNIT_EXPECT_NOT_ERR_OR_NULL(test, fake_map(im));
}

/* One of ours, one of somebody else's: the exporter sees one mapping. */
static void mapping_is_shared_test(struct kunit *test)
{
	struct stranger *s = stranger_export(test);
	struct fake_importer *im = attach(test, s, DMA_BUF_PFN_DYNAMIC);
	struct iosys_map map;

	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, fake_map(im));
	KUNIT_ASSERT_EQ(test, 0, dma_buf_vmap_unlocked(s->dmabuf, &map));
	KUNIT_EXPECT_EQ(test, 1, s->vmaps);
	fake_unmap(im);
	KUNIT_EXPECT_EQ(test, 1, s->vmaps);
	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, fake_map(im));
	dma_buf_vunmap_unlocked(s->dmabuf, &map);
	KUNIT_EXPECT_EQ(test, 1, s->vmaps);
	fake_unmap(im);
	KUNIT_EXPECT_EQ(test, 0, s->vmaps);
}

/* Rule: B8 */
static void cpu_access_is_the_programs_to_tell_test(struct kunit *test)
{
	struct stranger *s = stranger_export(test);
	struct fake_importer *im = attach(test, s, DMA_BUF_PFN_DYNAMIC);

	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, fake_map(im));
	KUNIT_EXPECT_EQ(test, 0, s->begins);
	/* What DMA_BUF_IOCTL_SYNC does, while we have it mapped. */
	KUNIT_EXPECT_EQ(test, 0,
			dma_buf_begin_cpu_access(s->dmabuf,
						 DMA_BIDIRECTIONAL));
	KUNIT_EXPECT_EQ(test, 0,
			dma_buf_end_cpu_access(s->dmabuf, DMA_BIDIRECTIONAL));
	KUNIT_EXPECT_NOT_NULL(test, im->a->loan);
	kunit_release_action(test, guest_detach, im);
	KUNIT_EXPECT_EQ(test, 1, s->begins);
	KUNIT_EXPECT_EQ(test, 1, s->ends);
}

/* Through an MR's memory */

static const char *copy_fence_name(struct dma_fence *fence)
{
	return "kunit";
}

static const struct dma_fence_ops copy_fence_ops = {
	.get_driver_name = copy_fence_name,
	.get_timeline_name = copy_fence_name,
};

/**
 * struct late - data that arrives some time after the exporter has mapped
 * @work: brings it
 * @s: the exporter
 * @fence: signals it
 */
struct late {
	struct delayed_work work;
	struct stranger *s;
	struct dma_fence *fence;
};

static void late_work(struct work_struct *work)
{
	struct late *late = container_of(to_delayed_work(work), struct late,
					 work);

	memset(late->s->place[late->s->now], 'd', SIZE);
	dma_fence_signal(late->fence);
}

static void release_umem(void *umem)
{
	ib_umem_pfn_release(umem);
}

static struct ib_umem_pfn *get_umem(struct kunit *test, struct stranger *s,
				    struct ib_umem_pfn_attr *attr)
{
	struct ib_device *ibdev;
	struct ib_umem_pfn *umem;

	ibdev = kunit_kzalloc(test, sizeof(*ibdev), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, ibdev);
	ibdev->dev.init_name = "kunit";

	get_dma_buf(s->dmabuf);
	attr->fd = dma_buf_fd(s->dmabuf, O_CLOEXEC);
	KUNIT_ASSERT_GE(test, attr->fd, 0);
	attr->eventfd = -1;
	attr->length = SIZE;
	attr->access = IB_ACCESS_LOCAL_WRITE | IB_ACCESS_REMOTE_WRITE;
	umem = ib_umem_pfn_get(ibdev, attr);
	close_fd(attr->fd);
	if (!IS_ERR(umem))
		KUNIT_ASSERT_EQ(test, 0,
				kunit_add_action_or_reset(test, release_umem,
							  umem));
	return umem;
}

/* Rule: I1 */
static void umem_follows_test(struct kunit *test)
{
	struct stranger *s = stranger_export(test);
	struct ib_umem_pfn_attr attr = {};
	struct ib_umem_pfn *umem;
	struct pfn_mr_info info;
	char seen[16];
	u64 orig;

	umem = get_umem(test, s, &attr);
	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, umem);
	KUNIT_EXPECT_EQ(test, 0, ib_umem_pfn_copy_to(umem, 5, "before", 6));
	stranger_move(s);
	KUNIT_EXPECT_EQ(test, 0, ib_umem_pfn_copy_from(umem, 5, seen, 6));
	KUNIT_EXPECT_MEMEQ(test, "before", seen, 6);
	KUNIT_EXPECT_EQ(test, 0, ib_umem_pfn_fetch_add(umem, 16, 3, &orig));
	KUNIT_EXPECT_EQ(test, 0, orig);
	stranger_move(s);
	KUNIT_EXPECT_EQ(test, 0, ib_umem_pfn_cmp_swap(umem, 16, 3, 9, &orig));
	KUNIT_EXPECT_EQ(test, 3, orig);
	KUNIT_EXPECT_EQ(test, 9, *((u64 *)s->place[s->now] + 2));

	ib_umem_pfn_query(umem, &info);
	KUNIT_EXPECT_EQ(test, PFN_MR_MODE_DYNAMIC, info.mode);
	KUNIT_EXPECT_EQ(test, PFN_MR_BACKEND_VMAP, info.backend);
	KUNIT_EXPECT_EQ(test, 2, info.faults);
	KUNIT_EXPECT_EQ(test, 2, info.invalidations);
	/* Nothing was written to the old place. */
	KUNIT_EXPECT_NULL(test, memchr_inv(s->place[!s->now], 0xee, SIZE));
}

/* Rule: I3 */
static void umem_waits_for_the_data_test(struct kunit *test)
{
	struct stranger *s = stranger_export(test);
	struct ib_umem_pfn_attr attr = {};
	struct ib_umem_pfn *umem;
	struct late *late;
	char seen;

	umem = get_umem(test, s, &attr);
	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, umem);
	stranger_move(s);

	late = kunit_kzalloc(test, sizeof(*late), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, late);
	/* Freed by RCU, not with the test. */
	late->fence = kzalloc_obj(*late->fence);
	KUNIT_ASSERT_NOT_NULL(test, late->fence);
	dma_fence_init64(late->fence, &copy_fence_ops, NULL,
			 dma_fence_context_alloc(1), 1);
	late->s = s;
	INIT_DELAYED_WORK(&late->work, late_work);
	s->fence = late->fence;
	schedule_delayed_work(&late->work, HZ / 2);

	KUNIT_EXPECT_EQ(test, 0, ib_umem_pfn_copy_from(umem, 0, &seen, 1));
	KUNIT_EXPECT_EQ(test, 'd', seen);
	flush_delayed_work(&late->work);
	s->fence = NULL;
	dma_fence_put(late->fence);
}

/* An exporter that begins to move when the buffer is mapped, and does not end. */
static struct stranger *restless_export(struct kunit *test)
{
	struct stranger *s = stranger_export(test);

	/* Freed by RCU, not with the test. */
	s->fence = kzalloc_obj(*s->fence);
	KUNIT_ASSERT_NOT_NULL(test, s->fence);
	dma_fence_init64(s->fence, &copy_fence_ops, NULL,
			 dma_fence_context_alloc(1), 1);
	return s;
}

static void restless_rests(struct stranger *s)
{
	dma_fence_signal(s->fence);
	dma_fence_put(s->fence);
	s->fence = NULL;
}

static const struct dma_buf_pfn_loan *
map_interruptible(struct fake_importer *im)
{
	struct dma_resv *resv = im->a->attach->dmabuf->resv;
	const struct dma_buf_pfn_loan *loan;

	dma_resv_lock(resv, NULL);
	loan = dma_buf_pfn_map_interruptible(im->a);
	dma_resv_unlock(resv);
	return loan;
}

/* The wait is on behalf of a system call: it has done nothing yet. */
static void signal_ends_the_wait_test(struct kunit *test)
{
	struct stranger *mapped = restless_export(test);
	struct stranger *registered = restless_export(test);
	struct fake_importer *im = attach(test, mapped, DMA_BUF_PFN_REVOCABLE);
	struct ib_umem_pfn_attr attr = {};
	unsigned long start = jiffies;

	/* A kernel thread has the signals that it wants to have. */
	allow_signal(SIGUSR1);
	KUNIT_EXPECT_EQ(test, 0, send_sig(SIGUSR1, current, 1));
	KUNIT_EXPECT_EQ(test, -ERESTARTSYS,
			PTR_ERR_OR_ZERO(map_interruptible(im)));
	KUNIT_EXPECT_NULL(test, im->a->loan);
	KUNIT_EXPECT_EQ(test, 0, mapped->vmaps);
	KUNIT_EXPECT_EQ(test, 0, mapped->pins);
	KUNIT_EXPECT_EQ(test, 0, im->revokes);

	KUNIT_EXPECT_EQ(test, -ERESTARTSYS,
			PTR_ERR_OR_ZERO(get_umem(test, registered, &attr)));
	KUNIT_EXPECT_NULL(test, attr.reason);
	KUNIT_EXPECT_EQ(test, 0, registered->vmaps);
	flush_signals(current);
	disallow_signal(SIGUSR1);
	KUNIT_EXPECT_LT(test, jiffies - start, DMA_BUF_PFN_MOVE_TIMEOUT);

	/* The buffers are none the worse for it. */
	restless_rests(mapped);
	restless_rests(registered);
	KUNIT_EXPECT_NOT_ERR_OR_NULL(test, map_interruptible(im));
	KUNIT_EXPECT_NOT_ERR_OR_NULL(test, get_umem(test, registered, &attr));
}

/* Rule: I8 */
static void umem_says_why_not_test(struct kunit *test)
{
	struct stranger *s = stranger_export(test);
	struct ib_umem_pfn_attr attr = {};

	s->ops.vmap = NULL;
	s->ops.vunmap = NULL;
	KUNIT_EXPECT_EQ(test, -EOPNOTSUPP,
			PTR_ERR_OR_ZERO(get_umem(test, s, &attr)));
	KUNIT_ASSERT_NOT_NULL(test, attr.reason);
	KUNIT_EXPECT_STREQ(test, attr.reason,
			   "the exporter lends no ranges, has no kernel mapping, and no PCI BAR of a device that we know");
	KUNIT_EXPECT_LT(test, strlen(attr.reason), PFN_MR_REASON_MAX);
}

static struct kunit_case bridge_cases[] = {
	KUNIT_CASE(neither_nor_test),
	KUNIT_CASE(kernel_mapping_is_a_loan_test),
	KUNIT_CASE(who_holds_still_is_pinned_test),
	KUNIT_CASE(who_must_tell_is_revocable_test),
	KUNIT_CASE(who_can_pin_is_pinned_test),
	KUNIT_CASE(moves_are_followed_test),
	KUNIT_CASE(revocable_is_revoked_test),
	KUNIT_CASE(dynamic_is_revoked_when_it_maps_test),
	KUNIT_CASE(mapping_that_fails_test),
	KUNIT_CASE(mapping_is_shared_test),
	KUNIT_CASE(cpu_access_is_the_programs_to_tell_test),
	KUNIT_CASE(umem_follows_test),
	KUNIT_CASE(umem_waits_for_the_data_test),
	KUNIT_CASE(signal_ends_the_wait_test),
	KUNIT_CASE(umem_says_why_not_test),
	{}
};

static struct kunit_suite bridge_suite = {
	.name = "dma_buf_pfn_bridge",
	.test_cases = bridge_cases,
};

kunit_test_suite(bridge_suite);
