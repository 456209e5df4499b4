/* SPDX-License-Identifier: ((GPL-2.0 WITH Linux-syscall-note) OR BSD-2-Clause) */
/*
 * pfn_edu: DMA between a dma-buf and QEMU's edu device.
 *
 * edu has one DMA engine and 4 KiB of memory that only the engine reaches. Open
 * /dev/pfn_eduN, IMPORT a dma-buf, and TRANSFER moves bytes between the two:
 * real bus-master DMA, through the IOMMU if there is one, to the addresses that
 * the import has. A transfer takes about 100 ms, that is the device's doing.
 *
 * An import follows its buffer: it is mapped for DMA by the first transfer, and
 * by the first one after each move. It belongs to the open file.
 *
 * Errors common to every call:
 *   ENODEV  the device was unbound or unplugged; the buffer was revoked
 *   ENOENT  there is no such import
 *   EINVAL  a reserved field is not zero, or a value is out of its range
 *   EINTR   a signal came before anything had happened
 */
#ifndef _UAPI_LINUX_PFN_EDU_H
#define _UAPI_LINUX_PFN_EDU_H

#include <linux/ioctl.h>
#include <linux/types.h>

#define PFN_EDU_MEM_SIZE	4096	/* bytes of the device's own memory */
#define PFN_EDU_REASON_SIZE	160

/* Whose addresses the device uses, see linux/pfn-dma-map.h of the kernel. */
enum pfn_edu_bus {
	PFN_EDU_UNMAPPED = 0,
	PFN_EDU_IOVA = 1,	/* the IOMMU's, one range */
	PFN_EDU_DIRECT = 2,	/* physical */
	PFN_EDU_P2P_BUS = 3,	/* of the PCI bus, below a switch */
};

/* struct pfn_edu_info - the device behind this node. */
struct pfn_edu_info {
	char bus_name[32];		/* out: "0000:00:1e.0" */
	__aligned_u64 dma_mask;		/* out */
	__aligned_u64 reserved[2];	/* out: 0 */
};

enum pfn_edu_import_flags {
	PFN_EDU_READ_ONLY = 1 << 0,	/* the device only reads the buffer */
};

/*
 * struct pfn_edu_import - borrow (a part of) a dma-buf.
 *
 * Errors as for registering a memory region on it; @reason says more.
 */
struct pfn_edu_import {
	__s32 fd;			/* in: dma-buf */
	__u32 mode;			/* in: enum pfn_mr_mode of pfn_mr_abi.h */
	__u32 flags;			/* in: enum pfn_edu_import_flags */
	__u32 id;			/* out */
	__aligned_u64 offset;		/* in: first byte in the dma-buf */
	__aligned_u64 length;		/* in: bytes, not 0 */
	char reason[PFN_EDU_REASON_SIZE];	/* out: if it fails */
};

/* struct pfn_edu_id - an import: give it back, or map it now. */
struct pfn_edu_id {
	__u32 id;			/* in */
	__u32 reserved;			/* in: 0 */
	char reason[PFN_EDU_REASON_SIZE];	/* out: if MAP fails */
};

enum pfn_edu_transfer_flags {
	PFN_EDU_WRITE = 1 << 0,		/* into the import; else out of it */
	/*
	 * For tests: use the address that the import had, mapped or not. Only
	 * where an IOMMU catches it, and if the module's parameter test_knobs is
	 * set.
	 */
	PFN_EDU_STALE = 1 << 1,
};

/*
 * struct pfn_edu_transfer - DMA between the import and the device's memory.
 *
 * What fails for want of DMA addresses has a @reason: EOPNOTSUPP, EREMOTEIO,
 * ERANGE, EIO, ENOMEM as for MAP.
 * EACCES: PFN_EDU_WRITE into a read-only import.
 * EPERM, EOPNOTSUPP: PFN_EDU_STALE when it is not allowed.
 * ETIMEDOUT: the engine did not finish; it is off the bus from then on.
 * EIO: it has not finished before: bind the driver anew.
 * EINTR: a signal; @pieces have been transferred.
 */
struct pfn_edu_transfer {
	__u32 id;			/* in */
	__u32 flags;			/* in: enum pfn_edu_transfer_flags */
	__aligned_u64 offset;		/* in: first byte, in the import */
	__u32 mem_offset;		/* in: first byte, in the device's memory */
	__u32 length;			/* in: bytes, up to PFN_EDU_MEM_SIZE */
	__aligned_u64 dma_addr;		/* out: where it began */
	__u32 pieces;			/* out: times the engine was started */
	__u32 reserved;			/* in: 0 */
	char reason[PFN_EDU_REASON_SIZE];	/* out: if it fails */
};

/* struct pfn_edu_query - an import as the device sees it now. */
struct pfn_edu_query {
	__u32 id;			/* in */
	__u32 bus;			/* out: enum pfn_edu_bus */
	__u32 coherent;			/* out: 1 if CPUs' caches are snooped */
	__u32 writable;			/* out: 1 if the device may write */
	__aligned_u64 dma_addr;		/* out: of the first byte */
	__aligned_u64 extents;		/* out: pieces with consecutive addresses */
	__aligned_u64 metadata_bytes;	/* out: kernel memory for the addresses */
	__aligned_u64 maps;		/* out: times it was mapped */
	__aligned_u64 stops;		/* out: times the exporter took it back */
	__aligned_u64 reserved[2];	/* out: 0 */
};

/*
 * struct pfn_edu_blocks - what would be in a device's page table for an import.
 * Maps it, if need be, as filling a page table does. edu itself has none.
 *
 * Errors as for MAP, and
 * EINVAL: no block size of @pgsz_bitmap fits; @pgsz is 0.
 * ENOSPC: @blocks are more than @max; none are in @addrs.
 */
