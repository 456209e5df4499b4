// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * pfn MRs on soft-RoCE: registration, the data path's access to their memory,
 * and the query method. Everything about the memory itself is ib_umem_pfn's.
 *
 * All of the data path runs in rxe's work queue, or in the process that tears a
 * QP down, without a spinlock held: an access may sleep to map the memory after
 * the exporter has moved it.
 */
#include <rdma/ib_umem_pfn.h>
#include <rdma/pfn_mr_abi.h>
#include <rdma/uverbs_ioctl.h>
#include <rdma/uverbs_std_types.h>

#include "rxe.h"
#include "rxe_loc.h"

#define UVERBS_MODULE_NAME rxe_pfn
#include <rdma/uverbs_named_ioctl.h>

static int rxe_pfn_get_mode(struct uverbs_attr_bundle *attrs,
			    enum pfn_mr_mode *mode)
{
	u64 val;
	int err;

	err = uverbs_get_const_default(&val, attrs,
				       PFN_MR_ATTR_REG_DMABUF_MODE,
				       PFN_MR_MODE_DEFAULT);
	if (err)
		return err;
	if (val > PFN_MR_MODE_DYNAMIC)
		return -EINVAL;
	*mode = val;
	return 0;
}

static int rxe_pfn_mr_init(struct rxe_dev *rxe, struct rxe_mr *mr, u64 iova,
			   const struct ib_umem_pfn_attr *attr)
{
	struct ib_umem_pfn *umem;

	rxe_mr_init(attr->access, mr);

	umem = ib_umem_pfn_get(&rxe->ib_dev, attr);
	if (IS_ERR(umem)) {
		rxe_dbg_mr(mr, "dma-buf fd %d offset %llu length %llu mode %d: %pe\n",
			   attr->fd, attr->offset, attr->length, attr->mode,
			   umem);
		return PTR_ERR(umem);
	}

	mr->pfn = umem;
	mr->ibmr.iova = iova;
	mr->ibmr.length = attr->length;
	mr->ibmr.type = IB_MR_TYPE_USER;
	mr->state = RXE_MR_STATE_VALID;
	return 0;
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
 * @attrs: may carry %PFN_MR_ATTR_REG_DMABUF_MODE
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
	};
	struct rxe_pd *pd = to_rpd(ibpd);
	struct rxe_mr *mr;
	u64 end;
	int err;

	if (dmah || (access & ~RXE_ACCESS_SUPPORTED_MR))
		return ERR_PTR(-EOPNOTSUPP);
	if (check_add_overflow(iova, length, &end))
		return ERR_PTR(-EINVAL);
	err = rxe_pfn_get_mode(attrs, &attr.mode);
	if (err)
		return ERR_PTR(err);

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
	return ERR_PTR(err);
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
						  UA_OPTIONAL));

#undef UVERBS_MODULE_NAME
#define UVERBS_MODULE_NAME rxe_pfn_reg_mr
ADD_UVERBS_ATTRIBUTES_SIMPLE(rxe_pfn_reg_mr_attrs,
			     UVERBS_OBJECT_MR,
			     UVERBS_METHOD_REG_MR,
			     UVERBS_ATTR_CONST_IN(PFN_MR_ATTR_REG_DMABUF_MODE,
						  enum pfn_mr_mode,
						  UA_OPTIONAL));

const struct uapi_definition rxe_pfn_defs[] = {
	UAPI_DEF_CHAIN_OBJ_TREE(UVERBS_OBJECT_MR, &rxe_pfn_mr_methods),
	UAPI_DEF_CHAIN_OBJ_TREE(UVERBS_OBJECT_MR, &rxe_pfn_reg_attrs),
	UAPI_DEF_CHAIN_OBJ_TREE(UVERBS_OBJECT_MR, &rxe_pfn_reg_mr_attrs),
	{}
};

MODULE_IMPORT_NS("IB_UMEM_PFN");
