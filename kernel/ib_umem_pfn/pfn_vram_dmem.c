// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * pfn_vram: VRAM on the bill of a device memory cgroup, where the kernel has them.
 *
 * Each device is a region of the dmem controller under the name of its node.
 * VRAM is charged when it is taken, to the cgroup of whoever allocates or moves,
 * and uncharged when it comes home to the pool, which may be long after the
 * buffer has moved on (somebody had borrowed it), was revoked, or the device was
 * unplugged. A charge knows its cgroup by itself, so none of this needs the
 * region to be there still.
 *
 * Without the controller all of it comes to nothing, by way of the kernel's own
 * stubs.
 */
#include <linux/cgroup_dmem.h>
#include <linux/err.h>
#include <linux/genalloc.h>

#include "pfn_vram_priv.h"

/* Kbuild looks which of the two this kernel has: 7.3 gave it a struct. */
static struct dmem_cgroup_region *region_new(u64 size, u32 minor)
{
#ifdef DMEM_CGROUP_HAS_INIT
	const struct dmem_cgroup_init init = { .size = size };

	return dmem_cgroup_register_region(&init, "pfn_vram%u", minor);
#else
	return dmem_cgroup_register_region(size, "pfn_vram%u", minor);
#endif
}

/**
 * pfn_vram_dmem_register - let cgroups limit the device's VRAM
 * @dev: a device with all its VRAM and a minor, not in use yet
 *
 * Return: 0 or -ENOMEM.
 */
int pfn_vram_dmem_register(struct pfn_vram_dev *dev)
{
	struct dmem_cgroup_region *region;

	region = region_new(gen_pool_size(dev->pool), dev->minor);
	if (IS_ERR(region))
		return PTR_ERR(region);
	dev->dmem = region;
	return 0;
}

/**
 * pfn_vram_dmem_unregister - no more charges
 * @dev: the device; it does not matter if it is registered
 *
 * Charges that exist stay until what they are for comes home.
 *
 * Context: process context, sleeps.
 */
void pfn_vram_dmem_unregister(struct pfn_vram_dev *dev)
{
	struct dmem_cgroup_region *region;

	mutex_lock(&dev->alloc_lock);
	region = dev->dmem;
	dev->dmem = NULL;
	mutex_unlock(&dev->alloc_lock);
	dmem_cgroup_unregister_region(region);
}

/**
 * pfn_vram_dmem_charge - charge the caller's cgroup for VRAM
 * @mem: the mem it will be in, with nothing charged to it; alloc_lock held
 * @size: bytes
 *
 * Return: 0; -ENOSPC if a limit would be exceeded. (The controller says -EAGAIN,
 * for drivers that can evict the cgroup's own buffers and try again. We don't,
 * and to the program it is the same as VRAM that is full, with the same remedy:
 * free some, or do with system memory. So it gets the same errno, as from TTM.)
 * -ENOMEM.
 */
int pfn_vram_dmem_charge(struct pfn_vram_mem *mem, u64 size)
{
	struct pfn_vram_dev *dev = mem->dev;
	int err;

	lockdep_assert_held(&dev->alloc_lock);

	if (!dev->dmem)
		return 0;
	err = dmem_cgroup_try_charge(dev->dmem, size, &mem->charge, NULL);
	if (err) {
		mem->charge = NULL;
		return err == -EAGAIN ? -ENOSPC : err;
	}
	mem->charged = size;
	return 0;
}

/**
 * pfn_vram_dmem_uncharge - the VRAM has come home
 * @mem: the mem it was in; nothing need have been charged to it
 *
 * Context: any process context.
 */
void pfn_vram_dmem_uncharge(struct pfn_vram_mem *mem)
{
	dmem_cgroup_uncharge(mem->charge, mem->charged);
	mem->charge = NULL;
}
