// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * pfn_vram: buffers. A buffer is a dma-buf that lends the ranges of the mem it
 * is in now; moving it, revoking it and pulling the device out from under it
 * all come down to: take the ranges back, change buf->mem.
 *
 * A move, step by step. Up to 5 it can fail and has had no effect; from 6 on it
 * cannot.
 *   1. allocate the new mem and all that copying needs; no lock held
 *   2. wait for the copy of an earlier move, and whoever else has a fence
 *   3. lock the buffer
 *   4. take the ranges back: pfn importers and mmaps stop
 *   5. wait for the fences of legacy importers
 *   6. announce the copy with a KERNEL fence, switch to the new mem; unlock:
 *	importers may map the new ranges but wait for the fence before use
 *   7. a worker copies and signals
 * (With a quarantine, see pfn_vram_quarantine.c, 6 also poisons the old mem and 7
 * copies from a snapshot and looks afterwards whether the poison is intact.)
 *
 * The copy has references on both mems, and through them on the device. It
 * knows nothing of the buffer, which may be gone before it has finished, and it
 * takes no lock that anybody holds who may wait for the fence.
 */
#include <linux/completion.h>
#include <linux/dcache.h>
#include <linux/delay.h>
#include <linux/dma-buf.h>
#include <linux/dma-fence.h>
#include <linux/dma-resv.h>
#include <linux/fs.h>
#include <linux/ktime.h>
#include <linux/module.h>
#include <linux/refcount.h>
#include <linux/seq_file.h>
#include <linux/slab.h>
#include <linux/workqueue.h>

#include "pfn_vram_priv.h"

static unsigned int copy_delay_ms;
module_param(copy_delay_ms, uint, 0644);
MODULE_PARM_DESC(copy_delay_ms, "Test aid: make every copy of a move take that much longer (0 to 15000)");
#define MAX_COPY_DELAY_MS	15000

/* The framework's names for them are the same, bit for bit. */
static_assert((int)PFN_VRAM_CAP_PIN == (int)DMA_BUF_PFN_CAN_PIN);
static_assert((int)PFN_VRAM_CAP_MOVE == (int)DMA_BUF_PFN_MAY_MOVE);
static_assert((int)PFN_VRAM_CAP_REVOKE == (int)DMA_BUF_PFN_MAY_REVOKE);

static const struct dma_buf_pfn_ops pfn_vram_buf_ops;
static struct workqueue_struct *copy_wq;

/**
 * struct pfn_vram_buf - a buffer
 * @dev: the device; keeps a reference
 * @dmabuf: its dma-buf; keeps none, since it is the other way round
 * @pfn: the framework's side of @dmabuf
 * @dentry: of @dmabuf; as long as somebody has it, @dmabuf is there
 * @node: in &pfn_vram_dev.bufs or .removed, protected by &pfn_vram_dev.lock
 * @caps: &enum pfn_vram_caps
 * @mem: where its bytes are, NULL once revoked
 * @late_mem: where they were when it was revoked, kept until the end because
 *	of somebody's fence that did not signal
 * @generation: see &struct pfn_vram_buf_info
 * @fence_context: for the fences of moves
 * @fence_seqno: for the fences of moves
 *
 * Everything from @mem on is protected by the reservation lock.
 */
struct pfn_vram_buf {
	struct pfn_vram_dev *dev;
	struct dma_buf *dmabuf;
	struct dma_buf_pfn *pfn;
	struct dentry *dentry;
	struct list_head node;
	u32 caps;

	struct pfn_vram_mem *mem;
	struct pfn_vram_mem *late_mem;
	u64 generation;
	u64 fence_context;
	u64 fence_seqno;
};

static void buf_assert_held(const struct pfn_vram_buf *buf)
{
	dma_resv_assert_held(buf->dmabuf->resv);
}

/* 0, -ERESTARTSYS */
static int buf_lock(const struct pfn_vram_buf *buf)
{
	return dma_resv_lock_interruptible(buf->dmabuf->resv, NULL) ?
	       -ERESTARTSYS : 0;
}

