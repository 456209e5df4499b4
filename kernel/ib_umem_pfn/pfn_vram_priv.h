/* SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB */
/*
 * Shared between the files of module pfn_vram only. pfn_vram_main.c opens with
 * the map of the module and its locks; uapi/linux/pfn_vram.h is what users see.
 */
#ifndef _PFN_VRAM_PRIV_H
#define _PFN_VRAM_PRIV_H

#include <linux/dma-buf-pfn.h>
#include <linux/kref.h>
#include <linux/list.h>
#include <linux/mutex.h>
#include <linux/rwsem.h>
#include <linux/spinlock.h>
#include <linux/wait.h>
#include <uapi/linux/pfn_vram.h>

struct dentry;
struct device;
struct dmem_cgroup_pool_state;
struct dmem_cgroup_region;
struct gen_pool;
struct seq_file;

/* Nobody is waited for longer than this. */
#define PFN_VRAM_PATIENCE	(10 * HZ)

/**
 * struct pfn_vram_dev - a device: some VRAM behind /dev/pfn_vramN
 * @ref: the driver while bound; open files, buffers and memory
 * @minor: the N
 * @backend: what the VRAM is
 * @bus_name: of the PCI device, or empty
 * @kind: how VRAM is lent
 * @caching: how VRAM is lent
 * @provider: whose MMIO it is, or NULL; not to be used once @dead
 * @pool: the VRAM that is free, by physical address
 * @ram_blocks: the RAM behind @pool, empty for a BAR
 * @alloc_lock: one allocation at a time; freeing needs no lock. Protects @dmem
 * @dmem: for cgroups that limit VRAM; NULL without them, or once unplugged
 * @io_lock: protects @io: held for reading while the CPU uses the mapping
 * @io: the kernel's mapping of a BAR; NULL once unplugged, and for RAM
 * @io_base: physical address behind @io
 * @lock: protects @bufs, @removed, @nr_bufs and writing @dead
 * @dead: unplugged, for good
 * @bufs: buffers alive, pfn_vram_buf.node
 * @removed: those of them that unplugging has dealt with
 * @nr_bufs: how many there are on both lists
 * @nr_vram: how many &struct pfn_vram_mem hold VRAM
 * @vram_idle: woken up when @nr_vram drops to 0
 * @debugfs: its directory there
 */
struct pfn_vram_dev {
	struct kref ref;
	u32 minor;
	enum pfn_vram_backend backend;
	char bus_name[32];

	enum dma_buf_pfn_kind kind;
	enum dma_buf_pfn_caching caching;
	struct p2pdma_provider *provider;

	struct gen_pool *pool;
	struct list_head ram_blocks;
	struct mutex alloc_lock;	/* see above */
	struct dmem_cgroup_region *dmem;

	struct rw_semaphore io_lock;
	void __iomem *io;
	phys_addr_t io_base;

	spinlock_t lock;		/* see above */
	bool dead;
	struct list_head bufs;
	struct list_head removed;
	u32 nr_bufs;

	atomic_t nr_vram;
	wait_queue_head_t vram_idle;
	struct dentry *debugfs;
};

/**
 * struct pfn_vram_mem - where a buffer's bytes are, or were
 * @ref: the buffer while its bytes are here; the framework while it has
 *	borrowed the ranges; the copy that fills or empties them
 * @dev: whose it is
 * @where: VRAM or the host's RAM
 * @vec: the ranges, in buffer order
 * @nr: number of ranges
 * @max: number of ranges @vec has room for
 * @charge: which cgroup was charged, or NULL
 * @charged: how much, bytes
 *
 * Constant from the moment pfn_vram_mem_alloc() returns it.
 */
struct pfn_vram_mem {
	struct kref ref;
	struct pfn_vram_dev *dev;
	enum pfn_vram_placement where;
	struct phys_vec *vec;
	size_t nr;
	size_t max;
	struct dmem_cgroup_pool_state *charge;
	u64 charged;
};

/* Is it behind an __iomem pointer? */
static inline bool pfn_vram_mem_is_io(const struct pfn_vram_mem *mem)
{
	return mem->where == PFN_VRAM_PLACEMENT_VRAM &&
	       mem->dev->kind == DMA_BUF_PFN_MMIO;
}

/* pfn_vram_main.c */
struct pfn_vram_dev *pfn_vram_dev_create(enum pfn_vram_backend backend,
					 const char *bus_name);
