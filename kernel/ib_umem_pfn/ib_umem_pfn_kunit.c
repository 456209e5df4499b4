// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * KUnit: the memory of an MR, cut into ranges at random, against a model that is
 * one array; what a fault waits for; and why registering fails.
 */
#include <linux/dma-fence.h>
#include <linux/dma-resv.h>
#include <linux/fdtable.h>
#include <linux/io.h>
#include <linux/slab.h>
#include <linux/workqueue.h>
#include <rdma/ib_umem_pfn.h>
#include <rdma/ib_verbs.h>

#include "ib_umem_pfn_kunit.h"
#include "pfn_fake_kunit.h"

#define FULL_ACCESS	(IB_ACCESS_LOCAL_WRITE | IB_ACCESS_REMOTE_WRITE)

KUNIT_DEFINE_ACTION_WRAPPER(release_action, ib_umem_pfn_release,
			    struct ib_umem_pfn *);

/* Register; @attr without the fd, which is of @ex's buffer. */
static struct ib_umem_pfn *get_umem(struct kunit *test,
				    struct fake_exporter *ex,
				    struct ib_umem_pfn_attr *attr)
{
	struct ib_umem_pfn *umem;
	struct ib_device *ibdev;

	/* Nothing but its device is looked at, and that not closely. */
	ibdev = kunit_kzalloc(test, sizeof(*ibdev), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, ibdev);
	ibdev->dev.init_name = "kunit";

	get_dma_buf(ex->dmabuf);
	attr->fd = dma_buf_fd(ex->dmabuf, O_CLOEXEC);
	KUNIT_ASSERT_GE(test, attr->fd, 0);
	attr->eventfd = -1;
	umem = ib_umem_pfn_get(ibdev, attr);
	close_fd(attr->fd);
	if (!IS_ERR(umem))
		KUNIT_ASSERT_EQ(test, 0,
				kunit_add_action_or_reset(test, release_action,
							  umem));
	return umem;
}

static struct ib_umem_pfn *get_whole(struct kunit *test,
				     struct fake_exporter *ex)
{
	struct ib_umem_pfn_attr attr = {
		.length = ex->dmabuf->size,
		.access = FULL_ACCESS,
	};
	struct ib_umem_pfn *umem = get_umem(test, ex, &attr);

	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, umem);
	return umem;
}

static struct fake_exporter *export_ram(struct kunit *test,
					struct rnd_state *rnd,
					unsigned int pages)
{
	struct phys_vec *vec;
	size_t nr;

	vec = fake_ram(test, rnd, pages, 4, &nr);
	return fake_export(test, FAKE_ALL_CAPS, DMA_BUF_PFN_RAM, vec, nr);
}

static u32 umem_state(struct ib_umem_pfn *umem)
{
	struct pfn_mr_info info;

	ib_umem_pfn_query(umem, &info);
	return info.state;
}

/* Slicing */

#define MODEL_PAGES	40

/**
 * struct model - a umem and what its dma-buf should hold
 * @test: the test
 * @rnd: random numbers
 * @ex: the exporter
 * @umem: covers @length bytes from @offset on
 * @bytes: of the whole dma-buf
 * @scratch: as large
 * @offset: of the umem
 * @length: of the umem
 * @written: bytes that went in
 * @read: bytes that came out
 */
struct model {
	struct kunit *test;
	struct rnd_state rnd;
	struct fake_exporter *ex;
	struct ib_umem_pfn *umem;
	u8 *bytes;
	u8 *scratch;
	u64 offset;
	u64 length;
	u64 written;
	u64 read;
};

/* Byte by byte through the list of ranges, or the other way. */
static void ram_copy(const struct phys_vec *vec, u8 *flat, size_t length,
		     bool to_ram)
{
	for (; length; vec++) {
		u8 *va = phys_to_virt(vec->paddr);

		if (to_ram)
			memcpy(va, flat, vec->len);
		else
			memcpy(flat, va, vec->len);
		flat += vec->len;
		length -= vec->len;
	}
}