static void buf_unlock(const struct pfn_vram_buf *buf)
{
	dma_resv_unlock(buf->dmabuf->resv);
}

/* Wait for fences of that usage. 0, -ERESTARTSYS, -ETIMEDOUT */
static int buf_wait(const struct pfn_vram_buf *buf, enum dma_resv_usage usage)
{
	long ret;

	buf_assert_held(buf);

	ret = dma_resv_wait_timeout(buf->dmabuf->resv, usage, true,
				    PFN_VRAM_PATIENCE);
	if (ret < 0)
		return ret;
	return ret ? 0 : -ETIMEDOUT;
}

/*
 * Lock the buffer when no fence of that usage is pending. Fences are waited for
 * without the lock: who put them there is not always for us to trust, and
 * everybody who uses the buffer needs the lock. 0, -ERESTARTSYS, -ETIMEDOUT
 */
static int buf_lock_settled(const struct pfn_vram_buf *buf,
			    enum dma_resv_usage usage)
{
	struct dma_resv *resv = buf->dmabuf->resv;
	unsigned long deadline = jiffies + PFN_VRAM_PATIENCE;
	long left;
	int err;

	for (;;) {
		err = buf_lock(buf);
		if (err)
			return err;
		if (dma_resv_test_signaled(resv, usage))
			return 0;
		buf_unlock(buf);

		left = deadline - jiffies;
		left = dma_resv_wait_timeout(resv, usage, true, max(left, 1L));
		if (left <= 0)
			return left ?: -ETIMEDOUT;
	}
}

/*
 * What the framework asks of an exporter
 */

/*
 * Our mapping of a mem in one piece, for importers. No io_lock: an unplug takes all
 * that is lent back from them before the mapping goes.
 */
static void __iomem *iomem_to_lend(const struct pfn_vram_mem *mem)
{
	if (!pfn_vram_mem_is_io(mem) || mem->nr > 1 || pfn_vram_quarantine_on())
		return NULL;
	return mem->dev->io + (mem->vec[0].paddr - mem->dev->io_base);
}

static int pfn_vram_map(struct dma_buf_pfn *pfn, struct dma_buf_pfn_lend *lend)
{
	struct pfn_vram_buf *buf = dma_buf_pfn_priv(pfn);
	struct pfn_vram_mem *mem = buf->mem;

	buf_assert_held(buf);

	if (!mem)
		return -ENODEV;

	*lend = (struct dma_buf_pfn_lend){
		.vec = mem->vec,
		.nr = mem->nr,
		.kind = DMA_BUF_PFN_RAM,
		.caching = DMA_BUF_PFN_WB,
		.cookie = pfn_vram_mem_get(mem),
	};
	if (mem->where == PFN_VRAM_PLACEMENT_VRAM) {
		lend->kind = buf->dev->kind;
		lend->caching = buf->dev->caching;
		lend->provider = buf->dev->provider;
		lend->iomem = iomem_to_lend(mem);
	}
	return 0;
}

static void pfn_vram_unmap(struct dma_buf_pfn *pfn,
			   const struct dma_buf_pfn_lend *lend)
{
	pfn_vram_mem_put(lend->cookie);
}

static void pfn_vram_release(struct dma_buf_pfn *pfn)
{
	struct pfn_vram_buf *buf = dma_buf_pfn_priv(pfn);
	struct pfn_vram_dev *dev = buf->dev;

	spin_lock(&dev->lock);
	if (!list_empty(&buf->node)) {
		list_del(&buf->node);
		dev->nr_bufs--;
	}
	spin_unlock(&dev->lock);

	pfn_vram_mem_put(buf->mem);
	pfn_vram_mem_put(buf->late_mem);
	kfree(buf);
	pfn_vram_dev_put(dev);
}

