// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * pfn_edu: an importer whose DMA is not the CPU's, for QEMU's edu device. The
 * second worked example, beside rxe_pfn.c, of how a driver uses ib_umem_pfn: an
 * edu "import" is what a memory region is for an RDMA device.
 *
 *   this file		the device, its engine, imports, the ioctls
 *   pfn_edu_compare.c	measures mapping by ranges against scatterlists
 *   pfn_edu_synthetic.c	buffers to measure with that no machine has
 *
 * To follow a buffer takes two things. A transfer gets its addresses from
 * ib_umem_pfn_dma_map_and_lock() and starts the engine before it lets go of that
 * lock. import_stop(), which the exporter causes under the same lock, waits
 * until the engine has done with the import; after it no transfer can start on
 * it without mapping anew.
 *
 * Locks, outermost first:
 *   edu->files_lock	who has the device open
 *   file->lock		one call at a time for each open file
 *   edu->engine	one transfer at a time
 *   dma_resv		of a buffer: where it is; held by whoever calls stop
 *
 * There is no MODULE_DEVICE_TABLE on purpose: whoever wants this driver for a
 * device that exists to be played with loads it.
 */
#include <linux/dma-mapping.h>
#include <linux/fs.h>
#include <linux/idr.h>
#include <linux/iopoll.h>
#include <linux/kref.h>
#include <linux/list.h>
#include <linux/miscdevice.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/pci.h>
#include <linux/slab.h>
#include <linux/uaccess.h>
#include <linux/xarray.h>
#include <rdma/ib_umem_pfn.h>
#include <rdma/ib_verbs.h>

#include "pfn_edu_priv.h"

#define EDU_DMA_SRC	0x80
#define EDU_DMA_DST	0x88
#define EDU_DMA_COUNT	0x90
#define EDU_DMA_CMD	0x98
#define EDU_DMA_RUN	BIT(0)
#define EDU_DMA_TO_RAM	BIT(1)
#define EDU_MMIO_SIZE	0xa0
/* Where the engine sees the device's own memory. */
#define EDU_MEM		0x40000

/* A transfer takes 100 ms; of the guest's time, when the host is busy. */
#define EDU_POLL_US	2000
#define EDU_TIMEOUT_US	(10 * USEC_PER_SEC)

#define EDU_MAX_IMPORTS	4096

static unsigned int dma_bits = 28;
module_param(dma_bits, uint, 0444);
MODULE_PARM_DESC(dma_bits, "address bits that the device puts out; QEMU's dma_mask= must agree (28)");

static bool test_knobs;
module_param(test_knobs, bool, 0600);
MODULE_PARM_DESC(test_knobs, "for tests only: allow DMA at stale addresses, synthetic buffers and comparisons");

/**
 * struct edu_dev - a device that is bound, or was when its files were opened
 * @ref: the driver while bound, and each open file
 * @pdev: the device; not to be used by dead files
 * @mmio: its registers; likewise
 * @misc: the node
 * @name: of the node
 * @id: the N of the node
 * @files_lock: protects @files
 * @files: open files, edu_file.node
 * @engine: held during a transfer
 * @active: whose memory the engine may be using, or NULL; set under that
 *	import's reservation lock
 * @broken: a transfer did not end; the device is off the bus for good
 * @going: the driver is being unbound, and waits for calls to end
 */
struct edu_dev {
	struct kref ref;
	struct pci_dev *pdev;
	void __iomem *mmio;
	struct miscdevice misc;
	char name[16];
	int id;
	struct mutex files_lock;	/* see above */
	struct list_head files;
	struct mutex engine;		/* see above */
	struct edu_import *active;
	bool broken;
	bool going;
};

/**
 * struct edu_file - an open file
 * @edu: the device
 * @node: in its list
 * @lock: protects what follows
 * @dead: the device is gone
 * @imports: by id
 * @held: mappings that are being measured
 */
