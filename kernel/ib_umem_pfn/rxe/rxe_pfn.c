// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * pfn MRs on soft-RoCE: registration, the data path's access to their memory,
 * advise_mr, and what there is to ask: the query methods and rdma netlink.
 * Everything about the memory itself is ib_umem_pfn's.
 *
 * All of the data path runs in rxe's work queue, or in the process that tears a
 * QP down, without a spinlock held: an access may sleep to map the memory after
 * the exporter has moved it.
 */
#include <rdma/ib_umem_pfn.h>
#include <rdma/pfn_mr_abi.h>
#include <rdma/restrack.h>
#include <rdma/uverbs_ioctl.h>
#include <rdma/uverbs_std_types.h>

#include "rxe.h"
#include "rxe_loc.h"

#define UVERBS_MODULE_NAME rxe_pfn
#include <rdma/uverbs_named_ioctl.h>

/* What uverbs lets through when a dma-buf is registered ... */
#define RXE_PFN_ACCESS_REG	(IB_ACCESS_LOCAL_WRITE | \
				 IB_ACCESS_REMOTE_READ | \
				 IB_ACCESS_REMOTE_WRITE | \
				 IB_ACCESS_REMOTE_ATOMIC | \
				 IB_ACCESS_RELAXED_ORDERING)
/* ... and what a dma-buf can have at all. */
#define RXE_PFN_ACCESS_REREG	(RXE_ACCESS_SUPPORTED_MR & \
				 ~(IB_ACCESS_ON_DEMAND | \
				   IB_ACCESS_FLUSH_PERSISTENT))

static bool transparent_dmabuf = true;
module_param(transparent_dmabuf, bool, 0644);
MODULE_PARM_DESC(transparent_dmabuf,
		 "ibv_reg_mr() on a mapping of a dma-buf registers the dma-buf (default: yes)");

static int rxe_pfn_get_attrs(struct uverbs_attr_bundle *attrs,
			     struct ib_umem_pfn_attr *attr)
{
	u64 mode;
	int err;

	err = uverbs_get_const_default(&mode, attrs,
				       PFN_MR_ATTR_REG_DMABUF_MODE,
				       PFN_MR_MODE_DEFAULT);
	if (err)
		return err;
	if (mode > PFN_MR_MODE_DYNAMIC) {
		attr->reason = "there is no such mode";
		return -EINVAL;
	}
	attr->mode = mode;

	if (!uverbs_attr_is_valid(attrs, PFN_MR_ATTR_REG_DMABUF_EVENTFD))
		return 0;
	err = uverbs_get_raw_fd(&attr->eventfd, attrs,
				PFN_MR_ATTR_REG_DMABUF_EVENTFD);
	if (err)
		return err;
	return attr->eventfd < 0 ? -EBADF : 0;
}

/* Tell the user, if there is more to tell than an errno does; @attrs may be NULL. */
static int rxe_pfn_explain(struct rxe_dev *rxe,
			   const struct ib_umem_pfn_attr *attr,
			   struct uverbs_attr_bundle *attrs, int err)
{
	char reason[PFN_MR_REASON_MAX];

	ibdev_dbg_ratelimited(&rxe->ib_dev,
			      "cannot register dma-buf fd %d offset %llu length %llu access %#x mode %u: %pe %s\n",
			      attr->fd, attr->offset, attr->length,
			      attr->access, attr->mode, ERR_PTR(err),
			      attr->reason ?: "");

	if (attr->reason && attrs &&
	    uverbs_attr_is_valid(attrs, PFN_MR_ATTR_REG_DMABUF_REASON)) {
		int room = uverbs_attr_get_len(attrs,
					       PFN_MR_ATTR_REG_DMABUF_REASON);

		if (room > 0) {
			room = min_t(int, room, sizeof(reason));
			strscpy(reason, attr->reason, room);
			/* A failure to tell why is no news. */
			if (uverbs_copy_to(attrs, PFN_MR_ATTR_REG_DMABUF_REASON,
					   reason, strlen(reason) + 1))
				return err;
		}
	}
	return err;
}

static void rxe_pfn_mr_set(struct rxe_mr *mr, u64 iova, u64 length,
			   struct ib_umem_pfn *umem)
{
	mr->pfn = umem;
	mr->ibmr.iova = iova;
	mr->ibmr.length = length;
	mr->ibmr.type = IB_MR_TYPE_USER;
	mr->state = RXE_MR_STATE_VALID;
}

