/* SPDX-License-Identifier: ((GPL-2.0 WITH Linux-syscall-note) OR BSD-2-Clause) */
/*
 * pfn_vram: device memory that anybody can have.
 *
 * A stand-in for a GPU's memory manager. Open /dev/pfn_vramN and ALLOC hands
 * out dma-bufs. A buffer *is* its dma-buf: it lives until the last reference
 * to the dma-buf is gone, whether or not the device node is still open, and
 * every other call names the buffer by a dma-buf file descriptor. mmap() the
 * dma-buf for CPU access.
 *
 * Errors common to every call that takes a buffer:
 *   EBADF   fd is not open
 *   EINVAL  fd is not a dma-buf of pfn_vram, a reserved field is not zero, or
 *           a value is out of its range
 *   EXDEV   the buffer belongs to another pfn_vram device
 *   ENODEV  the buffer was revoked; the device was unplugged (every call)
 *   EINTR   a signal came before anything had happened
 */
#ifndef _UAPI_LINUX_PFN_VRAM_H
#define _UAPI_LINUX_PFN_VRAM_H

#include <linux/ioctl.h>
#include <linux/types.h>

/* Where a buffer's bytes are. */
enum pfn_vram_placement {
	PFN_VRAM_PLACEMENT_VRAM = 1,	/* the device's own memory */
	PFN_VRAM_PLACEMENT_SYSTEM = 2,	/* the host's RAM */
};

/* What the exporter may do to a buffer, and what it can promise not to do. */
enum pfn_vram_caps {
	PFN_VRAM_CAP_PIN = 1 << 0,	/* can hold still while pinned */
	PFN_VRAM_CAP_MOVE = 1 << 1,	/* may move */
	PFN_VRAM_CAP_REVOKE = 1 << 2,	/* may be withdrawn for good */
	PFN_VRAM_CAP_ALL = (1 << 3) - 1,
};

/* What stands behind PFN_VRAM_PLACEMENT_VRAM. */
enum pfn_vram_backend {
	PFN_VRAM_BACKEND_BAR = 1,	/* a PCI memory BAR: no struct page, WC */
	PFN_VRAM_BACKEND_RAM = 2,	/* RAM set aside when there is no BAR */
};

/* struct pfn_vram_dev_info - the device behind this node. */
struct pfn_vram_dev_info {
	__u32 backend;			/* out: enum pfn_vram_backend */
	__u32 buffers;			/* out: buffers alive */
	__aligned_u64 vram_size;	/* out: bytes */
	__aligned_u64 vram_free;	/* out: bytes */
	char bus_name[32];		/* out: "0000:00:04.0", "" without PCI */
	__aligned_u64 reserved[2];	/* out: 0 */
};

/*
 * struct pfn_vram_alloc - allocate a zeroed buffer and export it.
 *
 * @chunk shapes the physical layout: 0 asks for as few and as long ranges as
 * possible; a power of two of at least a page makes every range exactly that
 * long (the last may be shorter) and scatters them on purpose.
 *
 * ENOSPC: not enough free VRAM (or none in one piece, see @chunk), or it would be
 * more than the caller's cgroup may have (dmem.max).
 * ENOMEM: not enough RAM.
 */
struct pfn_vram_alloc {
	__aligned_u64 size;	/* in: bytes, a multiple of the page size, not 0 */
	__aligned_u64 chunk;	/* in: bytes, see above */
	__u32 placement;	/* in: enum pfn_vram_placement */
	__u32 caps;		/* in: enum pfn_vram_caps, 0 = holds still anyway */
	__u32 fd_flags;		/* in: O_CLOEXEC, O_RDONLY or O_RDWR */
	__s32 fd;		/* out: the dma-buf */
	__aligned_u64 reserved;	/* in: 0 */
};

enum pfn_vram_move_flags {
	/* Return as soon as the old placement is out of use; a KERNEL fence on
	 * the dma-buf signals when the data has arrived.
	 */
	PFN_VRAM_MOVE_ASYNC = 1 << 0,
};