struct edu_file {
	struct edu_dev *edu;
	struct list_head node;
	struct mutex lock;		/* see above */
	bool dead;
	struct xarray imports;
	struct pfn_edu_held held;
};

/**
 * struct edu_import - borrowed memory
 * @edu: the device
 * @umem: whose
 * @length: of it, bytes
 * @writable: the device may write
 * @dma: where the device sees it, while mapped
 * @mapped: is it; under the reservation lock, as what follows
 * @maps: times it was
 * @stops: times that ended because the exporter wanted it
 * @stale_addr: DMA address of its first byte when it was mapped last
 * @stale_bus: whose address that is
 */
struct edu_import {
	struct edu_dev *edu;
	struct ib_umem_pfn *umem;
	u64 length;
	bool writable;
	struct ib_umem_pfn_dma dma;
	bool mapped;
	u64 maps;
	u64 stops;
	dma_addr_t stale_addr;
	enum pfn_dma_bus stale_bus;
};

static DEFINE_IDA(edu_ids);

static void edu_free(struct kref *ref)
{
	struct edu_dev *edu = container_of(ref, struct edu_dev, ref);

	mutex_destroy(&edu->engine);
	mutex_destroy(&edu->files_lock);
	kfree(edu);
}

/* The engine */

/* A device that was pulled out reads as all ones, and has no engine any more. */
static bool engine_is_idle(u64 cmd)
{
	return cmd == U64_MAX || !(cmd & EDU_DMA_RUN);
}

static int engine_wait(struct edu_dev *edu)
{
	u64 cmd;

	return read_poll_timeout(readq, cmd, engine_is_idle(cmd), EDU_POLL_US,
				 EDU_TIMEOUT_US, false,
				 edu->mmio + EDU_DMA_CMD);
}

/*
 * Wait, or see to it that nothing comes of what is still under way: edu cannot
 * abandon a transfer, but taking it off the bus ends them all, those to come too.
 */
static int engine_finish(struct edu_dev *edu)
{
	int err = engine_wait(edu);

	if (err) {
		/* First: who sees the engine idle afterwards must see this. */
		WRITE_ONCE(edu->broken, true);
		pci_clear_master(edu->pdev);
	}
	return err;
}

/* @mem + @length must be within the device's memory: else QEMU aborts. */
static void engine_start(struct edu_dev *edu, dma_addr_t addr, u32 mem,
			 u32 length, bool write)
{
	u64 inside = EDU_MEM + mem;

	writeq(write ? inside : addr, edu->mmio + EDU_DMA_SRC);
	writeq(write ? addr : inside, edu->mmio + EDU_DMA_DST);
	writeq(length, edu->mmio + EDU_DMA_COUNT);
	writeq(EDU_DMA_RUN | (write ? EDU_DMA_TO_RAM : 0),
	       edu->mmio + EDU_DMA_CMD);
}

/* Imports */

/* The exporter wants its memory back: see to it that the engine is out of it. */
static void import_stop(struct ib_umem_pfn_dma *dma, bool revoked)
{
	struct edu_import *imp = container_of(dma, struct edu_import, dma);
	struct edu_dev *edu = imp->edu;

	if (READ_ONCE(edu->active) == imp)
		engine_finish(edu);
	imp->mapped = false;
	imp->stops++;
}

/* Returns 0 with the reservation lock held, see ib_umem_pfn_unlock(). */
static int import_map_and_lock(struct edu_import *imp, char *reason)
{
	int err;

	err = ib_umem_pfn_dma_map_and_lock(imp->umem, &imp->dma,
					   &imp->edu->pdev->dev, 0,
					   imp->length);
	if (err) {
		if (imp->dma.map.reason)
			strscpy(reason, imp->dma.map.reason,
				PFN_EDU_REASON_SIZE);
		return err;
	}
	if (!imp->mapped) {
		imp->mapped = true;
		imp->maps++;
		imp->stale_addr = pfn_dma_map_addr(&imp->dma.map, 0, NULL);
		imp->stale_bus = imp->dma.map.bus;
	}
	return 0;
}