static int rxe_pfn_mr_init(struct rxe_dev *rxe, struct rxe_mr *mr, u64 iova,
			   struct ib_umem_pfn_attr *attr)
{
	struct ib_umem_pfn *umem;

	rxe_mr_init(attr->access, mr);

	umem = ib_umem_pfn_get(&rxe->ib_dev, attr);
	if (IS_ERR(umem))
		return PTR_ERR(umem);

	rxe_pfn_mr_set(mr, iova, attr->length, umem);
	return 0;
}

/* As rxe_pfn_mr_init_user(), if it is a dma-buf; returns 1 if it is not. */
static int rxe_pfn_mr_init_va(struct rxe_dev *rxe, u64 start, u64 length,
			      u64 iova, int access, struct rxe_mr *mr,
			      struct uverbs_attr_bundle *attrs)
{
	struct ib_umem_pfn_attr attr = {
		.length = length,
		.access = access,
		.eventfd = -1,
	};
	struct ib_umem_pfn *umem;
	u64 end;
	int err;

	err = attrs ? rxe_pfn_get_attrs(attrs, &attr) : 0;
	if (err)
		goto err_explain;
	umem = ib_umem_pfn_get_va(&rxe->ib_dev, start, &attr);
	if (!umem)
		return 1;
	if (IS_ERR(umem)) {
		err = PTR_ERR(umem);
		goto err_explain;
	}
	if (check_add_overflow(iova, length, &end)) {
		attr.reason = "iova and length wrap around";
		err = -EINVAL;
		goto err_release;
	}

	rxe_mr_init(access, mr);
	rxe_pfn_mr_set(mr, iova, length, umem);
	return 0;

err_release:
	ib_umem_pfn_release(umem);
err_explain:
	return rxe_pfn_explain(rxe, &attr, attrs, err);
}

/**
 * rxe_pfn_mr_init_user - the memory of an MR that was registered by address
 * @rxe: the device
 * @start: address in the current process
 * @length: bytes
 * @iova: address that peers use for the first byte
 * @access: mask of &enum ib_access_flags, not for paging on demand
 * @mr: the MR, in its pool
 * @udata: of the call; may carry what &enum pfn_mr_attrs_reg_dmabuf has; or NULL
 *
 * In place of rxe_mr_init_user(), which gets all that is not a dma-buf's.
 *
 * Return: 0, or an errno of rxe_mr_init_user() or ib_umem_pfn_get_va(), or -EINVAL
 * if iova and length wrap around.
 */
int rxe_pfn_mr_init_user(struct rxe_dev *rxe, u64 start, u64 length, u64 iova,
			 int access, struct rxe_mr *mr, struct ib_udata *udata)
{
	struct uverbs_attr_bundle *attrs =
		udata ? rdma_udata_to_uverbs_attr_bundle(udata) : NULL;
	int err;

	if (READ_ONCE(transparent_dmabuf) &&
	    !ib_umem_pfn_va_is_ordinary(start)) {
		err = rxe_pfn_mr_init_va(rxe, start, length, iova, access, mr,
					 attrs);
		if (err <= 0)
			return err;
	}
	return rxe_mr_init_user(rxe, start, length, access, mr);
}

/**
 * rxe_pfn_reg_user_mr - &ib_device_ops.reg_user_mr_dmabuf
 * @ibpd: protection domain
 * @offset: of the MR in the dma-buf, bytes
 * @length: of the MR, bytes
 * @iova: address that peers use for its first byte
 * @fd: the dma-buf
 * @access: mask of &enum ib_access_flags
 * @dmah: DMA handle, which soft-RoCE has no use for: must be NULL
 * @attrs: may carry what &enum pfn_mr_attrs_reg_dmabuf has
 *
 * Return: the MR, or ERR_PTR() of what ib_umem_pfn_get() returns, -EOPNOTSUPP
 * for a DMA handle or access flags that rxe doesn't know, -EINVAL if iova and
 * length wrap around.
 */
struct ib_mr *rxe_pfn_reg_user_mr(struct ib_pd *ibpd, u64 offset, u64 length,
				  u64 iova, int fd, int access,
				  struct ib_dmah *dmah,
				  struct uverbs_attr_bundle *attrs)
{
	struct rxe_dev *rxe = to_rdev(ibpd->device);
	struct ib_umem_pfn_attr attr = {
		.fd = fd,
		.offset = offset,
		.length = length,
		.access = access,
		.eventfd = -1,
	};
	struct rxe_pd *pd = to_rpd(ibpd);
	struct rxe_mr *mr;
	u64 end;
	int err;