static const struct dma_buf_pfn_ops pfn_vram_buf_ops = {
	.map = pfn_vram_map,
	.unmap = pfn_vram_unmap,
	.release = pfn_vram_release,
};

/*
 * Making and finding buffers
 */

static struct pfn_vram_buf *buf_new(struct pfn_vram_dev *dev,
				    const struct pfn_vram_alloc *arg)
{
	struct pfn_vram_buf *buf;
	struct pfn_vram_mem *mem;

	buf = kzalloc_obj(*buf, GFP_KERNEL_ACCOUNT);
	if (!buf)
		return ERR_PTR(-ENOMEM);

	mem = pfn_vram_mem_alloc(dev, arg->placement, arg->size, arg->chunk,
				 true);
	if (IS_ERR(mem)) {
		kfree(buf);
		return ERR_CAST(mem);
	}

	INIT_LIST_HEAD(&buf->node);
	buf->dev = pfn_vram_dev_get(dev);
	buf->caps = arg->caps;
	buf->mem = mem;
	buf->fence_context = dma_fence_context_alloc(1);
	return buf;
}

static int buf_export(struct pfn_vram_buf *buf,
		      const struct pfn_vram_alloc *arg)
{
	const struct dma_buf_pfn_export_info info = {
		.exp_name = "pfn_vram",
		.owner = THIS_MODULE,
		.ops = &pfn_vram_buf_ops,
		.caps = arg->caps,
		.size = arg->size,
		.flags = arg->fd_flags,
		.priv = buf,
	};
	struct dma_buf *dmabuf;

	dmabuf = dma_buf_pfn_export(&info);
	if (IS_ERR(dmabuf))
		return PTR_ERR(dmabuf);

	buf->dmabuf = dmabuf;
	buf->pfn = to_dma_buf_pfn(dmabuf);
	buf->dentry = dmabuf->file->f_path.dentry;
	return 0;
}

/* Unplugging sees this buffer, or this call sees the unplugging. */
static int buf_enlist(struct pfn_vram_buf *buf)
{
	struct pfn_vram_dev *dev = buf->dev;
	int err = 0;

	spin_lock(&dev->lock);
	if (dev->dead) {
		err = -ENODEV;
	} else {
		list_add_tail(&buf->node, &dev->bufs);
		dev->nr_bufs++;
	}
	spin_unlock(&dev->lock);
	return err;
}

/**
 * pfn_vram_buf_create - allocate a zeroed buffer and export it
 * @dev: the device
 * @arg: checked arguments of %PFN_VRAM_IOC_ALLOC
 *
 * Return: the dma-buf with one reference for the caller; what
 * pfn_vram_mem_alloc() returns; ERR_PTR(-ENOMEM).
 */
struct dma_buf *pfn_vram_buf_create(struct pfn_vram_dev *dev,
				    const struct pfn_vram_alloc *arg)
{
	struct pfn_vram_buf *buf;
	struct dma_buf *dmabuf;
	int err;

	buf = buf_new(dev, arg);
	if (IS_ERR(buf))
		return ERR_CAST(buf);

	err = buf_export(buf, arg);
	if (err)
		goto err_buf;

	/* From here on, release() cleans up. */
	dmabuf = buf->dmabuf;
	err = buf_enlist(buf);
	if (err) {
		dma_buf_put(dmabuf);
		return ERR_PTR(err);
	}
	return dmabuf;

err_buf:
	pfn_vram_mem_put(buf->mem);
	pfn_vram_dev_put(buf->dev);
	kfree(buf);
	return ERR_PTR(err);
}

/**
 * pfn_vram_buf_get - the buffer behind a file descriptor
 * @dev: the device it has to belong to
 * @fd: of a dma-buf
 *
 * Return: the buffer, for pfn_vram_buf_put(); ERR_PTR(-EBADF), -EINVAL or
 * -EXDEV as described in uapi/linux/pfn_vram.h.
 */