/*
 * What a driver whose device has a page table does at this point, with @list in
 * place of the table.
 */
static int import_list_blocks(struct edu_import *imp,
			      struct pfn_edu_blocks *arg, u64 *list)
{
	const struct pfn_dma_map *map = &imp->dma.map;
	struct ib_umem_pfn_block_iter biter;
	size_t i = 0;
	int err;

	err = import_map_and_lock(imp, arg->reason);
	if (err)
		return err;

	arg->pgsz = ib_umem_pfn_best_pgsz(map, arg->pgsz_bitmap, arg->iova);
	if (!arg->pgsz) {
		err = -EINVAL;
		goto out;
	}
	arg->blocks = ib_umem_pfn_num_blocks(map, arg->pgsz);
	if (arg->blocks > arg->max) {
		err = -ENOSPC;
		goto out;
	}
	ib_umem_pfn_for_each_block(map, &biter, arg->pgsz)
		list[i++] = ib_umem_pfn_block_addr(&biter);
out:
	ib_umem_pfn_unlock(imp->umem);
	return err;
}

static void import_free(struct edu_import *imp)
{
	ib_umem_pfn_release(imp->umem);
	kfree(imp);
}

/* Start the engine on the rest of @t from byte @done on, as far as it goes. */
static int import_start(struct edu_import *imp, struct pfn_edu_transfer *t,
			u32 done, u32 *piece)
{
	u64 contiguous;
	dma_addr_t addr;
	int err;

	err = import_map_and_lock(imp, t->reason);
	if (err)
		return err;

	addr = pfn_dma_map_addr(&imp->dma.map, t->offset + done, &contiguous);
	*piece = min_t(u64, contiguous, t->length - done);
	if (!done)
		t->dma_addr = addr;
	WRITE_ONCE(imp->edu->active, imp);
	engine_start(imp->edu, addr, t->mem_offset + done, *piece,
		     t->flags & PFN_EDU_WRITE);
	ib_umem_pfn_unlock(imp->umem);
	return 0;
}

static int import_transfer(struct edu_import *imp, struct pfn_edu_transfer *t)
{
	struct edu_dev *edu = imp->edu;
	u32 done, piece;
	int err;

	for (done = 0; done < t->length; done += piece) {
		err = import_start(imp, t, done, &piece);
		if (err)
			return err;
		t->pieces++;
		err = engine_finish(edu);
		WRITE_ONCE(edu->active, NULL);
		/* import_stop() may have given it up meanwhile. */
		if (!err && READ_ONCE(edu->broken))
			err = -EIO;
		if (err)
			return err;
	}
	return 0;
}

static int import_transfer_stale(struct edu_import *imp,
				 struct pfn_edu_transfer *t)
{
	if (!READ_ONCE(test_knobs))
		return -EPERM;
	/* Without an IOMMU that would be anybody's memory. */
	if (imp->stale_bus != PFN_DMA_IOVA)
		return -EOPNOTSUPP;

	t->dma_addr = imp->stale_addr + t->offset;
	t->pieces = 1;
	engine_start(imp->edu, t->dma_addr, t->mem_offset, t->length,
		     t->flags & PFN_EDU_WRITE);
	return engine_finish(imp->edu);
}

/* The ioctls; file->lock is held, and the device is there. */

static int ioctl_info(struct edu_file *file, void *data)
{
	struct pci_dev *pdev = file->edu->pdev;
	struct pfn_edu_info *arg = data;

	*arg = (struct pfn_edu_info) {
		.dma_mask = dma_get_mask(&pdev->dev),
	};
	strscpy(arg->bus_name, pci_name(pdev));
	return 0;
}