	if (dmah || (access & ~RXE_ACCESS_SUPPORTED_MR)) {
		attr.reason = "soft-RoCE does not know these access flags, or DMA handles";
		err = -EOPNOTSUPP;
		goto err_explain;
	}
	if (check_add_overflow(iova, length, &end)) {
		attr.reason = "iova and length wrap around";
		err = -EINVAL;
		goto err_explain;
	}
	err = rxe_pfn_get_attrs(attrs, &attr);
	if (err)
		goto err_explain;

	mr = kzalloc_obj(*mr);
	if (!mr)
		return ERR_PTR(-ENOMEM);

	err = rxe_add_to_pool(&rxe->mr_pool, mr);
	if (err)
		goto err_free;

	rxe_get(pd);
	mr->ibmr.pd = ibpd;
	mr->ibmr.device = ibpd->device;

	err = rxe_pfn_mr_init(rxe, mr, iova, &attr);
	if (err)
		goto err_cleanup;

	rxe_finalize(mr);
	return &mr->ibmr;

err_cleanup:
	rxe_cleanup(mr);
err_free:
	kfree(mr);
err_explain:
	return ERR_PTR(rxe_pfn_explain(rxe, &attr, attrs, err));
}

/**
 * rxe_pfn_mr_copy - the data path's copy into or out of a pfn MR
 * @mr: the MR
 * @iova: address in the MR
 * @addr: kernel memory
 * @length: bytes, at most one packet
 * @dir: which way
 *
 * Return: 0 or -EFAULT, of which rxe makes a protection error of the side that
 * owns @mr.
 */
int rxe_pfn_mr_copy(struct rxe_mr *mr, u64 iova, void *addr,
		    unsigned int length, enum rxe_mr_copy_dir dir)
{
	u64 offset = iova - mr->ibmr.iova;
	int err;

	if (dir == RXE_TO_MR_OBJ)
		err = ib_umem_pfn_copy_to(mr->pfn, offset, addr, length);
	else
		err = ib_umem_pfn_copy_from(mr->pfn, offset, addr, length);
	if (unlikely(err)) {
		rxe_dbg_mr(mr, "pfn copy of %u bytes at %#llx failed: %pe\n",
			   length, iova, ERR_PTR(err));
		return -EFAULT;
	}
	return 0;
}

/* An address that atomics of 8 bytes can be done on? */
static enum resp_states rxe_pfn_check_word(struct rxe_mr *mr, u64 iova)
{
	if (mr_check_range(mr, iova, sizeof(u64)))
		return RESPST_ERR_RKEY_VIOLATION;
	if (iova % sizeof(u64)) {
		rxe_dbg_mr(mr, "iova not aligned\n");
		return RESPST_ERR_MISALIGNED_ATOMIC;
	}
	return RESPST_NONE;
}

/**
 * rxe_pfn_do_atomic_op - fetch-and-add or compare-and-swap on a pfn MR
 * @mr: the MR
 * @iova: address in the MR
 * @opcode: IB_OPCODE_RC_COMPARE_SWAP or IB_OPCODE_RC_FETCH_ADD
 * @compare: for compare-and-swap
 * @swap_add: what to swap in or add
 * @orig_val: set to the value before
 *
 * No need for rxe's atomic_ops_lock: ib_umem_pfn makes it atomic, on RAM even with
 * the CPUs.
 *
 * Return: RESPST_NONE, or the responder state for what is wrong.
 */
enum resp_states rxe_pfn_do_atomic_op(struct rxe_mr *mr, u64 iova, int opcode,
				      u64 compare, u64 swap_add, u64 *orig_val)
{
	u64 offset = iova - mr->ibmr.iova;
	enum resp_states state;
	int err;

	state = rxe_pfn_check_word(mr, iova);
	if (state != RESPST_NONE)
		return state;

	if (opcode == IB_OPCODE_RC_COMPARE_SWAP)
		err = ib_umem_pfn_cmp_swap(mr->pfn, offset, compare, swap_add,
					   orig_val);
	else
		err = ib_umem_pfn_fetch_add(mr->pfn, offset, swap_add,
					    orig_val);
	return err ? RESPST_ERR_RKEY_VIOLATION : RESPST_NONE;
}