struct pfn_vram_buf *pfn_vram_buf_get(struct pfn_vram_dev *dev, int fd)
{
	struct pfn_vram_buf *buf;
	struct dma_buf *dmabuf;

	dmabuf = dma_buf_get(fd);
	if (IS_ERR(dmabuf))
		return ERR_CAST(dmabuf);

	if (!dma_buf_pfn_exported_by(dmabuf, &pfn_vram_buf_ops)) {
		dma_buf_put(dmabuf);
		return ERR_PTR(-EINVAL);
	}
	buf = dma_buf_pfn_priv(to_dma_buf_pfn(dmabuf));
	if (buf->dev != dev) {
		dma_buf_put(dmabuf);
		return ERR_PTR(-EXDEV);
	}
	return buf;
}

void pfn_vram_buf_put(struct pfn_vram_buf *buf)
{
	dma_buf_put(buf->dmabuf);
}

/*
 * Copying
 */

/**
 * struct copy_job - the copy of a move
 * @work: does it
 * @ref: the caller of the move; the work
 * @done: for the caller; importers have @fence
 * @fence: no part of this struct and without a release callback of its own:
 *	once signalled it depends on nothing here, not even on the module
 * @to: where to, NULL once done
 * @from: where from, NULL once done
 * @quarantine: of the old memory, or NULL
 * @bounce: a page, if both are a BAR
 * @delay_ms: test aid: how long to wait before copying
 * @copy_ns: how long it took
 * @err: how it went
 */
struct copy_job {
	struct work_struct work;
	refcount_t ref;
	struct completion done;
	struct dma_fence *fence;
	struct pfn_vram_mem *to;
	struct pfn_vram_mem *from;
	struct pfn_vram_quarantine *quarantine;
	void *bounce;
	unsigned int delay_ms;
	u64 copy_ns;
	int err;
};

static const char *copy_fence_driver_name(struct dma_fence *fence)
{
	return "pfn_vram";
}

static const char *copy_fence_timeline_name(struct dma_fence *fence)
{
	return "move";
}

static const struct dma_fence_ops copy_fence_ops = {
	.get_driver_name = copy_fence_driver_name,
	.get_timeline_name = copy_fence_timeline_name,
};

static void copy_job_put_mem(struct copy_job *job)
{
	pfn_vram_mem_put(job->to);
	pfn_vram_mem_put(job->from);
	job->to = NULL;
	job->from = NULL;
}

static void copy_job_put(struct copy_job *job)
{
	if (!refcount_dec_and_test(&job->ref))
		return;
	copy_job_put_mem(job);
	pfn_vram_quarantine_free(job->quarantine);
	kfree(job->bounce);
	kfree(job);
}

/* From here to the signal nothing may allocate, or wait for who may. */
static void copy_and_signal(struct copy_job *job)
{
	bool cookie = dma_fence_begin_signalling();
	ktime_t start = ktime_get();

	if (job->delay_ms)
		msleep(job->delay_ms);
	job->err = pfn_vram_mem_copy(job->to, job->from, job->bounce);
	job->copy_ns = ktime_to_ns(ktime_sub(ktime_get(), start));

	if (job->err)
		dma_fence_set_error(job->fence, job->err);
	dma_fence_signal(job->fence);
	dma_fence_end_signalling(cookie);
}

static void copy_work(struct work_struct *work)
{
	struct copy_job *job = container_of(work, struct copy_job, work);

	copy_and_signal(job);
	dma_fence_put(job->fence);
	/*
	 * When MOVE returns, the old memory is free again and the new one is
	 * the buffer's alone.
	 */
	copy_job_put_mem(job);
	if (job->quarantine)
		pfn_vram_quarantine_check(job->quarantine);
	complete(&job->done);
	copy_job_put(job);
}

/* Everything a copy will need. Consumes the reference on to, always. */
static struct copy_job *copy_job_new(struct pfn_vram_mem *to)
{
	struct copy_job *job;