static int ioctl_import(struct edu_file *file, void *data)
{
	struct pfn_edu_import *arg = data;
	bool writable = !(arg->flags & PFN_EDU_READ_ONLY);
	struct ib_umem_pfn_attr attr = {
		.fd = arg->fd,
		.offset = arg->offset,
		.length = arg->length,
		.access = writable ? IB_ACCESS_LOCAL_WRITE : 0,
		.mode = arg->mode,
		.eventfd = -1,
	};
	struct edu_import *imp;
	int err;

	memset(arg->reason, 0, sizeof(arg->reason));
	if (arg->flags & ~PFN_EDU_READ_ONLY)
		return -EINVAL;
	imp = kzalloc_obj(*imp, GFP_KERNEL_ACCOUNT);
	if (!imp)
		return -ENOMEM;
	imp->edu = file->edu;
	imp->length = arg->length;
	imp->writable = writable;
	imp->dma.stop = import_stop;

	imp->umem = ib_umem_pfn_get_for_dma(&file->edu->pdev->dev, &attr);
	if (IS_ERR(imp->umem)) {
		err = PTR_ERR(imp->umem);
		if (attr.reason)
			strscpy(arg->reason, attr.reason);
		goto err_free;
	}
	err = xa_alloc(&file->imports, &arg->id, imp,
		       XA_LIMIT(1, EDU_MAX_IMPORTS), GFP_KERNEL_ACCOUNT);
	if (err)
		goto err_release;
	return 0;

err_release:
	ib_umem_pfn_release(imp->umem);
err_free:
	kfree(imp);
	return err;
}

static int ioctl_release(struct edu_file *file, void *data)
{
	struct pfn_edu_id *arg = data;
	struct edu_import *imp;

	if (arg->reserved)
		return -EINVAL;
	imp = xa_erase(&file->imports, arg->id);
	if (!imp)
		return -ENOENT;
	import_free(imp);
	return 0;
}

static int ioctl_map(struct edu_file *file, void *data)
{
	struct pfn_edu_id *arg = data;
	struct edu_import *imp = xa_load(&file->imports, arg->id);
	int err;

	memset(arg->reason, 0, sizeof(arg->reason));
	if (arg->reserved)
		return -EINVAL;
	if (!imp)
		return -ENOENT;
	err = import_map_and_lock(imp, arg->reason);
	if (!err)
		ib_umem_pfn_unlock(imp->umem);
	return err;
}

/* No transfer is running on it: that would have file->lock. */
static int ioctl_unmap(struct edu_file *file, void *data)
{
	struct pfn_edu_id *arg = data;
	struct edu_import *imp = xa_load(&file->imports, arg->id);

	if (arg->reserved)
		return -EINVAL;
	if (!imp)
		return -ENOENT;
	ib_umem_pfn_dma_unmap(imp->umem, &imp->dma);
	imp->mapped = false;
	return 0;
}

static int ioctl_transfer(struct edu_file *file, void *data)
{
	struct pfn_edu_transfer *arg = data;
	struct edu_import *imp = xa_load(&file->imports, arg->id);
	int err;

	memset(arg->reason, 0, sizeof(arg->reason));
	arg->pieces = 0;
	if (arg->reserved || (arg->flags & ~(PFN_EDU_WRITE | PFN_EDU_STALE)))
		return -EINVAL;
	if (!imp)
		return -ENOENT;
	if (!arg->length || arg->length > PFN_EDU_MEM_SIZE ||
	    arg->mem_offset > PFN_EDU_MEM_SIZE - arg->length ||
	    arg->length > imp->length ||
	    arg->offset > imp->length - arg->length)
		return -EINVAL;
	if (!imp->writable && (arg->flags & PFN_EDU_WRITE) &&
	    !(arg->flags & PFN_EDU_STALE))
		return -EACCES;

	err = mutex_lock_interruptible(&file->edu->engine);
	if (err)
		return err;
	if (READ_ONCE(file->edu->broken))
		err = -EIO;
	else if (arg->flags & PFN_EDU_STALE)
		err = import_transfer_stale(imp, arg);
	else
		err = import_transfer(imp, arg);
	mutex_unlock(&file->edu->engine);
	return err;
}