static void model_init(struct kunit *test, struct model *m)
{
	struct ib_umem_pfn_attr attr = {
		.access = FULL_ACCESS,
		.mode = PFN_MR_MODE_DYNAMIC,
	};

	memset(m, 0, sizeof(*m));
	m->test = test;
	fake_seed(test, &m->rnd);
	m->ex = export_ram(test, &m->rnd, MODEL_PAGES);
	m->bytes = kunit_kzalloc(test, m->ex->dmabuf->size, GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, m->bytes);
	m->scratch = kunit_kzalloc(test, m->ex->dmabuf->size, GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, m->scratch);

	m->offset = fake_below(&m->rnd, 3 * PAGE_SIZE);
	m->length = m->ex->dmabuf->size - m->offset -
		    fake_below(&m->rnd, 3 * PAGE_SIZE);
	attr.offset = m->offset;
	attr.length = m->length;
	m->umem = get_umem(test, m->ex, &attr);
	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, m->umem);
}

/* Other memory, cut in another way, and garbage where the buffer was. */
static void model_move(struct model *m)
{
	const struct phys_vec *old = m->ex->lend.vec;
	size_t size = m->ex->dmabuf->size;
	struct phys_vec *vec;
	size_t nr;

	vec = fake_ram(m->test, &m->rnd, MODEL_PAGES,
		       1 + fake_below(&m->rnd, 8), &nr);
	KUNIT_ASSERT_EQ(m->test, 0, fake_invalidate(m->ex));
	ram_copy(old, m->scratch, size, false);
	ram_copy(vec, m->scratch, size, true);
	memset(m->scratch, 0xdd, size);
	ram_copy(old, m->scratch, size, true);
	m->ex->lend.vec = vec;
	m->ex->lend.nr = nr;
}

/* A piece of the umem; one out of a few ends beyond it. Returns whether not. */
static bool model_piece(struct model *m, u64 *at, size_t *length)
{
	*at = fake_below(&m->rnd, m->length);
	*length = 1 + fake_below(&m->rnd, 3 * PAGE_SIZE);
	if (*length <= m->length - *at)
		return true;
	if (fake_below(&m->rnd, 2))
		return false;
	*length = m->length - *at; /* exactly to the end */
	return true;
}

static void model_write(struct model *m)
{
	size_t length;
	bool fits;
	u64 at;

	fits = model_piece(m, &at, &length);
	prandom_bytes_state(&m->rnd, m->scratch, length);
	KUNIT_ASSERT_EQ(m->test, fits ? 0 : -EINVAL,
			ib_umem_pfn_copy_to(m->umem, at, m->scratch, length));
	if (!fits)
		return;
	memcpy(m->bytes + m->offset + at, m->scratch, length);
	m->written += length;
}

static void model_read(struct model *m)
{
	size_t length;
	bool fits;
	u64 at;

	fits = model_piece(m, &at, &length);
	KUNIT_ASSERT_EQ(m->test, fits ? 0 : -EINVAL,
			ib_umem_pfn_copy_from(m->umem, at, m->scratch, length));
	if (!fits)
		return;
	KUNIT_ASSERT_MEMEQ(m->test, m->bytes + m->offset + at, m->scratch,
			   length);
	m->read += length;
}

/* One after the other, as a large transfer does: the hint's best case. */
static void model_stream(struct model *m)
{
	size_t mtu = 256 << fake_below(&m->rnd, 5);
	u64 at;

	for (at = fake_below(&m->rnd, mtu); at + mtu <= m->length; at += mtu) {
		KUNIT_ASSERT_EQ(m->test, 0,
				ib_umem_pfn_copy_from(m->umem, at, m->scratch,
						      mtu));
		KUNIT_ASSERT_MEMEQ(m->test, m->bytes + m->offset + at,
				   m->scratch, mtu);
		m->read += mtu;
	}
}