	job = kzalloc_obj(*job);
	if (!job)
		goto err_mem;
	job->fence = kzalloc_obj(*job->fence);
	if (!job->fence)
		goto err_job;
	if (pfn_vram_mem_is_io(to)) {
		job->bounce = kmalloc(PAGE_SIZE, GFP_KERNEL);
		if (!job->bounce)
			goto err_fence;
	}

	INIT_WORK(&job->work, copy_work);
	refcount_set(&job->ref, 1);
	init_completion(&job->done);
	job->to = to;
	return job;

err_fence:
	kfree(job->fence);
err_job:
	kfree(job);
err_mem:
	pfn_vram_mem_put(to);
	return NULL;
}

/* It is not needed after all. */
static void copy_job_cancel(struct copy_job *job)
{
	kfree(job->fence);
	copy_job_put(job);
}

/* Point of no return: the room for the fence has been reserved. */
static void copy_job_start(struct copy_job *job, struct pfn_vram_buf *buf)
{
	buf_assert_held(buf);

	dma_fence_init64(job->fence, &copy_fence_ops, NULL, buf->fence_context,
			 ++buf->fence_seqno);
	dma_resv_add_fence(buf->dmabuf->resv, job->fence,
			   DMA_RESV_USAGE_KERNEL);

	job->delay_ms = min(READ_ONCE(copy_delay_ms), MAX_COPY_DELAY_MS);

	/* The buffer's reference moves to the job. */
	job->from = buf->mem;
	if (job->quarantine)
		job->from = pfn_vram_quarantine_enter(job->quarantine,
						      buf->mem);
	buf->mem = pfn_vram_mem_get(job->to);

	refcount_inc(&job->ref);
	queue_work(copy_wq, &job->work);
}

/*
 * Moving
 */

/* Would a move make any sense? What is still true later is checked again. */
static int buf_may_move(struct pfn_vram_buf *buf)
{
	int err;

	if (!(buf->caps & PFN_VRAM_CAP_MOVE))
		return -EOPNOTSUPP;

	err = buf_lock(buf);
	if (err)
		return err;
	if (!buf->mem)
		err = -ENODEV;
	else if (dma_buf_pfn_is_pinned(buf->pfn))
		err = -EBUSY;
	buf_unlock(buf);
	return err;
}

static int buf_quiesce(struct pfn_vram_buf *buf, u64 *quiesce_ns)
{
	ktime_t start = ktime_get();
	int err;

	err = dma_buf_pfn_invalidate(buf->pfn);
	if (err)
		return err;
	/* Being told may have made legacy importers add some more. */
	err = buf_wait(buf, DMA_RESV_USAGE_BOOKKEEP);
	*quiesce_ns = ktime_to_ns(ktime_sub(ktime_get(), start));
	return err;
}

static int buf_move_locked(struct pfn_vram_buf *buf, struct copy_job *job,
			   u64 *quiesce_ns)
{
	int err;

	buf_assert_held(buf);

	err = buf_quiesce(buf, quiesce_ns);
	if (err)
		return err;
	err = dma_resv_reserve_fences(buf->dmabuf->resv, 1);
	if (err)
		return err;

	copy_job_start(job, buf);
	buf->generation++;
	return 0;
}

/* The size never changes, so it is safe to ask for without a lock. */
static struct copy_job *buf_prepare_move(struct pfn_vram_buf *buf,
					 const struct pfn_vram_move *arg)
{
	struct pfn_vram_mem *to;
	struct copy_job *job;

	to = pfn_vram_mem_alloc(buf->dev, arg->placement, buf->dmabuf->size,
				arg->chunk, false);
	if (IS_ERR(to))
		return ERR_CAST(to);
	job = copy_job_new(to);
	if (!job)
		return ERR_PTR(-ENOMEM);

	job->quarantine = pfn_vram_quarantine_new(buf->dev, buf->dmabuf->size);
	if (IS_ERR(job->quarantine)) {
		int err = PTR_ERR(job->quarantine);

		job->quarantine = NULL;
		copy_job_cancel(job);
		return ERR_PTR(err);
	}
	return job;
}