/* The umem's lock keeps the mapping as it is while we look. */
static int ioctl_query(struct edu_file *file, void *data)
{
	struct pfn_edu_query *arg = data;
	struct edu_import *imp = xa_load(&file->imports, arg->id);
	const struct pfn_dma_map *map;

	if (!imp)
		return -ENOENT;
	*arg = (struct pfn_edu_query) {
		.id = arg->id,
		.writable = imp->writable,
	};

	ib_umem_pfn_lock(imp->umem);
	map = &imp->dma.map;
	arg->maps = imp->maps;
	arg->stops = imp->stops;
	arg->bus = map->bus;
	if (map->bus != PFN_DMA_UNMAPPED) {
		arg->coherent = map->coherent;
		arg->dma_addr = pfn_dma_map_addr(map, 0, NULL);
		arg->extents = map->extents;
		arg->metadata_bytes = pfn_dma_map_metadata(map);
	}
	ib_umem_pfn_unlock(imp->umem);
	return 0;
}

static int ioctl_blocks(struct edu_file *file, void *data)
{
	struct pfn_edu_blocks *arg = data;
	struct edu_import *imp = xa_load(&file->imports, arg->id);
	u64 *list;
	int err;

	memset(arg->reason, 0, sizeof(arg->reason));
	arg->pgsz = 0;
	arg->blocks = 0;
	if (arg->max > PFN_EDU_MAX_BLOCKS)
		return -EINVAL;
	if (!imp)
		return -ENOENT;
	list = kvmalloc_array(arg->max, sizeof(*list), GFP_KERNEL_ACCOUNT);
	if (!list)
		return -ENOMEM;
	err = import_list_blocks(imp, arg, list);
	/* Not under the reservation lock, which page faults take. */
	if (!err && copy_to_user(u64_to_user_ptr(arg->addrs), list,
				 arg->blocks * sizeof(*list)))
		err = -EFAULT;
	kvfree(list);
	return err;
}

static int ioctl_synthetic(struct edu_file *file, void *data)
{
	if (!READ_ONCE(test_knobs))
		return -EPERM;
	return pfn_edu_synthetic(&file->edu->pdev->dev, data);
}

static int ioctl_compare(struct edu_file *file, void *data)
{
	/* The other way may WARN about memory that the device cannot reach. */
	if (!READ_ONCE(test_knobs))
		return -EPERM;
	return pfn_edu_compare(&file->edu->pdev->dev, &file->edu->going, data);
}

static int ioctl_hold(struct edu_file *file, void *data)
{
	if (!READ_ONCE(test_knobs))
		return -EPERM;
	return pfn_edu_hold(&file->held, &file->edu->pdev->dev,
			    &file->edu->going, data);
}

static int ioctl_drop(struct edu_file *file, void *data)
{
	pfn_edu_drop(&file->held);
	return 0;
}

static const struct {
	unsigned int cmd;
	int (*call)(struct edu_file *file, void *data);
} edu_ioctls[] = {
	{ PFN_EDU_IOC_INFO, ioctl_info },
	{ PFN_EDU_IOC_IMPORT, ioctl_import },
	{ PFN_EDU_IOC_RELEASE, ioctl_release },
	{ PFN_EDU_IOC_MAP, ioctl_map },
	{ PFN_EDU_IOC_UNMAP, ioctl_unmap },
	{ PFN_EDU_IOC_TRANSFER, ioctl_transfer },
	{ PFN_EDU_IOC_QUERY, ioctl_query },
	{ PFN_EDU_IOC_SYNTHETIC, ioctl_synthetic },
	{ PFN_EDU_IOC_COMPARE, ioctl_compare },
	{ PFN_EDU_IOC_BLOCKS, ioctl_blocks },
	{ PFN_EDU_IOC_HOLD, ioctl_hold },
	{ PFN_EDU_IOC_DROP, ioctl_drop },
};