/**
 * rxe_pfn_do_atomic_write - ATOMIC_WRITE on a pfn MR
 * @mr: the MR
 * @iova: address in the MR
 * @value: 8 bytes
 *
 * Return: RESPST_NONE, or the responder state for what is wrong.
 */
enum resp_states rxe_pfn_do_atomic_write(struct rxe_mr *mr, u64 iova, u64 value)
{
	enum resp_states state;

	state = rxe_pfn_check_word(mr, iova);
	if (state != RESPST_NONE)
		return state;
	if (ib_umem_pfn_store(mr->pfn, iova - mr->ibmr.iova, value))
		return RESPST_ERR_RKEY_VIOLATION;
	return RESPST_NONE;
}

/**
 * rxe_pfn_check_flush - may a peer be told that what it wrote is visible?
 * @mr: the MR
 *
 * Return: 0, or -ENODEV if the memory has been revoked, and the data with it.
 */
int rxe_pfn_check_flush(struct rxe_mr *mr)
{
	/* of no bytes: only whether there is anything */
	return ib_umem_pfn_check_prefetch(mr->pfn, 0, 0,
					  IB_UVERBS_ADVISE_MR_ADVICE_PREFETCH);
}

/**
 * rxe_pfn_rereg_access - may this pfn MR get these access rights?
 * @mr: the MR
 * @access: the new rights
 *
 * Return: 0, or the error of ib_umem_pfn_change_access().
 */
int rxe_pfn_rereg_access(struct rxe_mr *mr, int access)
{
	return ib_umem_pfn_change_access(mr->pfn, access);
}

static int rxe_pfn_prefetch(struct rxe_mr *mr, u64 addr, u64 length,
			    enum ib_uverbs_advise_mr_advice advice)
{
	/* An address below the MR wraps around to far above it. */
	return ib_umem_pfn_prefetch(mr->pfn, addr - mr->ibmr.iova, length,
				    advice);
}

/**
 * struct rxe_pfn_prefetch_work - an asynchronous prefetch
 * @work: does it
 * @mr: of what; a reference is held
 * @addr: first byte, an address in @mr
 * @length: bytes
 * @advice: what the user said
 */
struct rxe_pfn_prefetch_work {
	struct work_struct work;
	struct rxe_mr *mr;
	u64 addr;
	u64 length;
	enum ib_uverbs_advise_mr_advice advice;
};

static void rxe_pfn_prefetch_work(struct work_struct *w)
{
	struct rxe_pfn_prefetch_work *work =
		container_of(w, typeof(*work), work);

	/* Nobody waits for the result: the next access will see. */
	rxe_pfn_prefetch(work->mr, work->addr, work->length, work->advice);
	rxe_put(work->mr);
	kfree(work);
}

/* Takes over the caller's reference on @mr, if it succeeds. */
static int rxe_pfn_prefetch_async(struct rxe_mr *mr, const struct ib_sge *sge,
				  enum ib_uverbs_advise_mr_advice advice)
{
	struct rxe_pfn_prefetch_work *work;

	work = kmalloc_obj(*work);
	if (!work)
		return -ENOMEM;
	INIT_WORK(&work->work, rxe_pfn_prefetch_work);
	work->mr = mr;
	work->addr = sge->addr;
	work->length = sge->length;
	work->advice = advice;
	queue_work(rxe_wq, &work->work);
	return 0;
}

static int rxe_pfn_advise_one(struct ib_pd *ibpd,
			      enum ib_uverbs_advise_mr_advice advice, u32 flags,
			      struct ib_sge *sge,
			      struct uverbs_attr_bundle *attrs)
{
	struct rxe_mr *mr;
	int err;

	mr = lookup_mr(to_rpd(ibpd), 0, sge->lkey, RXE_LOOKUP_LOCAL);
	if (!mr)
		return -ENOENT;
	if (!mr->pfn) {
		rxe_put(mr);
		return rxe_ib_advise_mr(ibpd, advice, flags, sge, 1, attrs);
	}

	if (flags & IB_UVERBS_ADVISE_MR_FLAG_FLUSH) {
		err = rxe_pfn_prefetch(mr, sge->addr, sge->length, advice);
	} else {
		/* Wrong arguments are told at once. */
		err = ib_umem_pfn_check_prefetch(mr->pfn,
						 sge->addr - mr->ibmr.iova,
						 sge->length, advice);
		if (!err)
			err = rxe_pfn_prefetch_async(mr, sge, advice);
		if (!err)
			return 0;
	}
	rxe_put(mr);
	return err;
}