/*
 * Only a caller that has to die doesn't wait until the end: after the point of
 * no return there is nothing to restart.
 */
static int buf_wait_for_copy(struct copy_job *job, struct pfn_vram_move *arg)
{
	int err;

	err = wait_for_completion_killable(&job->done);
	if (err)
		return err;
	arg->copy_ns = job->copy_ns;
	return job->err;
}

/**
 * pfn_vram_buf_move - give a buffer other physical memory, its bytes intact
 * @buf: the buffer
 * @arg: checked arguments of %PFN_VRAM_IOC_MOVE; results are filled in
 *
 * Return: 0; -EOPNOTSUPP, -EBUSY, -ENODEV, -ERESTARTSYS, -ETIMEDOUT if an
 * importer's fence does not signal, or what pfn_vram_mem_alloc() returns.
 */
int pfn_vram_buf_move(struct pfn_vram_buf *buf, struct pfn_vram_move *arg)
{
	struct copy_job *job;
	int err;

	arg->quiesce_ns = 0;
	arg->copy_ns = 0;

	err = buf_may_move(buf);
	if (err)
		return err;
	job = buf_prepare_move(buf, arg);
	if (IS_ERR(job))
		return PTR_ERR(job);

	err = buf_lock_settled(buf, DMA_RESV_USAGE_BOOKKEEP);
	if (err)
		goto err_job;
	err = buf_move_locked(buf, job, &arg->quiesce_ns);
	buf_unlock(buf);
	if (err)
		goto err_job;

	if (!(arg->flags & PFN_VRAM_MOVE_ASYNC))
		err = buf_wait_for_copy(job, arg);
	copy_job_put(job);
	return err;

err_job:
	copy_job_cancel(job);
	return err;
}

/*
 * Revoking
 */

/*
 * The framework has taken the ranges back for good. What borrowers have not
 * given back yet, they hold a reference on; but a legacy importer's DMA may
 * even go on until its fence signals.
 */
static void buf_drop_mem(struct pfn_vram_buf *buf, unsigned long timeout)
{
	struct pfn_vram_mem *mem = buf->mem;

	buf_assert_held(buf);

	if (!mem)
		return;

	buf->mem = NULL;
	buf->generation++;
	if (dma_resv_wait_timeout(buf->dmabuf->resv, DMA_RESV_USAGE_BOOKKEEP,
				  false, timeout) > 0)
		pfn_vram_mem_put(mem);
	else
		buf->late_mem = mem;
}

static int buf_revoke_locked(struct pfn_vram_buf *buf)
{
	int err;

	buf_assert_held(buf);

	err = dma_buf_pfn_revoke(buf->pfn);
	if (err)
		return err;

	buf_drop_mem(buf, PFN_VRAM_PATIENCE);
	return 0;
}

/**
 * pfn_vram_buf_revoke - take a buffer's memory away for good
 * @buf: the buffer
 *
 * Return: 0; -EOPNOTSUPP, -EBUSY, -ENODEV if that has happened already,
 * -ERESTARTSYS, -ETIMEDOUT if a move never ends.
 */
int pfn_vram_buf_revoke(struct pfn_vram_buf *buf)
{
	int err;

	/* A copy on its way needs what would be dropped. */
	err = buf_lock_settled(buf, DMA_RESV_USAGE_KERNEL);
	if (err)
		return err;
	err = buf_revoke_locked(buf);
	buf_unlock(buf);
	return err;
}

/* May the buffer get memory again? */
static int buf_may_restore(struct pfn_vram_buf *buf)
{
	buf_assert_held(buf);

	if (!dma_buf_pfn_is_revoked(buf->pfn))
		return -EINVAL;
	/* There is room for one mem that cannot be freed yet. */
	if (buf->late_mem &&
	    !dma_resv_test_signaled(buf->dmabuf->resv, DMA_RESV_USAGE_BOOKKEEP))
		return -EBUSY;
	return 0;
}

