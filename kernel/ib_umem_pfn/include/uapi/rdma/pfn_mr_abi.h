/* SPDX-License-Identifier: ((GPL-2.0 WITH Linux-syscall-note) OR BSD-2-Clause) */
/*
 * What a driver with pfn MRs adds to the uverbs ioctl interface: attributes on
 * the methods that register a dma-buf, and methods on UVERBS_OBJECT_MR and
 * UVERBS_OBJECT_DEVICE. Programs use libpfndv, which knows all of it.
 */
#ifndef _UAPI_RDMA_PFN_MR_ABI_H
#define _UAPI_RDMA_PFN_MR_ABI_H

#include <linux/types.h>
#include <rdma/ib_user_ioctl_cmds.h>

/* What importer and exporter agree on, see docs/access-rules.md. */
enum pfn_mr_mode {
	PFN_MR_MODE_DEFAULT = 0,	/* the most the exporter may need */
	PFN_MR_MODE_PINNED = 1,
	PFN_MR_MODE_REVOCABLE = 2,
	PFN_MR_MODE_DYNAMIC = 3,
};

enum pfn_mr_state {
	PFN_MR_STATE_ABSENT = 0,	/* not mapped now; the next access maps it */
	PFN_MR_STATE_PRESENT = 1,
	PFN_MR_STATE_REVOKED = 2,	/* for good */
};

/* How the device reaches the memory, the first of these that there is. */
enum pfn_mr_backend {
	/* the exporter lends its physical ranges */
	PFN_MR_BACKEND_PFN = 1,
	/* it doesn't, but maps the memory for the kernel (vmap) */
	PFN_MR_BACKEND_VMAP = 2,
	/* it does neither, but tells PCI devices the bus addresses of its BAR */
	PFN_MR_BACKEND_P2P = 3,
};

/* Why that one and none before it. */
enum pfn_mr_because {
	PFN_MR_BECAUSE_LENDS = 1,	/* the exporter lends: there is no better */
	PFN_MR_BECAUSE_NO_RANGES = 2,	/* it lends no ranges */
	PFN_MR_BECAUSE_NO_VMAP = 3,	/* nor has it a kernel mapping */
	PFN_MR_BECAUSE_TEST = 4,	/* it lends, but test_bridge_lenders is set */
};

/* struct pfn_mr_info - what PFN_MR_METHOD_QUERY returns. */
struct pfn_mr_info {
	__u32 mode;			/* enum pfn_mr_mode, never DEFAULT */
	__u32 state;			/* enum pfn_mr_state */
	__u32 backend;			/* enum pfn_mr_backend */
	__u32 mmio;			/* 1: device memory, 0: RAM (if PRESENT) */
	__aligned_u64 ranges;		/* of the whole dma-buf; 0 unless PRESENT, and
					 * with PFN_MR_BACKEND_VMAP
					 */
	__aligned_u64 metadata_bytes;	/* kernel memory this MR takes by itself */
	__aligned_u64 faults;		/* maps on access after an invalidation */
	__aligned_u64 invalidations;	/* times the exporter took the memory back */
	__aligned_u64 prefetches;	/* maps by advise_mr */
	__aligned_u64 bytes_read;	/* by RDMA out of this MR */
	__aligned_u64 bytes_written;	/* by RDMA into this MR */
	__aligned_u64 dmabuf_ino;	/* inode of the dma-buf, as fdinfo has it */
	__aligned_u64 offset;		/* of the MR in the dma-buf */
	__aligned_u64 generation;	/* +1 each time it was mapped: while it is
					 * the same, so are the ranges
					 */
	__aligned_u64 page_size;	/* largest that all ranges of the dma-buf
					 * consist of, naturally aligned; bytes, 0
					 * if not PRESENT or not known
					 */
	__u32 because;			/* enum pfn_mr_because: why that backend */
	__u32 reserved;			/* 0 */
};

/* struct pfn_device_info - what PFN_DEVICE_METHOD_QUERY returns. */
struct pfn_device_info {
	__u32 modes;			/* 1 << enum pfn_mr_mode, each it knows */
	__u32 backends;			/* 1 << enum pfn_mr_backend, likewise */
	__u32 reg_access;		/* IB_ACCESS_* that registering takes ... */
	__u32 rereg_access;		/* ... and that rereg_mr can give */
	__aligned_u64 max_length;	/* of an MR, bytes */
};

/*
 * Attributes on UVERBS_OBJECT_MR, both on UVERBS_METHOD_REG_DMABUF_MR and on
 * UVERBS_METHOD_REG_MR with an fd.
 */
enum pfn_mr_attrs_reg_dmabuf {
	/* optional, enum pfn_mr_mode as __u64; EOPNOTSUPP if the exporter can't */
	PFN_MR_ATTR_REG_DMABUF_MODE = UVERBS_ID_DRIVER_NS_WITH_UHW,

	/* optional, fd of an eventfd that is signalled (+1) once, when the memory
	 * is revoked or its device goes; the fd may be closed afterwards. EBADF,
	 * EINVAL if it is none
	 */
	PFN_MR_ATTR_REG_DMABUF_EVENTFD,

	/* optional, out, char[]: if registering fails in a way that this driver
	 * can explain, a sentence that does, cut to fit and with a NUL at its end;
	 * else untouched. PFN_MR_REASON_MAX bytes hold every one of them.
	 */
	PFN_MR_ATTR_REG_DMABUF_REASON,
};

#define PFN_MR_REASON_MAX 128

/* Methods on UVERBS_OBJECT_MR. */
enum pfn_mr_methods {
	PFN_MR_METHOD_QUERY = (1U << UVERBS_ID_NS_SHIFT),
};

/* EOPNOTSUPP if the MR is not a pfn MR. */
enum pfn_mr_attrs_query {
	PFN_MR_ATTR_QUERY_HANDLE = (1U << UVERBS_ID_NS_SHIFT),	/* IDR, MR */
	PFN_MR_ATTR_QUERY_INFO,		/* out, struct pfn_mr_info */
};

/* Methods on UVERBS_OBJECT_DEVICE. */
enum pfn_device_methods {
	PFN_DEVICE_METHOD_QUERY = (1U << UVERBS_ID_NS_SHIFT),
};

enum pfn_device_attrs_query {
	PFN_DEVICE_ATTR_QUERY_INFO = (1U << UVERBS_ID_NS_SHIFT), /* out, struct pfn_device_info */
};

#endif /* _UAPI_RDMA_PFN_MR_ABI_H */