/**
 * rxe_pfn_advise_mr - &ib_device_ops.advise_mr
 * @ibpd: protection domain
 * @advice: one of the three prefetches
 * @flags: %IB_UVERBS_ADVISE_MR_FLAG_FLUSH: return when it is done
 * @sg_list: what to prefetch, of pfn and ODP MRs in any order
 * @num_sge: entries of @sg_list
 * @attrs: passed on
 *
 * Stops at the first error. An advice that is not synchronous does as much as
 * it can and tells only about wrong arguments.
 *
 * Return: 0; -EOPNOTSUPP for another advice, or an MR with nothing to prefetch;
 * -ENOENT if an lkey is unknown or belongs to another PD; otherwise as
 * ib_umem_pfn_prefetch() or rxe_ib_advise_mr().
 */
int rxe_pfn_advise_mr(struct ib_pd *ibpd, enum ib_uverbs_advise_mr_advice advice,
		      u32 flags, struct ib_sge *sg_list, u32 num_sge,
		      struct uverbs_attr_bundle *attrs)
{
	int err;
	u32 i;

	if (advice != IB_UVERBS_ADVISE_MR_ADVICE_PREFETCH &&
	    advice != IB_UVERBS_ADVISE_MR_ADVICE_PREFETCH_WRITE &&
	    advice != IB_UVERBS_ADVISE_MR_ADVICE_PREFETCH_NO_FAULT)
		return -EOPNOTSUPP;

	for (i = 0; i < num_sge; i++) {
		err = rxe_pfn_advise_one(ibpd, advice, flags, &sg_list[i],
					 attrs);
		if (err)
			return err;
	}
	return 0;
}

static const char *rxe_pfn_mode_name(u32 mode)
{
	switch (mode) {
	case PFN_MR_MODE_PINNED:
		return "pinned";
	case PFN_MR_MODE_REVOCABLE:
		return "revocable";
	case PFN_MR_MODE_DYNAMIC:
		return "dynamic";
	}
	return "unknown";
}

static const char *rxe_pfn_state_name(u32 state)
{
	switch (state) {
	case PFN_MR_STATE_ABSENT:
		return "absent";
	case PFN_MR_STATE_PRESENT:
		return "present";
	case PFN_MR_STATE_REVOKED:
		return "revoked";
	}
	return "unknown";
}

static const char *rxe_pfn_backend_name(u32 backend)
{
	switch (backend) {
	case PFN_MR_BACKEND_PFN:
		return "pfn";
	case PFN_MR_BACKEND_VMAP:
		return "vmap";
	case PFN_MR_BACKEND_P2P:
		return "p2p";
	}
	return "unknown";
}

static const char *rxe_pfn_because(u32 because)
{
	switch (because) {
	case PFN_MR_BECAUSE_LENDS:
		return "exporter lends ranges";
	case PFN_MR_BECAUSE_NO_RANGES:
		return "exporter lends no ranges, maps for the kernel";
	case PFN_MR_BECAUSE_NO_VMAP:
		return "exporter lends no ranges, has no kernel mapping, tells bus addresses";
	case PFN_MR_BECAUSE_TEST:
		return "exporter lends ranges, but test_bridge_lenders is set";
	}
	return "unknown";
}

/**
 * rxe_pfn_fill_res_mr_entry - &ib_device_ops.fill_res_mr_entry
 * @msg: netlink message of "rdma -dd resource show mr"
 * @ibmr: any MR
 *
 * Return: 0, or -EMSGSIZE.
 */