int pfn_vram_dev_register(struct pfn_vram_dev *dev, struct device *parent);
void pfn_vram_dev_unplug(struct pfn_vram_dev *dev);
void pfn_vram_dev_put(struct pfn_vram_dev *dev);

static inline struct pfn_vram_dev *pfn_vram_dev_get(struct pfn_vram_dev *dev)
{
	kref_get(&dev->ref);
	return dev;
}

/* pfn_vram_pci.c */
int pfn_vram_pci_init(void);
void pfn_vram_pci_exit(void);
unsigned int pfn_vram_pci_nr_bound(void);

/* pfn_vram_mem.c */
int pfn_vram_pool_init(struct pfn_vram_dev *dev);
int pfn_vram_pool_add_ram(struct pfn_vram_dev *dev, unsigned long nr_pages);
int pfn_vram_pool_add_io(struct pfn_vram_dev *dev, void __iomem *io,
			 phys_addr_t base, size_t size);
void pfn_vram_pool_fini(struct pfn_vram_dev *dev);

struct pfn_vram_mem *pfn_vram_mem_alloc(struct pfn_vram_dev *dev,
					enum pfn_vram_placement where, u64 size,
					u64 chunk, bool zero);
void pfn_vram_mem_put(struct pfn_vram_mem *mem);
int pfn_vram_mem_copy(const struct pfn_vram_mem *to,
		      const struct pfn_vram_mem *from, void *bounce);
int pfn_vram_mem_poison(const struct pfn_vram_mem *mem);
int pfn_vram_mem_find_touched(const struct pfn_vram_mem *mem, void *bounce,
			      phys_addr_t *where);

static inline struct pfn_vram_mem *pfn_vram_mem_get(struct pfn_vram_mem *mem)
{
	kref_get(&mem->ref);
	return mem;
}

/* pfn_vram_buf.c */
struct pfn_vram_buf;

int pfn_vram_buf_init(void);
void pfn_vram_buf_exit(void);
struct dma_buf *pfn_vram_buf_create(struct pfn_vram_dev *dev,
				    const struct pfn_vram_alloc *arg);
struct pfn_vram_buf *pfn_vram_buf_get(struct pfn_vram_dev *dev, int fd);
void pfn_vram_buf_put(struct pfn_vram_buf *buf);
int pfn_vram_buf_move(struct pfn_vram_buf *buf, struct pfn_vram_move *arg);
int pfn_vram_buf_revoke(struct pfn_vram_buf *buf);
int pfn_vram_buf_restore(struct pfn_vram_buf *buf,
			 const struct pfn_vram_restore *arg);
int pfn_vram_buf_info(struct pfn_vram_buf *buf, struct pfn_vram_buf_info *arg);
void pfn_vram_buf_remove_all(struct pfn_vram_dev *dev);
bool pfn_vram_buf_show(struct pfn_vram_dev *dev, loff_t n, struct seq_file *m);

/* pfn_vram_dmem.c */
int pfn_vram_dmem_register(struct pfn_vram_dev *dev);
void pfn_vram_dmem_unregister(struct pfn_vram_dev *dev);
int pfn_vram_dmem_charge(struct pfn_vram_mem *mem, u64 size);
void pfn_vram_dmem_uncharge(struct pfn_vram_mem *mem);

/* pfn_vram_quarantine.c */
struct pfn_vram_quarantine;

bool pfn_vram_quarantine_on(void);
struct pfn_vram_quarantine *pfn_vram_quarantine_new(struct pfn_vram_dev *dev,
						    u64 size);
void pfn_vram_quarantine_free(struct pfn_vram_quarantine *q);
struct pfn_vram_mem *pfn_vram_quarantine_enter(struct pfn_vram_quarantine *q,
					       struct pfn_vram_mem *old);
void pfn_vram_quarantine_check(struct pfn_vram_quarantine *q);
void pfn_vram_quarantine_show(struct seq_file *m);

/* pfn_vram_debugfs.c */
void pfn_vram_debugfs_init(void);
void pfn_vram_debugfs_exit(void);
void pfn_vram_debugfs_add(struct pfn_vram_dev *dev);
void pfn_vram_debugfs_remove(struct pfn_vram_dev *dev);

#endif /* _PFN_VRAM_PRIV_H */
