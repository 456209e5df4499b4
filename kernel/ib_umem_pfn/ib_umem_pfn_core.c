// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * ib_umem_pfn: the memory of an MR, borrowed from a dma-buf's exporter as
 * physical ranges. See <rdma/ib_umem_pfn.h> for the states.
 *
 * Locking. Two locks, always in this order:
 *
 *   the dma-buf's reservation lock	every change of state; faults and
 *					invalidations are serialised by it
 *   umem->lock (rw_semaphore)		held for reading around every access to
 *					the memory, for writing to change state
 *
 * An access never takes the reservation lock while it holds umem->lock. An
 * access to an ABSENT umem drops everything, takes the reservation lock, maps,
 * waits for the fences of the new placement, publishes, and takes umem->lock
 * for reading *before* it drops the reservation lock: no invalidation can come
 * in between, so there is no retry loop and no livelock.
 *
 * An invalidation comes with the reservation lock held; taking umem->lock for
 * writing waits for running accesses (each is one packet's worth of copying),
 * and when it has it nothing touches the old memory any more.
 *
 * Nothing is stored per page or per range: ranges are searched in the loan that
 * all importers share.
 */
#include <kunit/visibility.h>
#include <linux/delay.h>
#include <linux/dma-buf-pfn.h>
#include <linux/dma-resv.h>
#include <linux/eventfd.h>
#include <linux/export.h>
#include <linux/fs.h>
#include <linux/io.h>
#include <linux/module.h>
#include <linux/overflow.h>
#include <linux/rwsem.h>
#include <linux/slab.h>
#include <rdma/ib_umem_pfn.h>
#include <rdma/ib_verbs.h>

#define CREATE_TRACE_POINTS
#include "ib_umem_pfn_trace.h"
#include "ib_umem_pfn_kunit.h"
#include "ib_umem_pfn_priv.h"

/*
 * Faults wait for fences without the reservation lock, so that one exporter that
 * is stuck does not make a queue. Whoever had to wait this many times because
 * the buffer moves all the time keeps the lock the next time: nobody starves.
 */
#define UNLOCKED_WAITS	3

/*
 * Widens the window between looking an address up and using it, so that tests
 * of the locking can fail. Not for production: it stalls every access.
 */
static unsigned int test_access_delay_us;
module_param(test_access_delay_us, uint, 0600);
MODULE_PARM_DESC(test_access_delay_us,
		 "for tests only: microseconds to sleep in every access");

/* What fdinfo, bufinfo and our tracepoints know the dma-buf by. */
static unsigned long umem_ino(const struct ib_umem_pfn *umem)
{
	return file_inode(umem->dmabuf->file)->i_ino;
}

/* Change the state, and @counter, unless it is NULL: how often for that reason. */
static void umem_publish(struct ib_umem_pfn *umem, enum pfn_mr_state state,
			 const struct dma_buf_pfn_loan *loan, void *kva,
			 u64 *counter)
{
	dma_resv_assert_held(umem->dmabuf->resv);

	down_write(&umem->lock);
	/* Revoked is for good. */
	if (umem->state != PFN_MR_STATE_REVOKED)
		umem->state = state;
	if (loan)
		umem->generation++;
	umem->loan = loan;
	umem->kva = kva;
	umem->hint = 0;
	if (counter)
		++*counter;
	up_write(&umem->lock);
}

static int umem_lock_resv(struct ib_umem_pfn *umem, bool intr)
{
	if (intr)
		return dma_resv_lock_interruptible(umem->dmabuf->resv, NULL);
	return dma_resv_lock(umem->dmabuf->resv, NULL);
}

/*
 * Take the reservation lock when there is no move on its way, or nothing to wait
 * for one for. Returns 0 with the lock held.
 */
static int umem_lock_settled(struct ib_umem_pfn *umem, bool intr)
{
	struct dma_resv *resv = umem->dmabuf->resv;
	unsigned long deadline = jiffies + DMA_BUF_PFN_MOVE_TIMEOUT;
	unsigned int waits = 0;
	int err;

	err = umem_lock_resv(umem, intr);
	if (err)
		return err;

	while (umem->state == PFN_MR_STATE_ABSENT &&
	       !dma_resv_test_signaled(resv, DMA_RESV_USAGE_KERNEL)) {
		bool keep = waits++ >= UNLOCKED_WAITS;
		long left = deadline - jiffies;

		if (!keep)
			dma_resv_unlock(resv);
		left = dma_resv_wait_timeout(resv, DMA_RESV_USAGE_KERNEL, intr,
					     max(left, 1L));
		if (left > 0)
			err = keep ? 0 : umem_lock_resv(umem, intr);
		else
			err = left ?: -ETIMEDOUT;
		if (err) {
			if (keep)
				dma_resv_unlock(resv);
			return err;
		}
	}
	return 0;
}

/* Make the umem PRESENT. Called between umem_lock_settled() and unlocking. */
static int umem_map(struct ib_umem_pfn *umem, bool intr, u64 *counter)
{
	const struct dma_buf_pfn_loan *loan;
	void *kva = NULL;

	dma_resv_assert_held(umem->dmabuf->resv);

	if (umem->state == PFN_MR_STATE_PRESENT)
		return 0;
	if (umem->state == PFN_MR_STATE_REVOKED)
		return -ENODEV;

	loan = intr ? dma_buf_pfn_map_interruptible(umem->attach) :
		      dma_buf_pfn_map(umem->attach);
	if (IS_ERR(loan))
		return PTR_ERR(loan);

	if (loan->lend.kind != DMA_BUF_PFN_RAM && !umem->no_cpu) {
		kva = dma_buf_pfn_loan_kmap(loan);
		if (!kva) {
			dma_buf_pfn_unmap(umem->attach);
			return -ENOMEM;
		}
	}

	umem_publish(umem, PFN_MR_STATE_PRESENT, loan, kva, counter);
	return 0;
}

/* Map because of an access, unless somebody else was here first. */
static int umem_fault_in(struct ib_umem_pfn *umem, bool intr)
{
	int err;

	if (umem->state != PFN_MR_STATE_ABSENT)
		return umem_map(umem, intr, NULL);

	err = umem_map(umem, intr, &umem->faults);
	trace_ib_umem_pfn_fault(umem, umem_ino(umem), umem->offset,
				umem->length, err ? 0 : umem->loan->lend.nr,
				err);
	return err;
}

/**
 * umem_map_and_lock - make a umem PRESENT and keep it so
 * @umem: the umem
 *
 * As a fault does, for a user that has other ways to keep the memory where it is.
 *
 * Return: 0 with the reservation lock held; or the errors of a prefetch.
 */
int umem_map_and_lock(struct ib_umem_pfn *umem)
{
	int err;

	err = umem_lock_settled(umem, true);
	if (err)
		return err;
	err = umem_fault_in(umem, true);
	if (err)
		dma_resv_unlock(umem->dmabuf->resv);
	return err;
}

static void umem_invalidate(struct dma_buf_pfn_attachment *attach, bool revoked)
{
	struct ib_umem_pfn *umem = attach->priv;
	enum pfn_mr_state was = umem->state;

	umem_dma_stop_all(umem, revoked);
	umem_publish(umem,
		     revoked ? PFN_MR_STATE_REVOKED : PFN_MR_STATE_ABSENT,
		     NULL, NULL,
		     was == PFN_MR_STATE_PRESENT ? &umem->invalidations : NULL);
	dma_buf_pfn_unmap(attach);

	if (!revoked) {
		trace_ib_umem_pfn_invalidate(umem, umem_ino(umem), was);
		return;
	}
	trace_ib_umem_pfn_revoke(umem, umem_ino(umem), was);
	if (umem->revoked_event && was != PFN_MR_STATE_REVOKED)
		eventfd_signal(umem->revoked_event);
}

static const struct dma_buf_pfn_importer_ops umem_importer_ops = {
	.allow_bridge = true,
	.invalidate = umem_invalidate,
};

/* A bridge is no way for a device. */
static const struct dma_buf_pfn_importer_ops umem_dma_importer_ops = {
	.invalidate = umem_invalidate,
};

static bool umem_file_allows(const struct dma_buf *dmabuf, bool writable)
{
	fmode_t need = FMODE_READ | (writable ? FMODE_WRITE : 0);

	return (dmabuf->file->f_mode & need) == need;
}

static int umem_refuse(struct ib_umem_pfn_attr *attr, int err,
		       const char *reason)
{
	attr->reason = reason;
	return err;
}

static int umem_check_range(struct ib_umem_pfn_attr *attr,
			    const struct dma_buf *dmabuf)
{
	u64 end;

	if (!attr->length)
		return umem_refuse(attr, -EINVAL, "the length is 0");
	if (check_add_overflow(attr->offset, attr->length, &end) ||
	    end > dmabuf->size)
		return umem_refuse(attr, -EINVAL,
				   "the range ends beyond the end of the dma-buf");
	return 0;
}

static int umem_check_access(struct ib_umem_pfn_attr *attr,
			     const struct dma_buf *dmabuf)
{
	if (attr->access & IB_ACCESS_ON_DEMAND)
		return umem_refuse(attr, -EOPNOTSUPP,
				   "a dma-buf is not paged: no IB_ACCESS_ON_DEMAND");
	if (attr->access & IB_ACCESS_FLUSH_PERSISTENT)
		return umem_refuse(attr, -EOPNOTSUPP,
				   "nobody says that this memory is persistent: no IB_ACCESS_FLUSH_PERSISTENT");
	if (!umem_file_allows(dmabuf, ib_access_writable(attr->access)))
		return umem_refuse(attr, -EACCES,
				   "the dma-buf was exported read-only, the access flags write");
	return 0;
}

/* Why could we not attach? -ENXIO is between the bridge and us. */
static int umem_attach_refused(const struct ib_umem_pfn *umem,
			       struct ib_umem_pfn_attr *attr, int err)
{
	switch (err) {
	case -EOPNOTSUPP:
		if (umem->no_cpu && !dma_buf_is_pfn(umem->dmabuf))
			return umem_refuse(attr, err,
					   "the dma-buf's exporter does not lend physical ranges");
		if (attr->mode == PFN_MR_MODE_PINNED)
			return umem_refuse(attr, err,
					   "the exporter may move or revoke the buffer and cannot pin it: no PINNED mode");
		if (attr->mode == PFN_MR_MODE_REVOCABLE)
			return umem_refuse(attr, err,
					   "the exporter may move the buffer and cannot pin it: no REVOCABLE mode");
		return umem_refuse(attr, err,
				   "the exporter lets nobody attach to the buffer");
	case -ENXIO:
		return umem_refuse(attr, -EOPNOTSUPP,
				   "the exporter lends no ranges, has no kernel mapping, and no PCI BAR of a device that we know");
	case -EBUSY:
		return umem_refuse(attr, err,
				   "the device that may own the memory is just being bound, unbound or reset");
	case -ENODEV:
		return umem_refuse(attr, err,
				   "the exporter has revoked the buffer");
	}
	return err;
}

static int umem_attach(struct ib_umem_pfn *umem, struct ib_umem_pfn_attr *attr)
{
	static const enum dma_buf_pfn_mode modes[] = {
		[PFN_MR_MODE_DEFAULT] = DMA_BUF_PFN_DEFAULT,
		[PFN_MR_MODE_PINNED] = DMA_BUF_PFN_PINNED,
		[PFN_MR_MODE_REVOCABLE] = DMA_BUF_PFN_REVOCABLE,
		[PFN_MR_MODE_DYNAMIC] = DMA_BUF_PFN_DYNAMIC,
	};
	struct dma_buf_pfn_attachment *attach;

	if (attr->mode >= ARRAY_SIZE(modes))
		return umem_refuse(attr, -EINVAL, "there is no such mode");

	attach = dma_buf_pfn_attach(umem->dmabuf, umem->dev,
				    modes[attr->mode],
				    umem->no_cpu ? &umem_dma_importer_ops :
						   &umem_importer_ops,
				    umem);
	if (IS_ERR(attach))
		return umem_attach_refused(umem, attr, PTR_ERR(attach));
	umem->attach = attach;
	return 0;
}

/* Nobody hears of a revoke who has never had the memory. */
static int umem_map_first(struct ib_umem_pfn *umem,
			  struct ib_umem_pfn_attr *attr,
			  struct eventfd_ctx *revoked_event)
{
	int err;

	err = umem_lock_settled(umem, true);
	if (err == -ETIMEDOUT)
		return umem_refuse(attr, err,
				   "the exporter did not finish moving the buffer in time");
	if (err)
		return err;
	err = umem_map(umem, true, NULL);
	if (!err)
		umem->revoked_event = revoked_event;
	trace_ib_umem_pfn_map(umem, umem_ino(umem), umem->offset, umem->length,
			      err ? 0 : umem->loan->lend.nr, err);
	dma_resv_unlock(umem->dmabuf->resv);

	if (err == -ENODEV)
		return umem_refuse(attr, err,
				   "the exporter has revoked the buffer");
	if (err == -EOPNOTSUPP)
		return umem_refuse(attr, err,
				   "the exporter can neither lend the buffer nor map it for the kernel, or not pin it");
	if (err == -EIO)
		return umem_refuse(attr, err,
				   "the exporter lent ranges that make no sense, see the kernel log");
	return err;
}

static struct ib_umem_pfn *umem_get(struct device *dev, bool no_cpu,
				    struct ib_umem_pfn_attr *attr,
				    struct dma_buf *dmabuf,
				    struct eventfd_ctx *revoked_event)
{
	struct ib_umem_pfn *umem;
	int err;

	err = umem_check_range(attr, dmabuf);
	if (err)
		return ERR_PTR(err);
	err = umem_check_access(attr, dmabuf);
	if (err)
		return ERR_PTR(err);

	umem = kzalloc_obj(*umem, GFP_KERNEL_ACCOUNT);
	if (!umem)
		return ERR_PTR(-ENOMEM);
	umem->dev = dev;
	umem->no_cpu = no_cpu;
	INIT_LIST_HEAD(&umem->dma_maps);
	umem->dmabuf = dmabuf;
	umem->offset = attr->offset;
	umem->length = attr->length;
	umem->readonly = attr->readonly;
	umem->writable = ib_access_writable(attr->access);
	umem->state = PFN_MR_STATE_ABSENT;
	init_rwsem(&umem->lock);

	err = umem_attach(umem, attr);
	if (err)
		goto err_free;
	err = umem_map_first(umem, attr, revoked_event);
	if (err)
		goto err_detach;
	return umem;

err_detach:
	dma_buf_pfn_detach(umem->attach);
err_free:
	kfree(umem);
	return ERR_PTR(err);
}

/**
 * umem_get_dmabuf - borrow (a part of) a dma-buf
 * @dev: the importing device
 * @no_cpu: for a device that does DMA
 * @attr: as for ib_umem_pfn_get(), but for @attr->fd, which is not looked at
 * @dmabuf: the dma-buf; the caller's reference is taken over, also on failure
 *
 * Return: the umem, or the errors of ib_umem_pfn_get().
 */
struct ib_umem_pfn *umem_get_dmabuf(struct device *dev, bool no_cpu,
				    struct ib_umem_pfn_attr *attr,
				    struct dma_buf *dmabuf)
{
	struct eventfd_ctx *revoked_event = NULL;
	struct ib_umem_pfn *umem;

	if (attr->eventfd >= 0) {
		revoked_event = eventfd_ctx_fdget(attr->eventfd);
		if (IS_ERR(revoked_event)) {
			umem = ERR_CAST(revoked_event);
			attr->reason = "the eventfd is not an open eventfd";
			goto err_put;
		}
	}

	umem = umem_get(dev, no_cpu, attr, dmabuf, revoked_event);
	if (!IS_ERR(umem))
		return umem;

	if (revoked_event)
		eventfd_ctx_put(revoked_event);
err_put:
	dma_buf_put(dmabuf);
	trace_ib_umem_pfn_refuse(attr, PTR_ERR(umem));
	return umem;
}

static struct ib_umem_pfn *umem_get_fd(struct device *dev, bool no_cpu,
				       struct ib_umem_pfn_attr *attr)
{
	struct dma_buf *dmabuf;

	attr->reason = NULL;
	dmabuf = dma_buf_get(attr->fd);
	if (IS_ERR(dmabuf)) {
		if (dmabuf == ERR_PTR(-EINVAL))
			attr->reason = "the file descriptor is not a dma-buf";
		trace_ib_umem_pfn_refuse(attr, PTR_ERR(dmabuf));
		return ERR_CAST(dmabuf);
	}
	return umem_get_dmabuf(dev, no_cpu, attr, dmabuf);
}

/**
 * ib_umem_pfn_get - borrow (a part of) a dma-buf for an MR
 * @ibdev: the importing device; must outlive the umem
 * @attr: what to borrow and how; @attr->reason is set if this fails for a
 *	reason that an errno does not tell
 *
 * The umem is PRESENT on return. The caller's file descriptors, dma-buf and
 * eventfd, may be closed afterwards.
 *
 * Context: process context of the registering process, may sleep.
 * Return: the umem, to be released with ib_umem_pfn_release(), or ERR_PTR():
 * -EBADF	@attr->fd or @attr->eventfd is not open
 * -EINVAL	not a dma-buf; not an eventfd; nothing, or more than there is, was
 *		asked for; unknown mode
 * -EACCES	the dma-buf was exported without the rights that @attr->access
 *		needs
 * -EOPNOTSUPP	there is no way to the memory; its exporter cannot promise
 *		what @attr->mode needs; @attr->access wants paging or persistence
 * -EBUSY	the device that may own it is just being bound, unbound or reset
 * -ENODEV	the dma-buf has been revoked
 * -ETIMEDOUT	the exporter did not finish moving it
 * -EINTR, -ERESTARTSYS	a signal
 * -ENOMEM	or any error of the exporter
 */
struct ib_umem_pfn *ib_umem_pfn_get(struct ib_device *ibdev,
				    struct ib_umem_pfn_attr *attr)
{
	return umem_get_fd(&ibdev->dev, false, attr);
}
EXPORT_SYMBOL_NS_GPL(ib_umem_pfn_get, "IB_UMEM_PFN");

/**
 * ib_umem_pfn_get_for_dma - borrow (a part of) a dma-buf for a device's DMA
 * @dev: the device; must outlive the umem
 * @attr: as for ib_umem_pfn_get()
 *
 * As ib_umem_pfn_get(), but the CPU functions are not for this umem and get
 * -EOPNOTSUPP: nothing is mapped for them. Use ib_umem_pfn_dma_map_and_lock().
 */
struct ib_umem_pfn *ib_umem_pfn_get_for_dma(struct device *dev,
					    struct ib_umem_pfn_attr *attr)
{
	return umem_get_fd(dev, true, attr);
}
EXPORT_SYMBOL_NS_GPL(ib_umem_pfn_get_for_dma, "IB_UMEM_PFN");

/**
 * ib_umem_pfn_release - give it back
 * @umem: the umem, not in use any more; NULL is ignored
 *
 * Never fails, whatever became of the exporter. DMA mappings that are left are
 * stopped and undone as at a revoke.
 *
 * Context: process context, may sleep.
 */
void ib_umem_pfn_release(struct ib_umem_pfn *umem)
{
	struct dma_buf *dmabuf;

	if (!umem)
		return;

	trace_ib_umem_pfn_unmap(umem, umem_ino(umem), umem->state);
	dmabuf = umem->dmabuf;
	dma_resv_lock(dmabuf->resv, NULL);
	umem_dma_stop_all(umem, true);
	dma_resv_unlock(dmabuf->resv);
	dma_buf_pfn_detach(umem->attach);
	if (umem->revoked_event)
		eventfd_ctx_put(umem->revoked_event);
	kfree(umem);
	dma_buf_put(dmabuf);
}
EXPORT_SYMBOL_NS_GPL(ib_umem_pfn_release, "IB_UMEM_PFN");

/**
 * ib_umem_pfn_change_access - may the MR's access rights become these?
 * @umem: the umem
 * @access: mask of &enum ib_access_flags
 *
 * For rereg_mr. On success the umem allows what @access needs.
 *
 * Context: process context, may sleep; reservation lock not held.
 * Return: 0; -EACCES if the dma-buf was exported without the rights, or the mapping
 * did not have them by whose address the umem was made; -EOPNOTSUPP for rights that
 * need persistent memory or paging by the MMU; -EBUSY if a device has it mapped with
 * other rights.
 */
int ib_umem_pfn_change_access(struct ib_umem_pfn *umem, int access)
{
	bool writable = ib_access_writable(access);
	int err = 0;

	if (access & (IB_ACCESS_ON_DEMAND | IB_ACCESS_FLUSH_PERSISTENT))
		return -EOPNOTSUPP;
	if (!umem_file_allows(umem->dmabuf, writable) ||
	    (writable && umem->readonly))
		return -EACCES;

	dma_resv_lock(umem->dmabuf->resv, NULL);
	if (writable != umem->writable && !list_empty(&umem->dma_maps)) {
		err = -EBUSY;
	} else {
		down_write(&umem->lock);
		umem->writable = writable;
		up_write(&umem->lock);
	}
	dma_resv_unlock(umem->dmabuf->resv);
	return err;
}
EXPORT_SYMBOL_NS_GPL(ib_umem_pfn_change_access, "IB_UMEM_PFN");

/* Map on access; returns 0 with umem->lock held for reading. */
static int umem_fault(struct ib_umem_pfn *umem)
{
	int err;

	err = umem_lock_settled(umem, false);
	if (err) {
		trace_ib_umem_pfn_fault(umem, umem_ino(umem), umem->offset,
					umem->length, 0, err);
		return err;
	}
	err = umem_fault_in(umem, false);
	if (!err)
		down_read(&umem->lock);
	dma_resv_unlock(umem->dmabuf->resv);
	return err;
}

/* Map because somebody asked for it, unless somebody else was here first. */
static int umem_prefetch_in(struct ib_umem_pfn *umem)
{
	int err;

	if (umem->state != PFN_MR_STATE_ABSENT)
		return umem_map(umem, true, NULL);

	err = umem_map(umem, true, &umem->prefetches);
	if (!err)
		trace_ib_umem_pfn_prefetch(umem, umem_ino(umem), umem->offset,
					   umem->length, umem->loan->lend.nr,
					   0);
	return err;
}

/*
 * Map without waiting for anybody, or leave it. A move that is on its way will be
 * waited for by the first access, as will what a bridge's exporter has to do.
 */
static int umem_prefetch_at_once(struct ib_umem_pfn *umem)
{
	struct dma_resv *resv = umem->dmabuf->resv;
	int err = 0;

	if (!dma_resv_trylock(resv))
		return 0;
	if (umem->state == PFN_MR_STATE_REVOKED)
		err = -ENODEV;
	else if (umem->attach->backend == DMA_BUF_PFN_BACKEND_RANGES &&
		 dma_resv_test_signaled(resv, DMA_RESV_USAGE_KERNEL))
		err = umem_prefetch_in(umem);
	dma_resv_unlock(resv);
	return err;
}

static int umem_prefetch_settled(struct ib_umem_pfn *umem)
{
	int err;

	err = umem_lock_settled(umem, true);
	if (err)
		return err;
	err = umem_prefetch_in(umem);
	dma_resv_unlock(umem->dmabuf->resv);
	return err;
}

/**
 * ib_umem_pfn_check_prefetch - are these good arguments for a prefetch?
 * @umem: the umem
 * @offset: as for ib_umem_pfn_prefetch()
 * @length: as for ib_umem_pfn_prefetch()
 * @advice: as for ib_umem_pfn_prefetch()
 *
 * Context: any.
 * Return: 0; -EFAULT outside of the umem; -EPERM if it will be written to and is
 * not writable; -ENODEV once revoked.
 */
int ib_umem_pfn_check_prefetch(struct ib_umem_pfn *umem, u64 offset, u64 length,
			       enum ib_uverbs_advise_mr_advice advice)
{
	if (offset > umem->length || length > umem->length - offset)
		return -EFAULT;
	if (advice == IB_UVERBS_ADVISE_MR_ADVICE_PREFETCH_WRITE &&
	    !READ_ONCE(umem->writable))
		return -EPERM;
	if (READ_ONCE(umem->state) == PFN_MR_STATE_REVOKED)
		return -ENODEV;
	return 0;
}
EXPORT_SYMBOL_NS_GPL(ib_umem_pfn_check_prefetch, "IB_UMEM_PFN");

/**
 * ib_umem_pfn_prefetch - map now what would otherwise fault later
 * @umem: the umem
 * @offset: of the bytes that will be accessed, from the start of the umem
 * @length: how many; a umem is mapped as a whole, so this is only checked
 * @advice: what the user said; %IB_UVERBS_ADVISE_MR_ADVICE_PREFETCH_NO_FAULT
 *	waits for nobody and may do nothing
 *
 * Context: process context, may sleep.
 * Return: 0; the errors of ib_umem_pfn_check_prefetch(); -ETIMEDOUT if the
 * exporter doesn't finish a move; -EINTR, -ERESTARTSYS, -ENOMEM or the
 * exporter's error.
 */
int ib_umem_pfn_prefetch(struct ib_umem_pfn *umem, u64 offset, u64 length,
			 enum ib_uverbs_advise_mr_advice advice)
{
	int err;

	err = ib_umem_pfn_check_prefetch(umem, offset, length, advice);
	if (err)
		return err;

	if (advice == IB_UVERBS_ADVISE_MR_ADVICE_PREFETCH_NO_FAULT)
		return umem_prefetch_at_once(umem);
	return umem_prefetch_settled(umem);
}
EXPORT_SYMBOL_NS_GPL(ib_umem_pfn_prefetch, "IB_UMEM_PFN");

static int umem_enter_unchecked(struct ib_umem_pfn *umem, bool write)
{
	int err;

	if (unlikely(umem->no_cpu))
		return -EOPNOTSUPP;

	down_read(&umem->lock);
	if (unlikely(umem->state != PFN_MR_STATE_PRESENT)) {
		bool revoked = umem->state == PFN_MR_STATE_REVOKED;

		up_read(&umem->lock);
		err = revoked ? -ENODEV : umem_fault(umem);
		if (err)
			return err;
	}
	if (unlikely(write && !umem->writable)) {
		up_read(&umem->lock);
		return -EACCES;
	}
	return 0;
}

/*
 * Begin an access to @length bytes at @offset. Returns 0 with umem->lock held
 * for reading: until umem_leave() the memory stays where it is.
 */
static int umem_enter(struct ib_umem_pfn *umem, u64 offset, size_t length,
		      bool write)
{
	unsigned int delay;
	int err = -EINVAL;

	if (likely(offset <= umem->length && length <= umem->length - offset))
		err = umem_enter_unchecked(umem, write);
	if (unlikely(err)) {
		trace_ib_umem_pfn_access_error(umem, umem_ino(umem), offset,
					       length, write, err);
		return err;
	}

	delay = READ_ONCE(test_access_delay_us);
	if (unlikely(delay))
		fsleep(delay);
	return 0;
}

static void umem_leave(struct ib_umem_pfn *umem)
{
	up_read(&umem->lock);
}

/*
 * The range used last: index and first page in one word, so that concurrent
 * accesses read either an old or a new pair and never a mix.
 */
VISIBLE_IF_KUNIT u64 hint_pack(size_t index, u64 start)
{
	u64 page = start >> PAGE_SHIFT;

	/* 16 TiB and 4 Gi ranges; beyond, the search does without a hint. */
	if (index > U32_MAX || page > U32_MAX)
		return 0;
	return (u64)index << 32 | page;
}
EXPORT_SYMBOL_IF_KUNIT(hint_pack);

/* Find the range that holds byte @pos of the dma-buf. */
static size_t umem_seek(const struct ib_umem_pfn *umem, u64 pos, u64 *start)
{
	const struct dma_buf_pfn_lend *lend = &umem->loan->lend;
	u64 hint = READ_ONCE(umem->hint);
	size_t i = hint >> 32;

	*start = (hint & U32_MAX) << PAGE_SHIFT;
	if (pos >= *start) {
		if (pos - *start < lend->vec[i].len)
			return i;
		/* Streams go on in the range that follows. */
		if (i + 1 < lend->nr) {
			*start += lend->vec[i++].len;
			if (pos >= *start && pos - *start < lend->vec[i].len)
				return i;
		}
	}
	return dma_buf_pfn_loan_find(umem->loan, pos, start);
}

/* RAM in the direct map: one memcpy per physical range. */
static void umem_copy_ram(struct ib_umem_pfn *umem, u64 pos, void *buf,
			  size_t length, bool to_umem)
{
	const struct phys_vec *vec = umem->loan->lend.vec;
	u64 start;
	size_t i = umem_seek(umem, pos, &start);

	for (;;) {
		size_t in = pos - start;
		size_t n = min(length, vec[i].len - in);
		void *va = phys_to_virt(vec[i].paddr + in);

		if (to_umem)
			memcpy(va, buf, n);
		else
			memcpy(buf, va, n);

		length -= n;
		if (!length)
			break;
		buf += n;
		pos += n;
		start += vec[i++].len;
	}
	WRITE_ONCE(umem->hint, hint_pack(i, start));
}

/*
 * Out of this CPU's write-combining buffer: what acknowledges the data may be
 * sent, and the data read, by any other CPU.
 */
static void umem_drain_wc(void)
{
	wmb(); /* orders write-combined stores before everything after */
}

/* Not write-back cached: the loan's kernel mapping is contiguous. */
static void umem_copy_io(struct ib_umem_pfn *umem, u64 pos, void *buf,
			 size_t length, bool to_umem)
{
	void __iomem *va = (__force void __iomem *)umem->kva + pos;

	if (to_umem) {
		memcpy_toio(va, buf, length);
		umem_drain_wc();
	} else {
		memcpy_fromio(buf, va, length);
	}
}

/* An exporter's kernel mapping of RAM may be write-combining and not say so. */
static bool umem_may_combine(const struct ib_umem_pfn *umem)
{
	return umem->loan->lend.kind == DMA_BUF_PFN_VMAP;
}

/* Memory that takes the io accessors, and no atomic instructions. */
static bool umem_is_io(const struct ib_umem_pfn *umem)
{
	const struct dma_buf_pfn_lend *lend = &umem->loan->lend;

	return lend->kind == DMA_BUF_PFN_MMIO ||
	       lend->caching != DMA_BUF_PFN_WB;
}

static void umem_copy(struct ib_umem_pfn *umem, u64 offset, void *buf,
		      size_t length, bool to_umem)
{
	u64 pos = umem->offset + offset;

	if (!umem->kva)
		umem_copy_ram(umem, pos, buf, length, to_umem);
	else if (umem_is_io(umem))
		umem_copy_io(umem, pos, buf, length, to_umem);
	else if (to_umem)
		memcpy(umem->kva + pos, buf, length);
	else
		memcpy(buf, umem->kva + pos, length);
	if (to_umem && umem_may_combine(umem))
		umem_drain_wc();
}

/**
 * ib_umem_pfn_copy_to - write into the umem with the CPU
 * @umem: the umem
 * @offset: where to, bytes from the start of the umem
 * @src: what
 * @length: how much, bytes
 *
 * Visible to all CPUs and devices that look after this has returned.
 *
 * Context: process context, may sleep (to map the umem after a move).
 * Return: 0; -EINVAL outside of the umem; -EACCES if it is not writable;
 * -ENODEV once revoked; -ETIMEDOUT if the exporter doesn't finish a move;
 * -ENOMEM or the exporter's error. Nothing has been written on failure.
 */
int ib_umem_pfn_copy_to(struct ib_umem_pfn *umem, u64 offset,
			const void *src, size_t length)
{
	int err;

	if (!length)
		return 0;
	err = umem_enter(umem, offset, length, true);
	if (err)
		return err;
	umem_copy(umem, offset, (void *)src, length, true);
	umem_leave(umem);
	atomic64_add(length, &umem->bytes_written);
	return 0;
}
EXPORT_SYMBOL_NS_GPL(ib_umem_pfn_copy_to, "IB_UMEM_PFN");

/**
 * ib_umem_pfn_copy_from - read from the umem with the CPU
 * @umem: the umem
 * @offset: where from, bytes from the start of the umem
 * @dst: where to
 * @length: how much, bytes
 *
 * Context and errors as for ib_umem_pfn_copy_to().
 */
int ib_umem_pfn_copy_from(struct ib_umem_pfn *umem, u64 offset,
			  void *dst, size_t length)
{
	int err;

	if (!length)
		return 0;
	err = umem_enter(umem, offset, length, false);
	if (err)
		return err;
	umem_copy(umem, offset, dst, length, false);
	umem_leave(umem);
	atomic64_add(length, &umem->bytes_read);
	return 0;
}
EXPORT_SYMBOL_NS_GPL(ib_umem_pfn_copy_from, "IB_UMEM_PFN");

/* Address of 8 aligned bytes; they cannot straddle two ranges. */
static void *umem_word(struct ib_umem_pfn *umem, u64 offset)
{
	u64 pos = umem->offset + offset;
	u64 start;
	size_t i;

	if (umem->kva)
		return umem->kva + pos;
	i = umem_seek(umem, pos, &start);
	return phys_to_virt(umem->loan->lend.vec[i].paddr + (pos - start));
}

/* Returns the address, to be followed by umem_leave_word(), or ERR_PTR(). */
static void *umem_enter_word(struct ib_umem_pfn *umem, u64 offset)
{
	int err;

	if ((umem->offset + offset) % sizeof(u64))
		return ERR_PTR(-EINVAL);
	err = umem_enter(umem, offset, sizeof(u64), true);
	return err ? ERR_PTR(err) : umem_word(umem, offset);
}

static void umem_leave_word(struct ib_umem_pfn *umem, bool read)
{
	if (umem_is_io(umem) || umem_may_combine(umem))
		umem_drain_wc();
	umem_leave(umem);
	atomic64_add(sizeof(u64), &umem->bytes_written);
	if (read)
		atomic64_add(sizeof(u64), &umem->bytes_read);
}

/* No CPU can do an atomic operation on a bus: one at a time, then. */
static DEFINE_SPINLOCK(io_atomic_lock);

/**
 * ib_umem_pfn_fetch_add - atomically add to 8 bytes of the umem
 * @umem: the umem
 * @offset: bytes from the start of the umem; naturally aligned in the dma-buf
 * @add: what to add, host byte order
 * @orig: set to the value before
 *
 * On RAM this is atomic with everything the CPUs do, on MMIO with other atomic
 * operations and stores through any ib_umem_pfn.
 *
 * Context and errors as for ib_umem_pfn_copy_to(), and -EINVAL if misaligned.
 */
int ib_umem_pfn_fetch_add(struct ib_umem_pfn *umem, u64 offset, u64 add,
			  u64 *orig)
{
	void *va = umem_enter_word(umem, offset);

	if (IS_ERR(va))
		return PTR_ERR(va);
	if (umem_is_io(umem)) {
		void __iomem *io = (__force void __iomem *)va;

		spin_lock(&io_atomic_lock);
		*orig = readq(io);
		writeq(*orig + add, io);
		spin_unlock(&io_atomic_lock);
	} else {
		*orig = READ_ONCE(*(u64 *)va);
		while (!try_cmpxchg64((u64 *)va, orig, *orig + add))
			;
	}
	umem_leave_word(umem, true);
	return 0;
}
EXPORT_SYMBOL_NS_GPL(ib_umem_pfn_fetch_add, "IB_UMEM_PFN");

/**
 * ib_umem_pfn_cmp_swap - atomically compare and swap 8 bytes of the umem
 * @umem: the umem
 * @offset: bytes from the start of the umem; naturally aligned in the dma-buf
 * @compare: replace only this, host byte order
 * @swap: by this
 * @orig: set to the value before
 *
 * Atomicity, context and errors as for ib_umem_pfn_fetch_add().
 */
int ib_umem_pfn_cmp_swap(struct ib_umem_pfn *umem, u64 offset, u64 compare,
			 u64 swap, u64 *orig)
{
	void *va = umem_enter_word(umem, offset);

	if (IS_ERR(va))
		return PTR_ERR(va);
	if (umem_is_io(umem)) {
		void __iomem *io = (__force void __iomem *)va;

		spin_lock(&io_atomic_lock);
		*orig = readq(io);
		if (*orig == compare)
			writeq(swap, io);
		spin_unlock(&io_atomic_lock);
	} else {
		*orig = cmpxchg64((u64 *)va, compare, swap);
	}
	umem_leave_word(umem, true);
	return 0;
}
EXPORT_SYMBOL_NS_GPL(ib_umem_pfn_cmp_swap, "IB_UMEM_PFN");

/**
 * ib_umem_pfn_store - write 8 bytes of the umem in one go
 * @umem: the umem
 * @offset: bytes from the start of the umem; naturally aligned in the dma-buf
 * @value: what, host byte order
 *
 * Ordered after everything the caller has written before. Context and errors as
 * for ib_umem_pfn_fetch_add().
 */
int ib_umem_pfn_store(struct ib_umem_pfn *umem, u64 offset, u64 value)
{
	void *va = umem_enter_word(umem, offset);

	if (IS_ERR(va))
		return PTR_ERR(va);
	if (umem_is_io(umem)) {
		spin_lock(&io_atomic_lock);
		writeq(value, (__force void __iomem *)va);
		spin_unlock(&io_atomic_lock);
	} else {
		/* after everything that the caller has written before */
		smp_store_release((u64 *)va, value);
	}
	umem_leave_word(umem, false);
	return 0;
}
EXPORT_SYMBOL_NS_GPL(ib_umem_pfn_store, "IB_UMEM_PFN");

/* Only a test has a bridge built to somebody who lends. */
static enum pfn_mr_because umem_because(const struct ib_umem_pfn *umem)
{
	if (umem->attach->backend == DMA_BUF_PFN_BACKEND_RANGES)
		return PFN_MR_BECAUSE_LENDS;
	if (dma_buf_is_pfn(umem->dmabuf))
		return PFN_MR_BECAUSE_TEST;
	if (umem->attach->backend == DMA_BUF_PFN_BACKEND_VMAP)
		return PFN_MR_BECAUSE_NO_RANGES;
	return PFN_MR_BECAUSE_NO_VMAP;
}

/**
 * ib_umem_pfn_query - state and counters
 * @umem: the umem
 * @info: filled in; the state and what counts its changes are of one moment
 *
 * Context: process context, may sleep.
 */
void ib_umem_pfn_query(struct ib_umem_pfn *umem, struct pfn_mr_info *info)
{
	static const enum pfn_mr_mode modes[] = {
		[DMA_BUF_PFN_PINNED] = PFN_MR_MODE_PINNED,
		[DMA_BUF_PFN_REVOCABLE] = PFN_MR_MODE_REVOCABLE,
		[DMA_BUF_PFN_DYNAMIC] = PFN_MR_MODE_DYNAMIC,
	};
	static const enum pfn_mr_backend backends[] = {
		[DMA_BUF_PFN_BACKEND_RANGES] = PFN_MR_BACKEND_PFN,
		[DMA_BUF_PFN_BACKEND_VMAP] = PFN_MR_BACKEND_VMAP,
		[DMA_BUF_PFN_BACKEND_P2P] = PFN_MR_BACKEND_P2P,
	};

	*info = (struct pfn_mr_info) {
		.mode = modes[umem->attach->mode],
		.backend = backends[umem->attach->backend],
		.metadata_bytes = kmalloc_size_roundup(sizeof(*umem)) +
			dma_buf_pfn_attachment_bytes(umem->attach),
		.bytes_read = atomic64_read(&umem->bytes_read),
		.bytes_written = atomic64_read(&umem->bytes_written),
		.dmabuf_ino = umem_ino(umem),
		.offset = umem->offset,
		.because = umem_because(umem),
	};

	down_read(&umem->lock);
	info->state = umem->state;
	info->generation = umem->generation;
	info->faults = umem->faults;
	info->invalidations = umem->invalidations;
	info->prefetches = umem->prefetches;
	if (umem->state == PFN_MR_STATE_PRESENT) {
		info->ranges = umem->loan->lend.nr;
		info->mmio = umem->loan->lend.kind == DMA_BUF_PFN_MMIO ||
			     (umem->loan->lend.kind == DMA_BUF_PFN_VMAP &&
			      umem_is_io(umem));
		info->page_size = umem->loan->page_size;
	}
	up_read(&umem->lock);
}
EXPORT_SYMBOL_NS_GPL(ib_umem_pfn_query, "IB_UMEM_PFN");

/**
 * ib_umem_pfn_exporter - name of the exporter, as debugfs and fdinfo have it
 * @umem: the umem
 *
 * Return: a string that lives as long as @umem.
 */
const char *ib_umem_pfn_exporter(const struct ib_umem_pfn *umem)
{
	return umem->dmabuf->exp_name;
}
EXPORT_SYMBOL_NS_GPL(ib_umem_pfn_exporter, "IB_UMEM_PFN");

static int __init umem_init(void)
{
	return umem_va_init();
}
module_init(umem_init);

static void __exit umem_exit(void)
{
	/* Without this the module could not be unloaded. */
}
module_exit(umem_exit);

MODULE_DESCRIPTION("RDMA memory regions on dma-bufs by physical ranges");
MODULE_AUTHOR("umem-pfn");
MODULE_LICENSE("Dual BSD/GPL");
MODULE_IMPORT_NS("DMA_BUF");
MODULE_IMPORT_NS("DMA_BUF_PFN");