union edu_arg {
	struct pfn_edu_info info;
	struct pfn_edu_import import;
	struct pfn_edu_id id;
	struct pfn_edu_transfer transfer;
	struct pfn_edu_query query;
	struct pfn_edu_synthetic synthetic;
	struct pfn_edu_compare compare;
	struct pfn_edu_blocks blocks;
	struct pfn_edu_hold hold;
};

static int edu_call(struct edu_file *file,
		    int (*call)(struct edu_file *file, void *data), void *data)
{
	int err;

	err = mutex_lock_interruptible(&file->lock);
	if (err)
		return err;
	err = file->dead ? -ENODEV : call(file, data);
	mutex_unlock(&file->lock);
	return err;
}

/* Results are copied out after a failure, too: they have the reason. */
static long edu_ioctl(struct file *filp, unsigned int cmd, unsigned long user)
{
	struct edu_file *file = filp->private_data;
	void __user *uarg = (void __user *)user;
	union edu_arg arg = {};
	size_t i;
	int err;

	for (i = 0; i < ARRAY_SIZE(edu_ioctls); i++)
		if (edu_ioctls[i].cmd == cmd)
			break;
	if (i == ARRAY_SIZE(edu_ioctls))
		return -ENOTTY;

	if ((_IOC_DIR(cmd) & _IOC_WRITE) &&
	    copy_from_user(&arg, uarg, _IOC_SIZE(cmd)))
		return -EFAULT;
	err = edu_call(file, edu_ioctls[i].call, &arg);
	if ((_IOC_DIR(cmd) & _IOC_READ) &&
	    copy_to_user(uarg, &arg, _IOC_SIZE(cmd)))
		return -EFAULT;
	return err;
}

static int edu_open(struct inode *inode, struct file *filp)
{
	struct edu_dev *edu = container_of(filp->private_data, struct edu_dev,
					   misc);
	struct edu_file *file;

	file = kzalloc_obj(*file, GFP_KERNEL_ACCOUNT);
	if (!file)
		return -ENOMEM;
	file->edu = edu;
	mutex_init(&file->lock);
	xa_init_flags(&file->imports, XA_FLAGS_ALLOC1 | XA_FLAGS_ACCOUNT);
	kref_get(&edu->ref);

	mutex_lock(&edu->files_lock);
	list_add(&file->node, &edu->files);
	mutex_unlock(&edu->files_lock);
	filp->private_data = file;
	return nonseekable_open(inode, filp);
}

static void file_drop_mappings(struct edu_file *file)
{
	struct edu_import *imp;
	unsigned long id;

	xa_for_each(&file->imports, id, imp)
		import_free(imp);
	xa_destroy(&file->imports);
	pfn_edu_drop(&file->held);
}

static int edu_close(struct inode *inode, struct file *filp)
{
	struct edu_file *file = filp->private_data;
	struct edu_dev *edu = file->edu;

	/*
	 * With the lock: until this is done edu_remove() must not return, as
	 * these mappings are of its device.
	 */
	mutex_lock(&edu->files_lock);
	list_del(&file->node);
	if (!file->dead)
		file_drop_mappings(file);
	mutex_unlock(&edu->files_lock);

	mutex_destroy(&file->lock);
	kfree(file);
	kref_put(&edu->ref, edu_free);
	return 0;
}

static const struct file_operations edu_fops = {
	.owner = THIS_MODULE,
	.open = edu_open,
	.release = edu_close,
	.unlocked_ioctl = edu_ioctl,
	.compat_ioctl = compat_ptr_ioctl,
};

/* The device */

