// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * pfn_vram: what an administrator can see in debugfs.
 *
 *   pfn_vram/quarantine	moves checked, and found wanting (pfn_vram_quarantine.c)
 *   pfn_vram/pfn_vramN/buffers	every buffer, and under it its importers
 *
 * A buffer is named by the inode number of its dma-buf, as in fdinfo, in debugfs'
 * dma_buf/bufinfo and in "rdma -dd resource show mr".
 */
#include <linux/debugfs.h>
#include <linux/genalloc.h>
#include <linux/seq_file.h>

#include "pfn_vram_priv.h"

static struct dentry *root;

static int quarantine_show(struct seq_file *m, void *v)
{
	pfn_vram_quarantine_show(m);
	return 0;
}
DEFINE_SHOW_ATTRIBUTE(quarantine);

static int buffers_show(struct seq_file *m, void *v)
{
	struct pfn_vram_dev *dev = m->private;
	loff_t n = 0;

	seq_printf(m, "vram: %zu of %zu bytes free\n",
		   gen_pool_avail(dev->pool), gen_pool_size(dev->pool));
	while (pfn_vram_buf_show(dev, n, m))
		n++;
	return 0;
}
DEFINE_SHOW_ATTRIBUTE(buffers);

void pfn_vram_debugfs_init(void)
{
	root = debugfs_create_dir("pfn_vram", NULL);
	debugfs_create_file("quarantine", 0400, root, NULL, &quarantine_fops);
}

void pfn_vram_debugfs_exit(void)
{
	debugfs_remove(root);
}

/**
 * pfn_vram_debugfs_add - show a device
 * @dev: a device that has its number
 */
void pfn_vram_debugfs_add(struct pfn_vram_dev *dev)
{
	char name[16];

	snprintf(name, sizeof(name), "pfn_vram%u", dev->minor);
	dev->debugfs = debugfs_create_dir(name, root);
	debugfs_create_file("buffers", 0400, dev->debugfs, dev, &buffers_fops);
}

/**
 * pfn_vram_debugfs_remove - and no more
 * @dev: the device; nobody is reading about it afterwards
 */
void pfn_vram_debugfs_remove(struct pfn_vram_dev *dev)
{
	debugfs_remove(dev->debugfs);
}