/**
 * pfn_vram_buf_restore - give a revoked buffer memory again, zeroed
 * @buf: the buffer
 * @arg: checked arguments of %PFN_VRAM_IOC_RESTORE
 *
 * Return: 0; -EINVAL if it is not revoked; -EBUSY if the memory it had is still
 * waiting for somebody's fence; -ENODEV, -ERESTARTSYS, or what
 * pfn_vram_mem_alloc() returns.
 */
int pfn_vram_buf_restore(struct pfn_vram_buf *buf,
			 const struct pfn_vram_restore *arg)
{
	struct pfn_vram_mem *mem;
	int err;

	err = buf_lock(buf);
	if (err)
		return err;
	err = buf_may_restore(buf);
	buf_unlock(buf);
	if (err)
		return err;

	mem = pfn_vram_mem_alloc(buf->dev, arg->placement, buf->dmabuf->size,
				 arg->chunk, true);
	if (IS_ERR(mem))
		return PTR_ERR(mem);

	err = buf_lock(buf);
	if (err)
		goto err_mem;
	err = buf_may_restore(buf);
	if (!err)
		err = dma_buf_pfn_unrevoke(buf->pfn);
	if (err) {
		buf_unlock(buf);
		goto err_mem;
	}
	pfn_vram_mem_put(buf->late_mem);
	buf->late_mem = NULL;
	buf->mem = mem;
	buf->generation++;
	buf_unlock(buf);
	return 0;

err_mem:
	pfn_vram_mem_put(mem);
	return err;
}

/*
 * The next buffer that unplugging has to deal with, or NULL; with a reference
 * on its dentry and not, as usual, on its file: whoever opens a dma-buf with
 * O_PATH through /proc keeps it without keeping the file. If even the dentry is
 * on its way out, nobody can be using the buffer.
 */
static struct pfn_vram_buf *buf_next_to_remove(struct pfn_vram_dev *dev)
{
	struct pfn_vram_buf *buf;

	spin_lock(&dev->lock);
	list_for_each_entry(buf, &dev->bufs, node) {
		if (lockref_get_not_dead(&buf->dentry->d_lockref)) {
			list_move_tail(&buf->node, &dev->removed);
			spin_unlock(&dev->lock);
			return buf;
		}
	}
	spin_unlock(&dev->lock);
	return NULL;
}

/**
 * pfn_vram_buf_remove_all - the device is going: revoke all its buffers
 * @dev: a device that is marked dead
 *
 * Also those in system memory, and whatever importers have been promised: there
 * is nobody left to look after them.
 *
 * Context: process context; waits for at most %PFN_VRAM_PATIENCE.
 */
void pfn_vram_buf_remove_all(struct pfn_vram_dev *dev)
{
	unsigned long deadline = jiffies + PFN_VRAM_PATIENCE;
	struct pfn_vram_buf *buf;

	while ((buf = buf_next_to_remove(dev))) {
		struct dentry *dentry = buf->dentry;
		unsigned long now = jiffies;

		dma_resv_lock(buf->dmabuf->resv, NULL);
		dma_buf_pfn_remove(buf->pfn);
		buf_drop_mem(buf, time_before(now, deadline) ?
			     deadline - now : 0);
		dma_resv_unlock(buf->dmabuf->resv);
		dput(dentry);
	}
}

/**
 * pfn_vram_buf_info - what a buffer is like at the moment
 * @buf: the buffer
 * @arg: to be filled in, except for the fd
 *
 * Return: 0 or -ERESTARTSYS.
 */
