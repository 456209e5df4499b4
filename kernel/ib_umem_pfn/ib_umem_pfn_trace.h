/* SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB */
#undef TRACE_SYSTEM
#define TRACE_SYSTEM ib_umem_pfn

#if !defined(_IB_UMEM_PFN_TRACE_H) || defined(TRACE_HEADER_MULTI_READ)
#define _IB_UMEM_PFN_TRACE_H

#include <linux/tracepoint.h>

TRACE_EVENT(ib_umem_pfn_map,
	    TP_PROTO(const void *umem, u64 offset, u64 length, size_t ranges,
		     bool fault, int err),
	    TP_ARGS(umem, offset, length, ranges, fault, err),
	    TP_STRUCT__entry(__field(const void *, umem)
			     __field(u64, offset)
			     __field(u64, length)
			     __field(size_t, ranges)
			     __field(bool, fault)
			     __field(int, err)
	    ),
	    TP_fast_assign(__entry->umem = umem;
			   __entry->offset = offset;
			   __entry->length = length;
			   __entry->ranges = ranges;
			   __entry->fault = fault;
			   __entry->err = err;
	    ),
	    TP_printk("umem=%p offset=%llu length=%llu ranges=%zu %s err=%d",
		      __entry->umem, __entry->offset, __entry->length,
		      __entry->ranges, __entry->fault ? "fault" : "register",
		      __entry->err)
);

TRACE_EVENT(ib_umem_pfn_invalidate,
	    TP_PROTO(const void *umem, bool present, bool revoked),
	    TP_ARGS(umem, present, revoked),
	    TP_STRUCT__entry(__field(const void *, umem)
			     __field(bool, present)
			     __field(bool, revoked)
	    ),
	    TP_fast_assign(__entry->umem = umem;
			   __entry->present = present;
			   __entry->revoked = revoked;
	    ),
	    TP_printk("umem=%p %s%s", __entry->umem,
		      __entry->revoked ? "revoked" : "moving",
		      __entry->present ? "" : " (was absent)")
);

#endif /* _IB_UMEM_PFN_TRACE_H */

#undef TRACE_INCLUDE_PATH
#undef TRACE_INCLUDE_FILE
#define TRACE_INCLUDE_PATH .
#define TRACE_INCLUDE_FILE ib_umem_pfn_trace
#include <trace/define_trace.h>