static void model_atomic(struct model *m)
{
	u64 at = fake_below(&m->rnd, m->length);
	bool fits = !((m->offset + at) % 8) && m->length - at >= 8;
	u64 before = 0, operand = prandom_u32_state(&m->rnd), orig = 0;
	u8 *word = m->bytes + m->offset + at;
	int err = fits ? 0 : -EINVAL;

	if (fits)
		memcpy(&before, word, 8);
	switch (fake_below(&m->rnd, 3)) {
	case 0:
		KUNIT_ASSERT_EQ(m->test, err,
				ib_umem_pfn_fetch_add(m->umem, at, operand,
						      &orig));
		operand += before;
		break;
	case 1:
		/* Every other time it compares equal. */
		KUNIT_ASSERT_EQ(m->test, err,
				ib_umem_pfn_cmp_swap(m->umem, at,
						     operand & 1 ? before :
								   ~0ULL,
						     operand, &orig));
		if (!(operand & 1))
			operand = before;
		break;
	default:
		KUNIT_ASSERT_EQ(m->test, err,
				ib_umem_pfn_store(m->umem, at, operand));
		orig = before;
		m->read -= fits ? 8 : 0; /* alone of them it reads nothing */
		break;
	}
	if (!fits)
		return;
	KUNIT_ASSERT_EQ(m->test, orig, before);
	memcpy(word, &operand, 8);
	m->written += 8;
	m->read += 8;
}

static void model_test(struct kunit *test)
{
	struct pfn_mr_info info;
	unsigned int i, moves = 0;
	struct model m;

	model_init(test, &m);
	for (i = 0; i < 4000; i++) {
		unsigned int what = fake_below(&m.rnd, 200);

		if (what < 90)
			model_write(&m);
		else if (what < 180)
			model_read(&m);
		else if (what < 198)
			model_atomic(&m);
		else if (what < 199)
			model_stream(&m);
		else
			moves++, model_move(&m);
	}

	/* Beyond both ends of the umem, too. */
	ram_copy(m.ex->lend.vec, m.scratch, m.ex->dmabuf->size, false);
	KUNIT_EXPECT_MEMEQ(test, m.bytes, m.scratch, m.ex->dmabuf->size);

	ib_umem_pfn_query(m.umem, &info);
	KUNIT_EXPECT_EQ(test, info.bytes_written, m.written);
	KUNIT_EXPECT_EQ(test, info.bytes_read, m.read);
	KUNIT_EXPECT_LE(test, info.faults, moves);
	KUNIT_EXPECT_LE(test, info.invalidations, moves);
	KUNIT_EXPECT_EQ(test, info.prefetches, 0);
}

/* The hint is one word: what doesn't fit must become "the first range". */
static void hint_test(struct kunit *test)
{
	static const struct {
		size_t index;
		u64 start;
		u64 hint;
	} cases[] = {
		{ 0, 0, 0 },
		{ 1, PAGE_SIZE, 1ULL << 32 | 1 },
		{ 7, 9 * PAGE_SIZE, 7ULL << 32 | 9 },
		{ U32_MAX, (u64)U32_MAX << PAGE_SHIFT, U64_MAX },
		{ U32_MAX + 1ULL, PAGE_SIZE, 0 },
		{ 1, (U32_MAX + 1ULL) << PAGE_SHIFT, 0 },
		{ SIZE_MAX, U64_MAX, 0 },
	};
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(cases); i++)
		KUNIT_EXPECT_EQ_MSG(test, hint_pack(cases[i].index,
						    cases[i].start),
				    cases[i].hint, "case %u", i);
}