/*
 * struct pfn_vram_move - move a buffer, data intact.
 *
 * A move to the placement the buffer is in already is a move like any other:
 * it gets new physical memory. Importers, CPU mappings and fences behave as
 * docs/access-rules.md says.
 *
 * EOPNOTSUPP: allocated without PFN_VRAM_CAP_MOVE.  EBUSY: pinned.
 * EINTR: interrupted by a signal before anything happened.
 * ETIMEDOUT: an earlier move or a fence of an importer did not finish within
 * 10 s; the buffer stays where it was.
 * ENOSPC, ENOMEM: as for ALLOC; the buffer stays where it was.
 */
struct pfn_vram_move {
	__s32 fd;			/* in */
	__u32 placement;		/* in: enum pfn_vram_placement */
	__aligned_u64 chunk;		/* in: as in struct pfn_vram_alloc */
	__u32 flags;			/* in: enum pfn_vram_move_flags */
	__u32 reserved;			/* in: 0 */
	__aligned_u64 quiesce_ns;	/* out: time to stop all importers */
	__aligned_u64 copy_ns;		/* out: time to copy, 0 if ASYNC */
};

/*
 * struct pfn_vram_revoke - take a buffer back from everybody; its data is lost.
 *
 * EOPNOTSUPP: allocated without PFN_VRAM_CAP_REVOKE.  EBUSY: pinned.
 * ETIMEDOUT: an earlier move did not finish within 10 s; nothing has happened.
 */
struct pfn_vram_revoke {
	__s32 fd;		/* in */
	__u32 reserved;		/* in: 0 */
};

/*
 * struct pfn_vram_restore - give a revoked buffer memory again, zeroed.
 *
 * Who had borrowed the old memory does not get the new one: an importer that
 * was there at the revoke stays revoked and has to attach (register) again. CPU
 * mappings, which ask at every page fault, see the new memory.
 *
 * EINVAL: not revoked.  EBUSY: a legacy importer has not let go of the old
 * memory yet.  ENOSPC, ENOMEM: as for ALLOC.
 */
struct pfn_vram_restore {
	__s32 fd;		/* in */
	__u32 placement;	/* in: enum pfn_vram_placement */
	__aligned_u64 chunk;	/* in: as in struct pfn_vram_alloc */
	__aligned_u64 reserved;	/* in: 0 */
};

enum pfn_vram_buf_flags {
	PFN_VRAM_BUF_REVOKED = 1 << 0,
	PFN_VRAM_BUF_PINNED = 1 << 1,	/* by an importer or a kernel mapping */
	PFN_VRAM_BUF_MOVING = 1 << 2,	/* a copy is on its way */
};

/* struct pfn_vram_buf_info - a buffer's state (works on revoked ones too). */
struct pfn_vram_buf_info {
	__s32 fd;			/* in */
	__u32 placement;		/* out: enum pfn_vram_placement, 0 = revoked */
	__u32 caps;			/* out: enum pfn_vram_caps */
	__u32 flags;			/* out: enum pfn_vram_buf_flags */
	__aligned_u64 size;		/* out: bytes */
	__aligned_u64 ranges;		/* out: physical ranges it consists of */
	__aligned_u64 generation;	/* out: +1 at every move and at revoke */
	__aligned_u64 attachments;	/* out: importers attached now */
	__aligned_u64 metadata_bytes;	/* out: exporter's memory for the ranges */
	__aligned_u64 reserved[2];	/* out: 0 */
};

#define PFN_VRAM_IOC_MAGIC	0xB7
#define PFN_VRAM_IOC_DEV_INFO	_IOR(PFN_VRAM_IOC_MAGIC, 0, struct pfn_vram_dev_info)
#define PFN_VRAM_IOC_ALLOC	_IOWR(PFN_VRAM_IOC_MAGIC, 1, struct pfn_vram_alloc)
#define PFN_VRAM_IOC_MOVE	_IOWR(PFN_VRAM_IOC_MAGIC, 2, struct pfn_vram_move)
#define PFN_VRAM_IOC_REVOKE	_IOW(PFN_VRAM_IOC_MAGIC, 3, struct pfn_vram_revoke)
#define PFN_VRAM_IOC_BUF_INFO	_IOWR(PFN_VRAM_IOC_MAGIC, 4, struct pfn_vram_buf_info)
#define PFN_VRAM_IOC_RESTORE	_IOW(PFN_VRAM_IOC_MAGIC, 5, struct pfn_vram_restore)

#endif /* _UAPI_LINUX_PFN_VRAM_H */
