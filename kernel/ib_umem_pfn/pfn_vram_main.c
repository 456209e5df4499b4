// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * pfn_vram: a stand-in for a GPU's memory manager, that is, an exporter of
 * dma-bufs with everything a GPU does to its memory and nothing else.
 *
 *   this file		devices, their nodes, the ioctls
 *   pfn_vram_pci.c	VRAM that is a PCI BAR
 *   pfn_vram_mem.c	who has which physical memory; zeroing and copying it
 *   pfn_vram_dmem.c	VRAM on the bill of a cgroup
 *   pfn_vram_buf.c	buffers: export, move, revoke, restore, unplug
 *   pfn_vram_quarantine.c	test aid: old memory that must not be touched
 *   pfn_vram_debugfs.c	all of it to be looked at
 *
 * The words: a *device* has a pool of VRAM. A *buffer* is a dma-buf of a
 * device. A buffer's bytes are in a *mem*, a list of physical ranges that never
 * changes: moving a buffer gives it another mem.
 *
 * What keeps what alive: open file -> device; buffer -> its mem and device;
 * mem -> device; framework and copies -> mem. A device that is unplugged drops
 * out of the table of devices, loses its mapping of the BAR and says -ENODEV to
 * everything, but its struct and its accounting stay until the last mem has
 * come home. Files and dma-bufs hold the module.
 *
 * Locks, outermost first:
 *   devs_lock		the table of devices
 *   dma_resv		of a buffer: where it is
 *   dev->io_lock	read: CPU accesses to the BAR; write: unmapping it
 *   dev->lock		spinlock: the list of buffers
 *   dev->alloc_lock	stands alone; memory is allocated before any lock is
 *			taken, and freeing it needs none
 * A copy takes nothing but io_lock, so that everybody may wait for its fence.
 */
#include <linux/device.h>
#include <linux/dma-buf.h>
#include <linux/fcntl.h>
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/genalloc.h>
#include <linux/log2.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/slab.h>
#include <linux/uaccess.h>
#include <linux/xarray.h>

#include "pfn_vram_priv.h"

#define PFN_VRAM_MINORS		256
#define PFN_VRAM_RAM_MIB	64

static int ram_mib = -1;
module_param(ram_mib, int, 0444);
MODULE_PARM_DESC(ram_mib, "MiB of RAM to set aside as VRAM: 0 none, -1 64 MiB if there is no PCI device (default)");

static DEFINE_MUTEX(devs_lock);		/* devs: finding and leaving */
static DEFINE_XARRAY_ALLOC(devs);	/* by minor */
static struct pfn_vram_dev *ram_dev;
static const struct class *pfn_vram_class;
static int chrdev_major;

static int pfn_vram_open(struct inode *inode, struct file *file)
{
	struct pfn_vram_dev *dev;

	mutex_lock(&devs_lock);
	dev = xa_load(&devs, iminor(inode));
	if (dev)
		pfn_vram_dev_get(dev);
	mutex_unlock(&devs_lock);
	if (!dev)
		return -ENODEV;

	file->private_data = dev;
	return nonseekable_open(inode, file);
}

static int pfn_vram_close(struct inode *inode, struct file *file)
{
	pfn_vram_dev_put(file->private_data);
	return 0;
}

static int ioctl_dev_info(struct pfn_vram_dev *dev, void __user *uarg)
{
	struct pfn_vram_dev_info arg = {
		.backend = dev->backend,
		.vram_size = gen_pool_size(dev->pool),
		.vram_free = gen_pool_avail(dev->pool),
	};

	strscpy_pad(arg.bus_name, dev->bus_name);
	spin_lock(&dev->lock);
	arg.buffers = dev->nr_bufs;
	spin_unlock(&dev->lock);

	return copy_to_user(uarg, &arg, sizeof(arg)) ? -EFAULT : 0;
}

static bool placement_is_valid(u32 placement)
{
	return placement == PFN_VRAM_PLACEMENT_VRAM ||
	       placement == PFN_VRAM_PLACEMENT_SYSTEM;
}

static bool chunk_is_valid(u64 chunk)
{
	return !chunk || (chunk >= PAGE_SIZE && is_power_of_2(chunk));
}

static bool fd_flags_are_valid(u32 flags)
{
	if (flags & ~(O_CLOEXEC | O_ACCMODE))
		return false;
	return (flags & O_ACCMODE) == O_RDONLY || (flags & O_ACCMODE) == O_RDWR;
}