static void access_is_checked_test(struct kunit *test)
{
	struct ib_umem_pfn_attr attr = {
		.length = 2 * PAGE_SIZE,
		.access = IB_ACCESS_REMOTE_READ,
	};
	struct ib_umem_pfn *umem;
	struct fake_exporter *ex;
	struct rnd_state rnd;
	u64 word = 0;

	fake_seed(test, &rnd);
	ex = export_ram(test, &rnd, 4);
	umem = get_umem(test, ex, &attr);
	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, umem);

	KUNIT_EXPECT_EQ(test, 0, ib_umem_pfn_copy_from(umem, 0, &word, 8));
	KUNIT_EXPECT_EQ(test, 0,
			ib_umem_pfn_copy_from(umem, 2 * PAGE_SIZE - 8, &word,
					      8));
	KUNIT_EXPECT_EQ(test, -EINVAL,
			ib_umem_pfn_copy_from(umem, 2 * PAGE_SIZE - 7, &word,
					      8));
	KUNIT_EXPECT_EQ(test, -EINVAL,
			ib_umem_pfn_copy_from(umem, U64_MAX, &word, 8));
	/* nothing is always there */
	KUNIT_EXPECT_EQ(test, 0, ib_umem_pfn_copy_from(umem, 0, &word, 0));

	KUNIT_EXPECT_EQ(test, -EACCES, ib_umem_pfn_copy_to(umem, 0, &word, 8));
	KUNIT_EXPECT_EQ(test, -EACCES,
			ib_umem_pfn_fetch_add(umem, 0, 1, &word));
	KUNIT_EXPECT_EQ(test, -EACCES,
			ib_umem_pfn_cmp_swap(umem, 0, 0, 1, &word));
	KUNIT_EXPECT_EQ(test, -EACCES, ib_umem_pfn_store(umem, 0, 1));
	KUNIT_EXPECT_EQ(test, 0, ib_umem_pfn_change_access(umem, FULL_ACCESS));
	KUNIT_EXPECT_EQ(test, 0, ib_umem_pfn_copy_to(umem, 0, &word, 8));
	KUNIT_EXPECT_EQ(test, 0, ib_umem_pfn_fetch_add(umem, 0, 1, &word));
	KUNIT_EXPECT_EQ(test, 0, word);
}

/* Faults */

/* Rule: T5 */
static void fault_that_fails_test(struct kunit *test)
{
	struct ib_umem_pfn *umem;
	struct fake_exporter *ex;
	struct pfn_mr_info info;
	struct rnd_state rnd;
	u64 word;

	fake_seed(test, &rnd);
	ex = export_ram(test, &rnd, 4);
	umem = get_whole(test, ex);
	KUNIT_EXPECT_EQ(test, 0, fake_invalidate(ex));
	ex->map_err = -ENOSPC;
	KUNIT_EXPECT_EQ(test, -ENOSPC,
			ib_umem_pfn_copy_from(umem, 0, &word, 8));
	KUNIT_EXPECT_EQ(test, umem_state(umem), PFN_MR_STATE_ABSENT);
	ex->map_err = 0;
	KUNIT_EXPECT_EQ(test, 0, ib_umem_pfn_copy_from(umem, 0, &word, 8));
	KUNIT_EXPECT_EQ(test, umem_state(umem), PFN_MR_STATE_PRESENT);
	/* Only that which has mapped something. */
	ib_umem_pfn_query(umem, &info);
	KUNIT_EXPECT_EQ(test, 1, info.faults);
}