int pfn_vram_buf_info(struct pfn_vram_buf *buf, struct pfn_vram_buf_info *arg)
{
	struct dma_resv *resv = buf->dmabuf->resv;
	int err;

	*arg = (struct pfn_vram_buf_info){
		.fd = arg->fd,
		.caps = buf->caps,
		.size = buf->dmabuf->size,
	};

	err = buf_lock(buf);
	if (err)
		return err;
	if (buf->mem) {
		arg->placement = buf->mem->where;
		arg->ranges = buf->mem->nr;
		arg->metadata_bytes = sizeof(*buf->mem) +
			buf->mem->max * sizeof(*buf->mem->vec);
	}
	if (dma_buf_pfn_is_revoked(buf->pfn))
		arg->flags |= PFN_VRAM_BUF_REVOKED;
	if (dma_buf_pfn_is_pinned(buf->pfn))
		arg->flags |= PFN_VRAM_BUF_PINNED;
	if (!dma_resv_test_signaled(resv, DMA_RESV_USAGE_KERNEL))
		arg->flags |= PFN_VRAM_BUF_MOVING;
	arg->generation = buf->generation;
	arg->attachments = dma_buf_pfn_nr_attachments(buf->pfn);
	buf_unlock(buf);
	return 0;
}

/* The n-th buffer, with a reference on its dentry, or NULL. */
static struct pfn_vram_buf *buf_get_nth(struct pfn_vram_dev *dev, loff_t n)
{
	struct pfn_vram_buf *buf;

	spin_lock(&dev->lock);
	list_for_each_entry(buf, &dev->bufs, node) {
		if (n > 0) {
			n--;
		} else if (lockref_get_not_dead(&buf->dentry->d_lockref)) {
			spin_unlock(&dev->lock);
			return buf;
		}
	}
	spin_unlock(&dev->lock);
	return NULL;
}

static const char *buf_place(const struct pfn_vram_buf *buf)
{
	if (!buf->mem)
		return "revoked";
	return buf->mem->where == PFN_VRAM_PLACEMENT_VRAM ? "vram" : "system";
}

/**
 * pfn_vram_buf_show - describe a buffer and its importers, for debugfs
 * @dev: the device
 * @n: which buffer; while others come and go, some may be left out or seen twice
 * @m: where to
 *
 * Context: process context, may sleep.
 * Return: false if there are not so many buffers.
 */
bool pfn_vram_buf_show(struct pfn_vram_dev *dev, loff_t n, struct seq_file *m)
{
	struct pfn_vram_buf *buf = buf_get_nth(dev, n);
	struct dentry *dentry;
	struct dma_resv *resv;

	if (!buf)
		return false;

	dentry = buf->dentry;
	resv = buf->dmabuf->resv;
	dma_resv_lock(resv, NULL);
	seq_printf(m, "dmabuf %llu: %zu bytes, %s, %zu ranges, generation %llu, can%s%s%s%s%s%s\n",
		   (u64)d_inode(dentry)->i_ino,
		   buf->dmabuf->size, buf_place(buf),
		   buf->mem ? buf->mem->nr : 0, buf->generation,
		   buf->caps & PFN_VRAM_CAP_PIN ? " pin" : "",
		   buf->caps & PFN_VRAM_CAP_MOVE ? " move" : "",
		   buf->caps & PFN_VRAM_CAP_REVOKE ? " revoke" : "",
		   buf->caps ? "" : " nothing",
		   dma_buf_pfn_is_pinned(buf->pfn) ? ", pinned" : "",
		   dma_resv_test_signaled(resv, DMA_RESV_USAGE_KERNEL) ?
		   "" : ", moving");
	dma_buf_pfn_show_importers(buf->pfn, m);
	dma_resv_unlock(resv);
	dput(dentry);
	return true;
}

int pfn_vram_buf_init(void)
{
	copy_wq = alloc_workqueue("pfn_vram", WQ_UNBOUND | WQ_MEM_RECLAIM, 0);
	return copy_wq ? 0 : -ENOMEM;
}

/* No buffer is left, but there may be copies. */
void pfn_vram_buf_exit(void)
{
	destroy_workqueue(copy_wq);
	/* Nobody is in the callbacks of a fence that was signalled just now. */
	synchronize_rcu();
}
