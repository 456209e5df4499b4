/* SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB */
/*
 * What happens to the memory of pfn MRs. "dmabuf" is the inode number of the
 * dma-buf, the same as in fdinfo, in debugfs' dma_buf/bufinfo and pfn_vram/ and
 * in "rdma -dd resource show mr": it tells which umem belongs to which MR.
 */
#undef TRACE_SYSTEM
#define TRACE_SYSTEM ib_umem_pfn

#if !defined(_IB_UMEM_PFN_TRACE_H) || defined(TRACE_HEADER_MULTI_READ)
#define _IB_UMEM_PFN_TRACE_H

#include <linux/tracepoint.h>
#include <rdma/ib_umem_pfn.h>

#define show_pfn_mr_state(state)				\
	__print_symbolic(state,					\
			 { PFN_MR_STATE_ABSENT, "absent" },	\
			 { PFN_MR_STATE_PRESENT, "present" },	\
			 { PFN_MR_STATE_REVOKED, "revoked" })

/* The umem borrows the ranges, or fails to. */
DECLARE_EVENT_CLASS(umem_pfn_borrow,
		    TP_PROTO(const void *umem, unsigned long dmabuf, u64 offset,
			     u64 length, size_t ranges, int err),
		    TP_ARGS(umem, dmabuf, offset, length, ranges, err),
		    TP_STRUCT__entry(__field(const void *, umem)
				     __field(unsigned long, dmabuf)
				     __field(u64, offset)
				     __field(u64, length)
				     __field(size_t, ranges)
				     __field(int, err)
		    ),
		    TP_fast_assign(__entry->umem = umem;
				   __entry->dmabuf = dmabuf;
				   __entry->offset = offset;
				   __entry->length = length;
				   __entry->ranges = ranges;
				   __entry->err = err;
		    ),
		    TP_printk("umem=%p dmabuf=%lu offset=%llu length=%llu ranges=%zu err=%d",
			      __entry->umem, __entry->dmabuf, __entry->offset,
			      __entry->length, __entry->ranges, __entry->err)
);

/* when it is registered */
DEFINE_EVENT(umem_pfn_borrow, ib_umem_pfn_map,
	     TP_PROTO(const void *umem, unsigned long dmabuf, u64 offset,
		      u64 length, size_t ranges, int err),
	     TP_ARGS(umem, dmabuf, offset, length, ranges, err));

/* when it is accessed after an invalidation */
DEFINE_EVENT(umem_pfn_borrow, ib_umem_pfn_fault,
	     TP_PROTO(const void *umem, unsigned long dmabuf, u64 offset,
		      u64 length, size_t ranges, int err),
	     TP_ARGS(umem, dmabuf, offset, length, ranges, err));

/* on request, see ibv_advise_mr() */
DEFINE_EVENT(umem_pfn_borrow, ib_umem_pfn_prefetch,
	     TP_PROTO(const void *umem, unsigned long dmabuf, u64 offset,
		      u64 length, size_t ranges, int err),
	     TP_ARGS(umem, dmabuf, offset, length, ranges, err));

/* The umem gives the ranges back; "was" is its state until then. */
DECLARE_EVENT_CLASS(umem_pfn_return,
		    TP_PROTO(const void *umem, unsigned long dmabuf,
			     enum pfn_mr_state was),
		    TP_ARGS(umem, dmabuf, was),
		    TP_STRUCT__entry(__field(const void *, umem)
				     __field(unsigned long, dmabuf)
				     __field(u32, was)
		    ),
		    TP_fast_assign(__entry->umem = umem;
				   __entry->dmabuf = dmabuf;
				   __entry->was = was;
		    ),
		    TP_printk("umem=%p dmabuf=%lu was %s",
			      __entry->umem, __entry->dmabuf,
			      show_pfn_mr_state(__entry->was))
);

/* because the exporter moves the memory */
DEFINE_EVENT(umem_pfn_return, ib_umem_pfn_invalidate,
	     TP_PROTO(const void *umem, unsigned long dmabuf,
		      enum pfn_mr_state was),
	     TP_ARGS(umem, dmabuf, was));

/* because the exporter withdraws it for good */
DEFINE_EVENT(umem_pfn_return, ib_umem_pfn_revoke,
	     TP_PROTO(const void *umem, unsigned long dmabuf,
		      enum pfn_mr_state was),
	     TP_ARGS(umem, dmabuf, was));

/* because it is deregistered */
DEFINE_EVENT(umem_pfn_return, ib_umem_pfn_unmap,
	     TP_PROTO(const void *umem, unsigned long dmabuf,
		      enum pfn_mr_state was),
	     TP_ARGS(umem, dmabuf, was));

/* Registering has failed. */
TRACE_EVENT(ib_umem_pfn_refuse,
	    TP_PROTO(const struct ib_umem_pfn_attr *attr, int err),
	    TP_ARGS(attr, err),
	    TP_STRUCT__entry(__field(int, fd)
			     __field(u64, offset)
			     __field(u64, length)
			     __field(u32, access)
			     __field(u32, mode)
			     __field(int, err)
			     __string(reason, attr->reason ?: "")
	    ),
	    TP_fast_assign(__entry->fd = attr->fd;
			   __entry->offset = attr->offset;
			   __entry->length = attr->length;
			   __entry->access = attr->access;
			   __entry->mode = attr->mode;
			   __entry->err = err;
			   __assign_str(reason);
	    ),
	    TP_printk("fd=%d offset=%llu length=%llu access=%#x mode=%u err=%d %s",
		      __entry->fd, __entry->offset, __entry->length,
		      __entry->access, __entry->mode, __entry->err,
		      __get_str(reason))
);

/* RDMA to or from the umem has failed. */
TRACE_EVENT(ib_umem_pfn_access_error,
	    TP_PROTO(const void *umem, unsigned long dmabuf, u64 offset,
		     size_t length, bool write, int err),
	    TP_ARGS(umem, dmabuf, offset, length, write, err),
	    TP_STRUCT__entry(__field(const void *, umem)
			     __field(unsigned long, dmabuf)
			     __field(u64, offset)
			     __field(size_t, length)
			     __field(bool, write)
			     __field(int, err)
	    ),
	    TP_fast_assign(__entry->umem = umem;
			   __entry->dmabuf = dmabuf;
			   __entry->offset = offset;
			   __entry->length = length;
			   __entry->write = write;
			   __entry->err = err;
	    ),
	    TP_printk("umem=%p dmabuf=%lu %s offset=%llu length=%zu err=%d",
		      __entry->umem, __entry->dmabuf,
		      __entry->write ? "write" : "read", __entry->offset,
		      __entry->length, __entry->err)
);

#endif /* _IB_UMEM_PFN_TRACE_H */

#undef TRACE_INCLUDE_PATH
#undef TRACE_INCLUDE_FILE
#define TRACE_INCLUDE_PATH .
#define TRACE_INCLUDE_FILE ib_umem_pfn_trace
#include <trace/define_trace.h>
