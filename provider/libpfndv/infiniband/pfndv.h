/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * libpfndv: memory regions on dma-bufs with what plain verbs have no word for: a
 * mode that importer and exporter agree on, an eventfd for revokes, state and
 * counters, and the reason when something fails. It works beside the installed
 * libibverbs, with any librxe. See pfndv(7); each function has a page in section 3.
 *
 * All functions may be called from any thread. Those that return int return 0, or
 * an errno value that errno is set to as well; pfndv_last_reason() then says what
 * is wrong in words.
 *
 * Structures grow at their end only. The caller says how large the one is that it
 * was compiled with; what a caller or a kernel does not know reads as 0.
 */
#ifndef INFINIBAND_PFNDV_H
#define INFINIBAND_PFNDV_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <infiniband/verbs.h>

#ifdef __cplusplus
extern "C" {
#endif

/** What importer and exporter agree on when a dma-buf is registered. */
enum pfndv_mode {
	PFNDV_MODE_DEFAULT = 0,	  /**< the most that the exporter may need */
	PFNDV_MODE_PINNED = 1,	  /**< neither moves nor is revoked */
	PFNDV_MODE_REVOCABLE = 2, /**< may be revoked */
	PFNDV_MODE_DYNAMIC = 3,	  /**< may move and be revoked */
};

/** How a memory region is at the moment. */
enum pfndv_state {
	PFNDV_STATE_ABSENT = 0,	 /**< not mapped; the next access maps it */
	PFNDV_STATE_PRESENT = 1, /**< mapped */
	PFNDV_STATE_REVOKED = 2, /**< taken away for good */
};

/** How the device reaches the memory. More may be added: see pfndv_backend_str(). */
enum pfndv_backend {
	PFNDV_BACKEND_PFN = 1,	/**< physical ranges lent by the exporter */
	PFNDV_BACKEND_VMAP = 2, /**< a kernel mapping that the exporter makes */
	PFNDV_BACKEND_P2P = 3,	/**< bus addresses of the exporter's PCI memory */
};

/** Why that backend. More may be added: see pfndv_because_str(). */
enum pfndv_because {
	PFNDV_BECAUSE_LENDS = 1,     /**< the exporter lends its ranges: PFN */
	PFNDV_BECAUSE_NO_RANGES = 2, /**< it lends none, but maps for the kernel: VMAP */
	PFNDV_BECAUSE_NO_VMAP = 3,   /**< it does neither, but tells bus addresses: P2P */
	PFNDV_BECAUSE_TEST = 4,	     /**< it lends, but the kernel was told not to use that */
};

/** What a device supports. */
struct pfndv_device_attr {
	uint64_t comp_mask;    /**< fields beyond the first version that are valid; 0 */
	uint32_t modes;	       /**< mask of 1 << enum pfndv_mode */
	uint32_t backends;     /**< mask of 1 << enum pfndv_backend */
	uint32_t reg_access;   /**< enum ibv_access_flags that registering takes */
	uint32_t rereg_access; /**< and that ibv_rereg_mr() can give */
	uint64_t max_length;   /**< of a memory region, bytes */
};

/** Bits of pfndv_dmabuf_mr_attr.comp_mask. */
enum pfndv_dmabuf_mr_mask {
	PFNDV_DMABUF_MR_EVENTFD = 1 << 0, /**< eventfd is valid */
};

/** What to register. All that is 0 is the default. */
struct pfndv_dmabuf_mr_attr {
	uint64_t comp_mask; /**< mask of enum pfndv_dmabuf_mr_mask */
	uint64_t offset;    /**< first byte in the dma-buf */
	uint64_t length;    /**< bytes */
	uint64_t iova;	    /**< address of the first byte in work requests */
	int32_t fd;	    /**< the dma-buf; may be closed afterwards */
	uint32_t access;    /**< mask of enum ibv_access_flags */
	uint32_t mode;	    /**< enum pfndv_mode */
	int32_t eventfd;    /**< signalled once when revoked; may be closed afterwards */
};

/** Bits of pfndv_mr_attr.comp_mask. */
enum pfndv_mr_mask {
	PFNDV_MR_BECAUSE = 1 << 0, /**< because is valid: the kernel knows */
};

/** How a memory region is, and what has happened to it. */
struct pfndv_mr_attr {
	uint64_t comp_mask; /**< fields beyond offset that are valid: enum pfndv_mr_mask */
	uint32_t mode;	    /**< enum pfndv_mode, never DEFAULT */
	uint32_t state;	    /**< enum pfndv_state */
	uint32_t backend;   /**< enum pfndv_backend */
	uint32_t mmio;	    /**< 1: device memory, 0: RAM, or not PRESENT */
	uint64_t ranges;    /**< of the whole dma-buf; 0 unless PRESENT, and with VMAP */
	uint64_t page_size; /**< largest that all ranges consist of, bytes; 0 unless PRESENT and known */
	uint64_t metadata_bytes; /**< kernel memory that it takes by itself */
	uint64_t faults;	 /**< times an access had to map it */
	uint64_t invalidations;	 /**< times the exporter took the memory back */
	uint64_t prefetches;	 /**< times it was mapped on request */
	uint64_t bytes_read;	 /**< by RDMA, out of it */
	uint64_t bytes_written;	 /**< by RDMA, into it */
	uint64_t generation;	 /**< while it is the same, so are the ranges */
	uint64_t dmabuf_ino;	 /**< inode number of the dma-buf, as in fdinfo */
	uint64_t offset;	 /**< first byte in the dma-buf */
	uint32_t because;	 /**< enum pfndv_because: why that backend; since 1.1 */
	uint32_t reserved;	 /**< 0 */
};

/** Flags of pfndv_prefetch(). */
enum pfndv_prefetch_flags {
	PFNDV_PREFETCH_WRITE = 1 << 0,	 /**< it will be written to: check that it may be */
	PFNDV_PREFETCH_NO_WAIT = 1 << 1, /**< do nothing while the memory is moving */
	PFNDV_PREFETCH_ASYNC = 1 << 2,	 /**< return at once, and never know how it ended */
};

/**
 * Can memory on dma-bufs be registered here? Opens the device for a moment.
 * If not, pfndv_last_reason() says why not.
 */
bool pfndv_is_supported(struct ibv_device *device);

/** Fill @attr, @attr_size bytes large. EOPNOTSUPP if the driver has no pfn MRs. */
int pfndv_query_device(struct ibv_context *context, struct pfndv_device_attr *attr,
		       uint32_t attr_size);

/**
 * Register memory of a dma-buf. The result is an ordinary memory region, freed with
 * ibv_dereg_mr(); its addr is the offset in the dma-buf, as with ibv_reg_dmabuf_mr().
 * NULL with errno set if that fails.
 */
struct ibv_mr *pfndv_reg_dmabuf_mr(struct ibv_pd *pd, const struct pfndv_dmabuf_mr_attr *attr,
				   uint32_t attr_size);

/**
 * Fill @attr, @attr_size bytes large, for any memory region on a dma-buf, however
 * it was registered. EOPNOTSUPP if it is on other memory.
 */
int pfndv_query_mr(struct ibv_mr *mr, struct pfndv_mr_attr *attr, uint32_t attr_size);

/**
 * Map the memory now and not at the next access. @addr and @length say what will be
 * accessed, in the addresses of work requests (from iova on); @flags is a mask of
 * enum pfndv_prefetch_flags.
 */
int pfndv_prefetch(struct ibv_mr *mr, uint64_t addr, uint64_t length, uint32_t flags);

/**
 * Why the last call of a function of this library by this thread that failed has
 * failed: a sentence, or "" if none has. Valid until the thread's next call.
 */
const char *pfndv_last_reason(void);

/** The name of a mode, state or backend; "unknown" for one this library knows not. */
const char *pfndv_mode_str(uint32_t mode);
const char *pfndv_state_str(uint32_t state);
const char *pfndv_backend_str(uint32_t backend);

/** Why that backend, in words; "unknown" for a reason this library knows not. Since 1.1. */
const char *pfndv_because_str(uint32_t because);

#ifdef __cplusplus
}
#endif

#endif /* INFINIBAND_PFNDV_H */