/* Rule: I4, T8, T16 */
static void access_after_the_end_test(struct kunit *test)
{
	unsigned int removal;
	struct rnd_state rnd;

	fake_seed(test, &rnd);
	for (removal = 0; removal < 2; removal++) {
		struct fake_exporter *ex = export_ram(test, &rnd, 4);
		struct ib_umem_pfn *umem = get_whole(test, ex);
		u64 word = 0;

		if (removal)
			fake_remove(ex);
		else
			KUNIT_EXPECT_EQ(test, 0, fake_revoke(ex));
		KUNIT_EXPECT_EQ(test, ex->unmaps, 1);
		KUNIT_EXPECT_EQ(test, umem_state(umem), PFN_MR_STATE_REVOKED);
		KUNIT_EXPECT_EQ(test, -ENODEV,
				ib_umem_pfn_copy_to(umem, 0, &word, 8));
		KUNIT_EXPECT_EQ(test, -ENODEV,
				ib_umem_pfn_copy_from(umem, 0, &word, 8));
		KUNIT_EXPECT_EQ(test, -ENODEV,
				ib_umem_pfn_fetch_add(umem, 0, 1, &word));
		KUNIT_EXPECT_EQ(test, -ENODEV,
				ib_umem_pfn_cmp_swap(umem, 0, 0, 1, &word));
		KUNIT_EXPECT_EQ(test, -ENODEV, ib_umem_pfn_store(umem, 0, 1));
	}
}

static const char *fence_name(struct dma_fence *fence)
{
	return "kunit";
}

static const struct dma_fence_ops fence_ops = {
	.get_driver_name = fence_name,
	.get_timeline_name = fence_name,
};

/**
 * struct slow_move - data that arrives some time later
 * @work: lets it
 * @fence: signalled then; a reference is held
 * @va: where
 */
struct slow_move {
	struct delayed_work work;
	struct dma_fence *fence;
	u64 *va;
};

static void slow_move_arrives(struct work_struct *work)
{
	struct slow_move *move = container_of(to_delayed_work(work),
					      struct slow_move, work);

	*move->va = 42;
	dma_fence_signal(move->fence);
}

static void slow_move_end(void *arg)
{
	struct slow_move *move = arg;

	mod_delayed_work(system_percpu_wq, &move->work, 0);
	flush_delayed_work(&move->work);
	dma_fence_put(move->fence);
}

/* The buffer moves, and the data arrives when the work has been scheduled. */
static struct slow_move *slow_move_start(struct kunit *test,
					 struct fake_exporter *ex)
{
	struct dma_resv *resv = ex->dmabuf->resv;
	struct slow_move *move;
	int err;

	move = kunit_kzalloc(test, sizeof(*move), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, move);
	move->fence = kzalloc_obj(*move->fence);
	KUNIT_ASSERT_NOT_NULL(test, move->fence);
	dma_fence_init64(move->fence, &fence_ops, NULL,
			 dma_fence_context_alloc(1), 1);
	move->va = phys_to_virt(ex->lend.vec[0].paddr);
	INIT_DELAYED_WORK(&move->work, slow_move_arrives);
	KUNIT_ASSERT_EQ(test, 0,
			kunit_add_action_or_reset(test, slow_move_end, move));

	KUNIT_ASSERT_EQ(test, 0, fake_invalidate(ex));
	dma_resv_lock(resv, NULL);
	err = dma_resv_reserve_fences(resv, 1);
	if (!err)
		dma_resv_add_fence(resv, move->fence, DMA_RESV_USAGE_KERNEL);
	dma_resv_unlock(resv);
	KUNIT_ASSERT_EQ(test, 0, err);
	return move;
}

/* Rule: I3 */
static void fault_waits_for_the_data_test(struct kunit *test)
{
	struct slow_move *move;
	struct ib_umem_pfn *umem;
	struct fake_exporter *ex;
	struct rnd_state rnd;
	u64 word = 0;

	fake_seed(test, &rnd);
	ex = export_ram(test, &rnd, 4);
	umem = get_whole(test, ex);
	move = slow_move_start(test, ex);
	schedule_delayed_work(&move->work, HZ / 5);
	KUNIT_EXPECT_EQ(test, 0, ib_umem_pfn_copy_from(umem, 0, &word, 8));
	KUNIT_EXPECT_EQ(test, word, 42);
	KUNIT_EXPECT_TRUE(test, dma_fence_is_signaled(move->fence));
}