int rxe_pfn_fill_res_mr_entry(struct sk_buff *msg, struct ib_mr *ibmr)
{
	struct rxe_mr *mr = to_rmr(ibmr);
	struct pfn_mr_info info;
	struct nlattr *table;

	if (!mr->pfn)
		return 0;
	ib_umem_pfn_query(mr->pfn, &info);

	table = nla_nest_start(msg, RDMA_NLDEV_ATTR_DRIVER);
	if (!table)
		return -EMSGSIZE;
	if (rdma_nl_put_driver_string(msg, "mode", rxe_pfn_mode_name(info.mode)) ||
	    rdma_nl_put_driver_string(msg, "state",
				      rxe_pfn_state_name(info.state)) ||
	    rdma_nl_put_driver_string(msg, "backend",
				      rxe_pfn_backend_name(info.backend)) ||
	    rdma_nl_put_driver_string(msg, "reason",
				      rxe_pfn_because(info.because)) ||
	    rdma_nl_put_driver_string(msg, "exporter",
				      ib_umem_pfn_exporter(mr->pfn)) ||
	    rdma_nl_put_driver_u64(msg, "ranges", info.ranges) ||
	    rdma_nl_put_driver_u64(msg, "metadata_bytes", info.metadata_bytes) ||
	    rdma_nl_put_driver_u64(msg, "dmabuf", info.dmabuf_ino) ||
	    rdma_nl_put_driver_u64(msg, "offset", info.offset)) {
		nla_nest_cancel(msg, table);
		return -EMSGSIZE;
	}
	nla_nest_end(msg, table);
	return 0;
}

/**
 * rxe_pfn_fill_stat_mr_entry - &ib_device_ops.fill_stat_mr_entry
 * @msg: netlink message of "rdma statistic show mr"
 * @ibmr: any MR
 *
 * The names are those that mlx5 uses for ODP.
 *
 * Return: 0, or -EMSGSIZE.
 */
int rxe_pfn_fill_stat_mr_entry(struct sk_buff *msg, struct ib_mr *ibmr)
{
	struct rxe_mr *mr = to_rmr(ibmr);
	struct pfn_mr_info info;
	struct nlattr *table;

	if (!mr->pfn)
		return 0;
	ib_umem_pfn_query(mr->pfn, &info);

	table = nla_nest_start(msg, RDMA_NLDEV_ATTR_STAT_HWCOUNTERS);
	if (!table)
		return -EMSGSIZE;
	if (rdma_nl_stat_hwcounter_entry(msg, "page_faults", info.faults) ||
	    rdma_nl_stat_hwcounter_entry(msg, "page_invalidations",
					 info.invalidations) ||
	    rdma_nl_stat_hwcounter_entry(msg, "page_prefetch",
					 info.prefetches) ||
	    rdma_nl_stat_hwcounter_entry(msg, "bytes_read", info.bytes_read) ||
	    rdma_nl_stat_hwcounter_entry(msg, "bytes_written",
					 info.bytes_written)) {
		nla_nest_cancel(msg, table);
		return -EMSGSIZE;
	}
	nla_nest_end(msg, table);
	return 0;
}

/**
 * rxe_pfn_mr_cleanup - the MR goes away
 * @mr: any MR
 *
 * rxe gives up waiting for the last user of an MR after 50 s. An access that is
 * still waiting for the exporter would then use freed memory, so be patient
 * with those: their waits are bounded, if not by 50 s when many queue up.
 */
void rxe_pfn_mr_cleanup(struct rxe_mr *mr)
{
	if (!mr->pfn)
		return;
	if (kref_read(&mr->elem.ref_cnt))
		wait_for_completion(&mr->elem.complete);
	ib_umem_pfn_release(mr->pfn);
}

static int UVERBS_HANDLER(PFN_MR_METHOD_QUERY)(struct uverbs_attr_bundle *attrs)
{
	struct ib_mr *ibmr =
		uverbs_attr_get_obj(attrs, PFN_MR_ATTR_QUERY_HANDLE);
	struct pfn_mr_info info;
	struct rxe_mr *mr;

	if (IS_ERR(ibmr))
		return PTR_ERR(ibmr);
	mr = to_rmr(ibmr);
	if (!mr->pfn)
		return -EOPNOTSUPP;

	ib_umem_pfn_query(mr->pfn, &info);
	return uverbs_copy_to_struct_or_zero(attrs, PFN_MR_ATTR_QUERY_INFO,
					     &info, sizeof(info));
}

static int UVERBS_HANDLER(PFN_DEVICE_METHOD_QUERY)(struct uverbs_attr_bundle *attrs)
{
	struct ib_ucontext *context = ib_uverbs_get_ucontext(attrs);
	struct pfn_device_info info;

	if (IS_ERR(context))
		return PTR_ERR(context);

	info = (struct pfn_device_info) {
		.modes = BIT(PFN_MR_MODE_DEFAULT) | BIT(PFN_MR_MODE_PINNED) |
			 BIT(PFN_MR_MODE_REVOCABLE) | BIT(PFN_MR_MODE_DYNAMIC),
		.backends = BIT(PFN_MR_BACKEND_PFN) |
			    BIT(PFN_MR_BACKEND_VMAP) | BIT(PFN_MR_BACKEND_P2P),
		.reg_access = RXE_PFN_ACCESS_REG,
		.rereg_access = RXE_PFN_ACCESS_REREG,
		.max_length = to_rdev(context->device)->attr.max_mr_size,
	};
	return uverbs_copy_to_struct_or_zero(attrs, PFN_DEVICE_ATTR_QUERY_INFO,
					     &info, sizeof(info));
}