struct pfn_edu_blocks {
	__u32 id;			/* in */
	__u32 max;			/* in: room in @addrs, up to PFN_EDU_MAX_BLOCKS */
	__aligned_u64 pgsz_bitmap;	/* in: block sizes to choose from, each a bit */
	__aligned_u64 iova;		/* in: where users of the device see the first byte */
	__aligned_u64 addrs;		/* in: user address of an array of __u64 that is
					 * filled with the DMA addresses of the blocks
					 */
	__aligned_u64 pgsz;		/* out: bytes of a block */
	__aligned_u64 blocks;		/* out: number of blocks */
	char reason[PFN_EDU_REASON_SIZE];	/* out: if mapping fails */
};

#define PFN_EDU_MAX_BLOCKS	65536

/*
 * struct pfn_edu_synthetic - two dma-bufs with the same list of device memory
 * that does not exist, to measure what mapping costs. One lends ranges, the other
 * gives scatterlists the way the kernel's own exporters do.
 *
 * For tests, if test_knobs is set: don't touch that memory, there is none.
 */
struct pfn_edu_synthetic {
	__s32 like_fd;			/* in: a dma-buf of the PCI device it is said to be of */
	__u32 reserved;			/* in: 0 */
	__aligned_u64 ranges;		/* in: up to 1 Mi */
	__aligned_u64 range_size;	/* in: bytes of each, whole pages */
	__s32 pfn_fd;			/* out: lends ranges */
	__s32 sg_fd;			/* out: gives scatterlists */
};

/* What one of the two ways has cost: the least of all rounds, and the sum. */
struct pfn_edu_cost {
	__s32 error;			/* out: a negative errno, 0 if it worked */
	__u32 reserved;			/* out: 0 */
	__aligned_u64 map_ns;		/* out: attach and map, least */
	__aligned_u64 map_ns_sum;	/* out */
	__aligned_u64 unmap_ns;		/* out: unmap and detach, least */
	__aligned_u64 unmap_ns_sum;	/* out */
	__aligned_u64 extents;		/* out: DMA addresses that a driver sees */
	__aligned_u64 bytes;		/* out: kernel memory it took, computed; without what
					 * the IOMMU needs
					 */
};

/*
 * struct pfn_edu_compare - map and unmap a dma-buf by turns as we do and as
 * ib_umem_dmabuf_get_pinned() does, for the same device. EPERM unless the module's
 * parameter test_knobs is set; EINTR after a signal, ENODEV if the driver is unbound
 * meanwhile.
 */
struct pfn_edu_compare {
	__s32 pfn_fd;			/* in: for our way */
	__s32 sg_fd;			/* in: for the other, may be the same */
	__u32 rounds;			/* in: 1 to 1000 */
	__u32 reserved;			/* in: 0 */
	struct pfn_edu_cost pfn;	/* out */
	struct pfn_edu_cost sg;		/* out */
};

enum pfn_edu_way {
	PFN_EDU_BY_RANGES = 0,		/* as ib_umem_pfn does */
	PFN_EDU_BY_SCATTERLIST = 1,	/* as ib_umem_dmabuf does */
};

#define PFN_EDU_MAX_HELD	16

/*
 * struct pfn_edu_hold - map a dma-buf as COMPARE does, one of the two ways, and
 * keep it so, until DROP or the end of the file: to count what that takes with the
 * kernel's tracepoints. What is held is of one way at a time.
 *
 * EPERM unless test_knobs is set.
 * EBUSY: mappings of the other way are held.
 * ENOSPC: they would be more than PFN_EDU_MAX_HELD.
 * EINTR, ENODEV, and errors of mapping: those made until then are held.
 */
struct pfn_edu_hold {
	__s32 fd;			/* in */
	__u32 way;			/* in: enum pfn_edu_way */
	__u32 count;			/* in: mappings to make */
	__u32 reserved;			/* in: 0 */
};

#define PFN_EDU_IOC_MAGIC	0xB8
#define PFN_EDU_IOC_INFO	_IOR(PFN_EDU_IOC_MAGIC, 0, struct pfn_edu_info)
#define PFN_EDU_IOC_IMPORT	_IOWR(PFN_EDU_IOC_MAGIC, 1, struct pfn_edu_import)
#define PFN_EDU_IOC_RELEASE	_IOWR(PFN_EDU_IOC_MAGIC, 2, struct pfn_edu_id)
#define PFN_EDU_IOC_MAP		_IOWR(PFN_EDU_IOC_MAGIC, 3, struct pfn_edu_id)
#define PFN_EDU_IOC_UNMAP	_IOWR(PFN_EDU_IOC_MAGIC, 4, struct pfn_edu_id)
#define PFN_EDU_IOC_TRANSFER	_IOWR(PFN_EDU_IOC_MAGIC, 5, struct pfn_edu_transfer)
#define PFN_EDU_IOC_QUERY	_IOWR(PFN_EDU_IOC_MAGIC, 6, struct pfn_edu_query)
#define PFN_EDU_IOC_SYNTHETIC	_IOWR(PFN_EDU_IOC_MAGIC, 7, struct pfn_edu_synthetic)
#define PFN_EDU_IOC_COMPARE	_IOWR(PFN_EDU_IOC_MAGIC, 8, struct pfn_edu_compare)
#define PFN_EDU_IOC_BLOCKS	_IOWR(PFN_EDU_IOC_MAGIC, 9, struct pfn_edu_blocks)
#define PFN_EDU_IOC_HOLD	_IOW(PFN_EDU_IOC_MAGIC, 10, struct pfn_edu_hold)
#define PFN_EDU_IOC_DROP	_IO(PFN_EDU_IOC_MAGIC, 11)

#endif /* _UAPI_LINUX_PFN_EDU_H */