static bool alloc_is_valid(const struct pfn_vram_alloc *arg)
{
	return arg->size && PAGE_ALIGNED(arg->size) &&
	       chunk_is_valid(arg->chunk) &&
	       placement_is_valid(arg->placement) &&
	       !(arg->caps & ~PFN_VRAM_CAP_ALL) &&
	       fd_flags_are_valid(arg->fd_flags) && !arg->reserved;
}

static int ioctl_alloc(struct pfn_vram_dev *dev, void __user *uarg)
{
	struct pfn_vram_alloc arg;
	struct dma_buf *dmabuf;
	int fd;

	if (copy_from_user(&arg, uarg, sizeof(arg)))
		return -EFAULT;
	if (!alloc_is_valid(&arg))
		return -EINVAL;

	fd = get_unused_fd_flags(arg.fd_flags & O_CLOEXEC);
	if (fd < 0)
		return fd;

	dmabuf = pfn_vram_buf_create(dev, &arg);
	if (IS_ERR(dmabuf)) {
		put_unused_fd(fd);
		return PTR_ERR(dmabuf);
	}

	arg.fd = fd;
	if (copy_to_user(uarg, &arg, sizeof(arg))) {
		dma_buf_put(dmabuf);
		put_unused_fd(fd);
		return -EFAULT;
	}

	/* From here on it is the user's. */
	dma_buf_fd_install(dmabuf, fd);
	return 0;
}

static int ioctl_move(struct pfn_vram_dev *dev, void __user *uarg)
{
	struct pfn_vram_move arg;
	struct pfn_vram_buf *buf;
	int ret;

	if (copy_from_user(&arg, uarg, sizeof(arg)))
		return -EFAULT;
	if (!placement_is_valid(arg.placement) || !chunk_is_valid(arg.chunk) ||
	    arg.flags & ~PFN_VRAM_MOVE_ASYNC || arg.reserved)
		return -EINVAL;

	buf = pfn_vram_buf_get(dev, arg.fd);
	if (IS_ERR(buf))
		return PTR_ERR(buf);
	ret = pfn_vram_buf_move(buf, &arg);
	pfn_vram_buf_put(buf);
	if (ret)
		return ret;

	return copy_to_user(uarg, &arg, sizeof(arg)) ? -EFAULT : 0;
}

static int ioctl_revoke(struct pfn_vram_dev *dev, void __user *uarg)
{
	struct pfn_vram_revoke arg;
	struct pfn_vram_buf *buf;
	int ret;

	if (copy_from_user(&arg, uarg, sizeof(arg)))
		return -EFAULT;
	if (arg.reserved)
		return -EINVAL;

	buf = pfn_vram_buf_get(dev, arg.fd);
	if (IS_ERR(buf))
		return PTR_ERR(buf);
	ret = pfn_vram_buf_revoke(buf);
	pfn_vram_buf_put(buf);
	return ret;
}

static int ioctl_restore(struct pfn_vram_dev *dev, void __user *uarg)
{
	struct pfn_vram_restore arg;
	struct pfn_vram_buf *buf;
	int ret;

	if (copy_from_user(&arg, uarg, sizeof(arg)))
		return -EFAULT;
	if (!placement_is_valid(arg.placement) || !chunk_is_valid(arg.chunk) ||
	    arg.reserved)
		return -EINVAL;

	buf = pfn_vram_buf_get(dev, arg.fd);
	if (IS_ERR(buf))
		return PTR_ERR(buf);
	ret = pfn_vram_buf_restore(buf, &arg);
	pfn_vram_buf_put(buf);
	return ret;
}

static int ioctl_buf_info(struct pfn_vram_dev *dev, void __user *uarg)
{
	struct pfn_vram_buf_info arg;
	struct pfn_vram_buf *buf;
	int ret;

	if (copy_from_user(&arg, uarg, sizeof(arg)))
		return -EFAULT;

	buf = pfn_vram_buf_get(dev, arg.fd);
	if (IS_ERR(buf))
		return PTR_ERR(buf);
	ret = pfn_vram_buf_info(buf, &arg);
	pfn_vram_buf_put(buf);
	if (ret)
		return ret;

	return copy_to_user(uarg, &arg, sizeof(arg)) ? -EFAULT : 0;
}