/* Rule: I3 */
static void registering_waits_for_the_data_test(struct kunit *test)
{
	struct slow_move *move;
	struct ib_umem_pfn *umem;
	struct fake_exporter *ex;
	struct rnd_state rnd;
	u64 word = 0;

	fake_seed(test, &rnd);
	ex = export_ram(test, &rnd, 4);
	move = slow_move_start(test, ex);
	schedule_delayed_work(&move->work, HZ / 5);
	umem = get_whole(test, ex);
	KUNIT_EXPECT_TRUE(test, dma_fence_is_signaled(move->fence));
	KUNIT_EXPECT_EQ(test, 0, ib_umem_pfn_copy_from(umem, 0, &word, 8));
	KUNIT_EXPECT_EQ(test, word, 42);
}

/* Reasons */

static void expect_refusal(struct kunit *test, struct fake_exporter *ex,
			   int err, const char *reason)
{
	struct ib_umem_pfn_attr attr = {
		.length = PAGE_SIZE,
		.access = FULL_ACCESS,
	};
	unsigned int attachments = fake_nr_attachments(ex);
	struct ib_umem_pfn *umem = get_umem(test, ex, &attr);

	KUNIT_EXPECT_PTR_EQ(test, umem, ERR_PTR(err));
	if (reason) {
		KUNIT_ASSERT_NOT_NULL(test, attr.reason);
		KUNIT_EXPECT_STREQ(test, attr.reason, reason);
	} else {
		KUNIT_EXPECT_NULL(test, attr.reason);
	}
	KUNIT_EXPECT_EQ(test, fake_nr_attachments(ex), attachments);
}

/*
 * Those that a program cannot have for the asking, see test_rules.cpp.
 *
 * Rule: E4, I8
 */
static void reasons_test(struct kunit *test)
{
	struct fake_exporter *ex;
	struct rnd_state rnd;

	fake_seed(test, &rnd);
	ex = export_ram(test, &rnd, 4);
	ex->lend.nr--;
	expect_refusal(test, ex, -EIO,
		       "the exporter lent ranges that make no sense, see the kernel log");
	ex->lend.nr++;
	/* An exporter's own error speaks for itself. */
	ex->map_err = -ENOSPC;
	expect_refusal(test, ex, -ENOSPC, NULL);
	ex->map_err = 0;
	/* RAM that is called something else: mapping it would be a WARN. */
	ex->lend.kind = DMA_BUF_PFN_MMIO;
	expect_refusal(test, ex, -ENOMEM, NULL);
	KUNIT_EXPECT_EQ(test, 0, fake_invalidate(ex));
	ex->lend.kind = DMA_BUF_PFN_RAM;
	get_whole(test, ex);
}

/* Takes as long as registering waits: 10 s. */
static void stuck_exporter_test(struct kunit *test)
{
	struct slow_move *move;
	struct fake_exporter *ex;
	struct rnd_state rnd;

	fake_seed(test, &rnd);
	ex = export_ram(test, &rnd, 4);
	move = slow_move_start(test, ex);
	expect_refusal(test, ex, -ETIMEDOUT,
		       "the exporter did not finish moving the buffer in time");
	schedule_delayed_work(&move->work, 0);
	flush_delayed_work(&move->work);
	get_whole(test, ex);
}

static struct kunit_case umem_cases[] = {
	KUNIT_CASE_SLOW(model_test),
	KUNIT_CASE(hint_test),
	KUNIT_CASE(access_is_checked_test),
	KUNIT_CASE(fault_that_fails_test),
	KUNIT_CASE(access_after_the_end_test),
	KUNIT_CASE(fault_waits_for_the_data_test),
	KUNIT_CASE(registering_waits_for_the_data_test),
	KUNIT_CASE(reasons_test),
	KUNIT_CASE_SLOW(stuck_exporter_test),
	{}
};

static struct kunit_suite umem_suite = {
	.name = "ib_umem_pfn",
	.test_cases = umem_cases,
};

kunit_test_suite(umem_suite);