static int edu_register(struct edu_dev *edu)
{
	int err;

	edu->id = ida_alloc(&edu_ids, GFP_KERNEL);
	if (edu->id < 0)
		return edu->id;
	snprintf(edu->name, sizeof(edu->name), "pfn_edu%d", edu->id);
	edu->misc = (struct miscdevice) {
		.minor = MISC_DYNAMIC_MINOR,
		.name = edu->name,
		.fops = &edu_fops,
		.parent = &edu->pdev->dev,
	};
	err = misc_register(&edu->misc);
	if (err)
		ida_free(&edu_ids, edu->id);
	return err;
}

static int edu_enable(struct pci_dev *pdev)
{
	int err;

	err = pcim_enable_device(pdev);
	if (err)
		return err;
	if (!dma_bits || dma_bits > 64)
		return dev_err_probe(&pdev->dev, -EINVAL,
				     "dma_bits must be 1 to 64\n");
	err = dma_set_mask_and_coherent(&pdev->dev, DMA_BIT_MASK(dma_bits));
	if (err)
		return dev_err_probe(&pdev->dev, err,
				     "no DMA with %u address bits here\n",
				     dma_bits);
	/* It is told one address at a time. RDMA NICs don't mind either. */
	dma_set_max_seg_size(&pdev->dev, UINT_MAX);
	if (pci_resource_len(pdev, 0) < EDU_MMIO_SIZE)
		return dev_err_probe(&pdev->dev, -ENODEV,
				     "BAR 0 is too small\n");
	return 0;
}

static int edu_probe(struct pci_dev *pdev, const struct pci_device_id *id)
{
	struct edu_dev *edu;
	int err;

	err = edu_enable(pdev);
	if (err)
		return err;

	edu = kzalloc_obj(*edu);
	if (!edu)
		return -ENOMEM;
	kref_init(&edu->ref);
	mutex_init(&edu->files_lock);
	mutex_init(&edu->engine);
	INIT_LIST_HEAD(&edu->files);
	edu->pdev = pdev;
	edu->mmio = pcim_iomap_region(pdev, 0, "pfn_edu");
	if (IS_ERR(edu->mmio)) {
		err = PTR_ERR(edu->mmio);
		goto err_put;
	}
	pci_set_master(pdev);
	err = edu_register(edu);
	if (err)
		goto err_clear;
	pci_set_drvdata(pdev, edu);
	return 0;

err_clear:
	pci_clear_master(pdev);
err_put:
	kref_put(&edu->ref, edu_free);
	return err;
}

/* Files may stay open, but have nothing any more. */
static void edu_remove(struct pci_dev *pdev)
{
	struct edu_dev *edu = pci_get_drvdata(pdev);
	struct edu_file *file;

	/* Who measures has a file's lock for as long as that takes. */
	WRITE_ONCE(edu->going, true);
	misc_deregister(&edu->misc);
	mutex_lock(&edu->files_lock);
	list_for_each_entry(file, &edu->files, node) {
		mutex_lock(&file->lock);
		file_drop_mappings(file);
		file->dead = true;
		mutex_unlock(&file->lock);
	}
	mutex_unlock(&edu->files_lock);
	pci_clear_master(pdev);
	ida_free(&edu_ids, edu->id);
	kref_put(&edu->ref, edu_free);
}

static const struct pci_device_id edu_pci_ids[] = {
	{ PCI_DEVICE(0x1234, 0x11e8) },
	{ }
};

static struct pci_driver edu_driver = {
	.name = "pfn_edu",
	.id_table = edu_pci_ids,
	.probe = edu_probe,
	.remove = edu_remove,
	/* Whoever loads the module wants the node. */
	.driver.probe_type = PROBE_FORCE_SYNCHRONOUS,
};
module_pci_driver(edu_driver);

MODULE_DESCRIPTION("DMA between dma-bufs and QEMU's edu device");
MODULE_AUTHOR("umem-pfn");
MODULE_LICENSE("Dual BSD/GPL");
MODULE_IMPORT_NS("DMA_BUF");
MODULE_IMPORT_NS("DMA_BUF_PFN");
MODULE_IMPORT_NS("IB_UMEM_PFN");