static long pfn_vram_ioctl(struct file *file, unsigned int cmd,
			   unsigned long uarg)
{
	struct pfn_vram_dev *dev = file->private_data;
	void __user *ptr = (void __user *)uarg;

	/* Spares callers work; where it matters, it is checked under a lock. */
	if (READ_ONCE(dev->dead))
		return -ENODEV;

	switch (cmd) {
	case PFN_VRAM_IOC_DEV_INFO:
		return ioctl_dev_info(dev, ptr);
	case PFN_VRAM_IOC_ALLOC:
		return ioctl_alloc(dev, ptr);
	case PFN_VRAM_IOC_MOVE:
		return ioctl_move(dev, ptr);
	case PFN_VRAM_IOC_REVOKE:
		return ioctl_revoke(dev, ptr);
	case PFN_VRAM_IOC_RESTORE:
		return ioctl_restore(dev, ptr);
	case PFN_VRAM_IOC_BUF_INFO:
		return ioctl_buf_info(dev, ptr);
	}
	return -ENOTTY;
}

static const struct file_operations pfn_vram_fops = {
	.owner = THIS_MODULE,
	.open = pfn_vram_open,
	.release = pfn_vram_close,
	.unlocked_ioctl = pfn_vram_ioctl,
	.compat_ioctl = compat_ptr_ioctl,
};

static char *pfn_vram_devnode(const struct device *dev, umode_t *mode)
{
	if (mode)
		*mode = 0660;
	return NULL;
}

static int class_init(void)
{
	struct class *class = class_create("pfn_vram");

	if (IS_ERR(class))
		return PTR_ERR(class);
	class->devnode = pfn_vram_devnode;
	pfn_vram_class = class;
	return 0;
}

/**
 * pfn_vram_dev_create - make a device that has no VRAM yet
 * @backend: what its VRAM will be
 * @bus_name: of the PCI device, or ""
 *
 * Return: the device, with one reference for the caller; ERR_PTR(-ENOMEM).
 */
struct pfn_vram_dev *pfn_vram_dev_create(enum pfn_vram_backend backend,
					 const char *bus_name)
{
	struct pfn_vram_dev *dev;
	int err;

	dev = kzalloc_obj(*dev);
	if (!dev)
		return ERR_PTR(-ENOMEM);

	kref_init(&dev->ref);
	dev->backend = backend;
	strscpy(dev->bus_name, bus_name);
	INIT_LIST_HEAD(&dev->ram_blocks);
	mutex_init(&dev->alloc_lock);
	init_rwsem(&dev->io_lock);
	spin_lock_init(&dev->lock);
	INIT_LIST_HEAD(&dev->bufs);
	INIT_LIST_HEAD(&dev->removed);
	init_waitqueue_head(&dev->vram_idle);

	err = pfn_vram_pool_init(dev);
	if (err) {
		kfree(dev);
		return ERR_PTR(err);
	}
	return dev;
}

static void pfn_vram_dev_free(struct kref *ref)
{
	struct pfn_vram_dev *dev = container_of(ref, struct pfn_vram_dev, ref);

	pfn_vram_pool_fini(dev);
	kfree(dev);
}

/**
 * pfn_vram_dev_put - drop a reference
 * @dev: the device, or NULL
 *
 * Context: process context, may sleep.
 */
void pfn_vram_dev_put(struct pfn_vram_dev *dev)
{
	if (dev)
		kref_put(&dev->ref, pfn_vram_dev_free);
}

/**
 * pfn_vram_dev_register - open for business
 * @dev: a device with all its VRAM
 * @parent: the PCI device, or NULL
 *
 * Return: 0, or a negative errno: then nobody has seen @dev.
 */
int pfn_vram_dev_register(struct pfn_vram_dev *dev, struct device *parent)
{
	struct device *node;
	int err;

	mutex_lock(&devs_lock);
	err = xa_alloc(&devs, &dev->minor, NULL,
		       XA_LIMIT(0, PFN_VRAM_MINORS - 1), GFP_KERNEL);
	if (err)
		goto out_unlock;
	err = pfn_vram_dmem_register(dev);
	if (err)
		goto err_minor;

	node = device_create(pfn_vram_class, parent,
			     MKDEV(chrdev_major, dev->minor), NULL,
			     "pfn_vram%u", dev->minor);
	if (IS_ERR(node)) {
		err = PTR_ERR(node);
		goto err_dmem;
	}

	/* The slot is there, so this does not allocate. */
	xa_store(&devs, dev->minor, dev, GFP_KERNEL);
	pfn_vram_debugfs_add(dev);
	mutex_unlock(&devs_lock);
	return 0;

err_dmem:
	pfn_vram_dmem_unregister(dev);
err_minor:
	xa_erase(&devs, dev->minor);
out_unlock:
	mutex_unlock(&devs_lock);
	return err;
}