DECLARE_UVERBS_NAMED_METHOD(PFN_DEVICE_METHOD_QUERY,
			    UVERBS_ATTR_PTR_OUT(PFN_DEVICE_ATTR_QUERY_INFO,
						UVERBS_ATTR_STRUCT(struct pfn_device_info,
								   max_length),
						UA_MANDATORY));

ADD_UVERBS_METHODS(rxe_pfn_device_methods, UVERBS_OBJECT_DEVICE,
		   &UVERBS_METHOD(PFN_DEVICE_METHOD_QUERY));

DECLARE_UVERBS_NAMED_METHOD(PFN_MR_METHOD_QUERY,
			    UVERBS_ATTR_IDR(PFN_MR_ATTR_QUERY_HANDLE,
					    UVERBS_OBJECT_MR,
					    UVERBS_ACCESS_READ,
					    UA_MANDATORY),
			    UVERBS_ATTR_PTR_OUT(PFN_MR_ATTR_QUERY_INFO,
						UVERBS_ATTR_STRUCT(struct pfn_mr_info,
								   bytes_written),
						UA_MANDATORY));

ADD_UVERBS_METHODS(rxe_pfn_mr_methods, UVERBS_OBJECT_MR,
		   &UVERBS_METHOD(PFN_MR_METHOD_QUERY));

#undef UVERBS_MODULE_NAME
#define UVERBS_MODULE_NAME rxe_pfn_reg
ADD_UVERBS_ATTRIBUTES_SIMPLE(rxe_pfn_reg_attrs,
			     UVERBS_OBJECT_MR,
			     UVERBS_METHOD_REG_DMABUF_MR,
			     UVERBS_ATTR_CONST_IN(PFN_MR_ATTR_REG_DMABUF_MODE,
						  enum pfn_mr_mode,
						  UA_OPTIONAL),
			     UVERBS_ATTR_RAW_FD(PFN_MR_ATTR_REG_DMABUF_EVENTFD,
						UA_OPTIONAL),
			     UVERBS_ATTR_PTR_OUT(PFN_MR_ATTR_REG_DMABUF_REASON,
						 UVERBS_ATTR_MIN_SIZE(1),
						 UA_OPTIONAL));

#undef UVERBS_MODULE_NAME
#define UVERBS_MODULE_NAME rxe_pfn_reg_mr
ADD_UVERBS_ATTRIBUTES_SIMPLE(rxe_pfn_reg_mr_attrs,
			     UVERBS_OBJECT_MR,
			     UVERBS_METHOD_REG_MR,
			     UVERBS_ATTR_CONST_IN(PFN_MR_ATTR_REG_DMABUF_MODE,
						  enum pfn_mr_mode,
						  UA_OPTIONAL),
			     UVERBS_ATTR_RAW_FD(PFN_MR_ATTR_REG_DMABUF_EVENTFD,
						UA_OPTIONAL),
			     UVERBS_ATTR_PTR_OUT(PFN_MR_ATTR_REG_DMABUF_REASON,
						 UVERBS_ATTR_MIN_SIZE(1),
						 UA_OPTIONAL));

const struct uapi_definition rxe_pfn_defs[] = {
	UAPI_DEF_CHAIN_OBJ_TREE(UVERBS_OBJECT_DEVICE, &rxe_pfn_device_methods),
	UAPI_DEF_CHAIN_OBJ_TREE(UVERBS_OBJECT_MR, &rxe_pfn_mr_methods),
	UAPI_DEF_CHAIN_OBJ_TREE(UVERBS_OBJECT_MR, &rxe_pfn_reg_attrs),
	UAPI_DEF_CHAIN_OBJ_TREE(UVERBS_OBJECT_MR, &rxe_pfn_reg_mr_attrs),
	{}
};

MODULE_IMPORT_NS("IB_UMEM_PFN");