/**
 * pfn_vram_dev_unplug - the device goes, whatever anybody is doing with it
 * @dev: a registered device; the caller's reference is not dropped
 *
 * When this returns, no CPU access of this module and of pfn importers to the
 * VRAM is going on, and there will be none. Not so for a legacy importer that
 * does not let go within %PFN_VRAM_PATIENCE: there is nothing more to be done
 * about one that still has DMA on its way to a device that was pulled out.
 *
 * Context: process context, sleeps.
 */
void pfn_vram_dev_unplug(struct pfn_vram_dev *dev)
{
	pfn_vram_debugfs_remove(dev);
	/* Before the minor, and with it the region's name, is free again. */
	pfn_vram_dmem_unregister(dev);
	mutex_lock(&devs_lock);
	device_destroy(pfn_vram_class, MKDEV(chrdev_major, dev->minor));
	xa_erase(&devs, dev->minor);
	mutex_unlock(&devs_lock);

	/* No new buffers from here on, */
	spin_lock(&dev->lock);
	WRITE_ONCE(dev->dead, true);
	spin_unlock(&dev->lock);

	/* the old ones are revoked, */
	pfn_vram_buf_remove_all(dev);

	/* and copies stop at their next step and signal their fences. */
	down_write(&dev->io_lock);
	dev->io = NULL;
	up_write(&dev->io_lock);

	if (!wait_event_timeout(dev->vram_idle, !atomic_read(&dev->nr_vram),
				PFN_VRAM_PATIENCE))
		pr_warn("pfn_vram%u: unplugged while an importer still holds VRAM\n",
			dev->minor);
}

static int ram_dev_create(unsigned long mib)
{
	struct pfn_vram_dev *dev;
	int err;

	dev = pfn_vram_dev_create(PFN_VRAM_BACKEND_RAM, "");
	if (IS_ERR(dev))
		return PTR_ERR(dev);

	err = pfn_vram_pool_add_ram(dev, mib << (20 - PAGE_SHIFT));
	if (!err)
		err = pfn_vram_dev_register(dev, NULL);
	if (err) {
		pfn_vram_dev_put(dev);
		return err;
	}

	ram_dev = dev;
	return 0;
}

/* How much RAM to set aside, now that we know which PCI devices there are. */
static unsigned long ram_dev_mib(void)
{
	if (ram_mib >= 0)
		return ram_mib;
	return pfn_vram_pci_nr_bound() ? 0 : PFN_VRAM_RAM_MIB;
}

static int __init pfn_vram_init(void)
{
	unsigned long mib;
	int err;

	if (ram_mib < -1) {
		pr_err("pfn_vram: ram_mib must be -1 or more\n");
		return -EINVAL;
	}

	err = pfn_vram_buf_init();
	if (err)
		return err;
	err = class_init();
	if (err)
		goto err_buf;
	chrdev_major = register_chrdev(0, "pfn_vram", &pfn_vram_fops);
	if (chrdev_major < 0) {
		err = chrdev_major;
		goto err_class;
	}
	pfn_vram_debugfs_init();
	err = pfn_vram_pci_init();
	if (err)
		goto err_chrdev;

	mib = ram_dev_mib();
	if (mib) {
		err = ram_dev_create(mib);
		if (err) {
			pr_err("pfn_vram: cannot set aside %lu MiB of RAM: %pe\n",
			       mib, ERR_PTR(err));
			goto err_pci;
		}
	}
	return 0;

err_pci:
	pfn_vram_pci_exit();
err_chrdev:
	pfn_vram_debugfs_exit();
	unregister_chrdev(chrdev_major, "pfn_vram");
err_class:
	class_destroy(pfn_vram_class);
err_buf:
	pfn_vram_buf_exit();
	return err;
}

static void __exit pfn_vram_exit(void)
{
	if (ram_dev)
		pfn_vram_dev_unplug(ram_dev);
	pfn_vram_pci_exit();
	pfn_vram_debugfs_exit();
	unregister_chrdev(chrdev_major, "pfn_vram");
	class_destroy(pfn_vram_class);
	/* Copies whose dma-bufs are gone may still be running. */
	pfn_vram_buf_exit();
	pfn_vram_dev_put(ram_dev);
	xa_destroy(&devs);
}

module_init(pfn_vram_init);
module_exit(pfn_vram_exit);

MODULE_DESCRIPTION("Device memory that lends its physical ranges: a stand-in for a GPU");
MODULE_AUTHOR("umem-pfn");
MODULE_LICENSE("GPL");
MODULE_IMPORT_NS("DMA_BUF");
MODULE_IMPORT_NS("DMA_BUF_PFN");
