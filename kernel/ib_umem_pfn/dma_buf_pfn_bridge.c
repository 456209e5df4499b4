// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * dma_buf_pfn: bridges to exporters that have never heard of loans.
 *
 * To the importer a bridge looks like any other attachment. What its loans are
 * made of depends on what the exporter has to offer:
 *
 * vmap	it maps the buffer for the kernel. The exporter decides how the CPU
 *	sees its memory, which is what makes this the first choice: pages or
 *	addresses taken out of a scatterlist say nothing of caching, encryption
 *	or whether the CPU may look at all. Such a loan has no ranges.
 *
 * P2P	it does not, but it tells PCI devices where a BAR is (vfio-pci). Then we
 *	attach as the PCI device that the BAR belongs to: the bus addresses in
 *	the scatterlist are addresses of that device's own BARs, on every
 *	topology, with or without an IOMMU, and nothing is mapped into any
 *	IOMMU. To attach as another device would need a working route between
 *	the two, open a window for a stranger in its IOMMU domain, and with more
 *	than one range hit a bug of dma_buf_phys_vec_to_sgt(). The dma-buf does
 *	not say which device it is, so those that can be are tried, see
 *	may_own(); only ranges inside of the device's own BARs are believed.
 *	Nobody said how to cache them: uncached is right for every BAR.
 *
 * Neither: there is no bridge.
 *
 * The mode. A legacy exporter does not state capabilities, so it is asked in
 * its own language (rules B1 to B4 of docs/access-rules.md): whoever attaches
 * without invalidate_mappings cannot be told of anything, and an exporter that
 * may have to revoke refuses that; one with a pin callback may move until it is
 * called. What invalidate_mappings means depends on what was agreed on: to those
 * who pin (or whose exporter never moves) it is a revoke, to the others a move,
 * or a revoke if mapping again fails with -ENODEV.
 *
 * CPU caches. The exporter is not told of the CPU's accesses (begin_cpu_access,
 * end_cpu_access). Around each of them is out of the question: the callbacks wait
 * for everybody's fences and may not be called under the reservation lock. Once
 * for all of an attachment helps nobody who shares the buffer with a device that
 * is not coherent, and costs: udmabuf then makes a scatterlist of all its pages.
 * So we access the memory as a coherent device does, for which nobody brackets
 * accesses either, and programs do at the right moments what they would have to
 * do with an RDMA device: DMA_BUF_IOCTL_SYNC, which reaches the same callbacks.
 */
#include <linux/device.h>
#include <linux/dma-direction.h>
#include <linux/dma-resv.h>
#include <linux/ioport.h>
#include <linux/iosys-map.h>
#include <linux/moduleparam.h>
#include <linux/pci.h>
#include <linux/scatterlist.h>
#include <linux/slab.h>

#include "dma_buf_pfn_priv.h"

/* Those who lend have everything that a bridge can meet, and can be told to. */
static bool test_bridge_lenders;
module_param(test_bridge_lenders, bool, 0600);
MODULE_PARM_DESC(test_bridge_lenders,
		 "for tests only: bridge even to exporters that lend");

/**
 * struct pfn_bridge - what stands between an importer and a legacy exporter
 * @loan: what the importer sees
 * @map: the exporter's kernel mapping, if there is one
 * @sgt: what the exporter says to PCI devices, if that is used
 * @pdev: the PCI device we are attached as, with a reference, or NULL
 *
 * @loan, @map and @sgt are set up while something is borrowed, and protected by
 * the reservation lock.
 */
struct pfn_bridge {
	struct pfn_loan loan;
	struct iosys_map map;
	struct sg_table *sgt;
	struct pci_dev *pdev;
};

/*
 * The exporter's kernel mapping
 */

/*
 * dma_buf_vmap(), but it is no reason for a WARN if an exporter has no mapping
 * for us: that users choose the exporter and the size.
 */
static int bridge_dma_buf_vmap(struct dma_buf *dmabuf, struct iosys_map *map)
{
	int err;

	dma_resv_assert_held(dmabuf->resv);

	if (dmabuf->vmapping_counter)
		return dma_buf_vmap(dmabuf, map);

	iosys_map_clear(map);
	err = dmabuf->ops->vmap(dmabuf, map);
	if (err)
		return err;
	/* The dma-buf core takes that for a bug of its own, and stops. */
	if (iosys_map_is_null(map))
		return -ENOMEM;
	dmabuf->vmap_ptr = *map;
	dmabuf->vmapping_counter = 1;
	return 0;
}

static int bridge_map_vmap(struct dma_buf_pfn_attachment *a)
{
	struct pfn_bridge *b = a->bridge;
	int err;

	err = bridge_dma_buf_vmap(b->loan.dmabuf, &b->map);
	if (err)
		return err;

	b->loan.pub.size = b->loan.dmabuf->size;
	b->loan.pub.lend = (struct dma_buf_pfn_lend) {
		.kind = DMA_BUF_PFN_VMAP,
		.caching = b->map.is_iomem ? DMA_BUF_PFN_UC : DMA_BUF_PFN_WB,
	};
	b->loan.kva = b->map.is_iomem ? (__force void *)b->map.vaddr_iomem :
					b->map.vaddr;
	return 0;
}

static void bridge_unmap_vmap(struct dma_buf_pfn_attachment *a)
{
	struct pfn_bridge *b = a->bridge;

	b->loan.kva = NULL;
	dma_buf_vunmap(b->loan.dmabuf, &b->map);
}

/*
 * Bus addresses of a BAR
 */

/* Is this a range of one of the device's own BARs? Which physical one? */
static bool bus_addr_to_phys(struct pci_dev *pdev, dma_addr_t addr, u64 len,
			     phys_addr_t *phys)
{
	struct pci_bus_region region = { .start = addr, .end = addr + len - 1 };
	struct resource res = { .flags = IORESOURCE_MEM };
	int bar;

	pcibios_bus_to_resource(pdev->bus, &res, &region);
	for (bar = 0; bar < PCI_STD_NUM_BARS; bar++) {
		struct resource *r = &pdev->resource[bar];

		if (resource_type(r) == IORESOURCE_MEM && r->start &&
		    resource_contains(r, &res)) {
			*phys = res.start;
			return true;
		}
	}
	return false;
}

/* Returns the number of ranges, neighbours merged, or -ENXIO. */
static ssize_t bridge_fill_vec(struct pfn_bridge *b, struct phys_vec *vec)
{
	struct scatterlist *sg;
	phys_addr_t phys;
	ssize_t nr = 0;
	int i;

	for_each_sgtable_dma_sg(b->sgt, sg, i) {
		u64 len = sg_dma_len(sg);

		if (!len || !bus_addr_to_phys(b->pdev, sg_dma_address(sg), len,
					      &phys))
			return -ENXIO;
		if (nr && vec[nr - 1].paddr + vec[nr - 1].len == phys)
			vec[nr - 1].len += len;
		else
			vec[nr++] = (struct phys_vec){ .paddr = phys,
						       .len = len };
	}
	return nr;
}

static int bridge_lend_vec(struct pfn_bridge *b)
{
	struct phys_vec *vec;
	ssize_t nr;
	int err;

	vec = kvmalloc_array(b->sgt->nents, sizeof(*vec), GFP_KERNEL_ACCOUNT);
	if (!vec)
		return -ENOMEM;

	nr = bridge_fill_vec(b, vec);
	if (nr < 0) {
		err = nr;
		goto err_vec;
	}
	b->loan.pub.lend = (struct dma_buf_pfn_lend) {
		.vec = vec,
		.nr = nr,
		.kind = DMA_BUF_PFN_MMIO,
		.caching = DMA_BUF_PFN_UC,
	};
	err = pfn_loan_init(&b->loan);
	if (err)
		goto err_vec;
	return 0;

err_vec:
	b->loan.pub = (struct dma_buf_pfn_loan) {};
	kvfree(vec);
	return err;
}

static void bridge_put_sgt(struct dma_buf_pfn_attachment *a)
{
	struct sg_table *sgt = a->bridge->sgt;

	/*
	 * dma_buf_phys_vec_to_sgt() leaves 0 here to say that there are no
	 * pages, and dma_buf_free_sgt() takes that for nothing to free.
	 */
	if (!sgt->orig_nents)
		sgt->orig_nents = sgt->nents;
	dma_buf_unmap_attachment(a->attach, sgt, DMA_BIDIRECTIONAL);
	a->bridge->sgt = NULL;
}

static int bridge_map_p2p(struct dma_buf_pfn_attachment *a)
{
	struct pfn_bridge *b = a->bridge;
	struct sg_table *sgt;
	int err;

	sgt = dma_buf_map_attachment(a->attach, DMA_BIDIRECTIONAL);
	if (IS_ERR(sgt))
		return PTR_ERR(sgt);
	b->sgt = sgt;
	err = bridge_lend_vec(b);
	if (err)
		bridge_put_sgt(a);
	return err;
}

static void bridge_unmap_p2p(struct dma_buf_pfn_attachment *a)
{
	struct pfn_bridge *b = a->bridge;

	pfn_loan_fini(&b->loan);
	kvfree(b->loan.pub.lend.vec);
	b->loan.kva = NULL;
	b->loan.pub = (struct dma_buf_pfn_loan) {};
	bridge_put_sgt(a);
}

/*
 * Borrowing
 */

static void bridge_unpin(struct dma_buf_pfn_attachment *a)
{
	if (a->mode != DMA_BUF_PFN_DYNAMIC)
		dma_buf_unpin(a->attach);
}

static int bridge_pin(struct dma_buf_pfn_attachment *a)
{
	return a->mode == DMA_BUF_PFN_DYNAMIC ? 0 : dma_buf_pin(a->attach);
}

/* To pin or map may have made the exporter move the buffer. */
static int bridge_wait_for_move(struct dma_buf *dmabuf, bool intr)
{
	long left = dma_resv_wait_timeout(dmabuf->resv, DMA_RESV_USAGE_KERNEL,
					  intr, DMA_BUF_PFN_MOVE_TIMEOUT);

	if (left < 0)
		return left;
	return left ? 0 : -ETIMEDOUT;
}

static void bridge_unmap_unpin(struct dma_buf_pfn_attachment *a)
{
	if (a->backend == DMA_BUF_PFN_BACKEND_VMAP)
		bridge_unmap_vmap(a);
	else
		bridge_unmap_p2p(a);
	bridge_unpin(a);
}

static int bridge_try_map(struct dma_buf_pfn_attachment *a, bool intr)
{
	int err;

	err = bridge_pin(a);
	if (err)
		return err;
	if (a->backend == DMA_BUF_PFN_BACKEND_VMAP)
		err = bridge_map_vmap(a);
	else
		err = bridge_map_p2p(a);
	if (err)
		goto err_unpin;
	err = bridge_wait_for_move(a->attach->dmabuf, intr);
	if (err)
		goto err_unmap;
	return 0;

err_unmap:
	bridge_unmap_unpin(a);
	return err;
err_unpin:
	bridge_unpin(a);
	return err;
}

/**
 * pfn_bridge_map - borrow what the exporter has to offer
 * @a: an attachment with a bridge and without a loan, reservation lock held
 * @intr: a signal ends a wait for the exporter
 *
 * If it turns out that the exporter has revoked the buffer, the importer is told
 * in its callback before this returns -ENODEV.
 *
 * Return: 0 with @a->loan set; else as dma_buf_pfn_map(), or
 * dma_buf_pfn_map_interruptible() with @intr.
 */
int pfn_bridge_map(struct dma_buf_pfn_attachment *a, bool intr)
{
	int err;

	dma_resv_assert_held(a->attach->dmabuf->resv);

	err = bridge_try_map(a, intr);
	if (err == -ENODEV) {
		a->revoked = true;
		a->ops->invalidate(a, true);
	}
	if (err)
		return err;
	a->loan = &a->bridge->loan.pub;
	return 0;
}

/**
 * pfn_bridge_unmap - give it back
 * @a: an attachment with a bridge and a loan, reservation lock held
 */
void pfn_bridge_unmap(struct dma_buf_pfn_attachment *a)
{
	dma_resv_assert_held(a->attach->dmabuf->resv);

	a->loan = NULL;
	bridge_unmap_unpin(a);
}

/**
 * pfn_bridge_bytes - kernel memory that a bridge costs
 * @a: an attachment with a bridge
 */
size_t pfn_bridge_bytes(const struct dma_buf_pfn_attachment *a)
{
	const struct pfn_bridge *b = a->bridge;

	return kmalloc_size_roundup(sizeof(*b)) +
	       READ_ONCE(b->loan.pub.lend.nr) * sizeof(struct phys_vec);
}

/*
 * Attaching
 */

/*
 * Who has not borrowed anything has nothing to give back, and will hear of a
 * revoke when it borrows.
 */
static void bridge_invalidate(struct dma_buf_attachment *attach)
{
	struct dma_buf_pfn_attachment *a = attach->importer_priv;

	if (!a->loan)
		return;
	if (a->mode == DMA_BUF_PFN_REVOCABLE)
		a->revoked = true;
	a->ops->invalidate(a, a->revoked);
	if (WARN_ONCE(a->loan, "importer %ps kept a loan\n",
		      a->ops->invalidate))
		dma_buf_pfn_unmap(a);
}

static const struct dma_buf_attach_ops bridge_told_ops = {
	.allow_peer2peer = true,
	.invalidate_mappings = bridge_invalidate,
};

static const struct dma_buf_attach_ops bridge_untold_ops = {
	.allow_peer2peer = true,
};

static int bridge_attach_mode(struct dma_buf_pfn_attachment *a,
			      struct dma_buf *dmabuf, struct device *dev,
			      enum dma_buf_pfn_mode mode)
{
	const struct dma_buf_attach_ops *ops = mode == DMA_BUF_PFN_PINNED ?
		&bridge_untold_ops : &bridge_told_ops;
	struct dma_buf_attachment *attach;

	attach = dma_buf_dynamic_attach(dmabuf, dev, ops, a);
	if (IS_ERR(attach))
		return PTR_ERR(attach);
	a->attach = attach;
	a->mode = mode;
	return 0;
}

/* The default is the most that the exporter may need, as for those who lend. */
static int bridge_attach_as(struct dma_buf_pfn_attachment *a,
			    struct dma_buf *dmabuf, struct device *dev,
			    enum dma_buf_pfn_mode mode)
{
	int err;

	if (mode != DMA_BUF_PFN_DEFAULT)
		return bridge_attach_mode(a, dmabuf, dev, mode);
	if (dmabuf->ops->pin)
		return bridge_attach_mode(a, dmabuf, dev, DMA_BUF_PFN_DYNAMIC);

	err = bridge_attach_mode(a, dmabuf, dev, DMA_BUF_PFN_PINNED);
	if (err == -EOPNOTSUPP)
		err = bridge_attach_mode(a, dmabuf, dev, DMA_BUF_PFN_REVOCABLE);
	return err;
}

/*
 * Can this be the device whose BAR is exported? Either its driver is the
 * exporter, or its driver leaves DMA to somebody else, as vfio-pci does.
 * Returns 1, 0, or -EBUSY if somebody is binding, unbinding or resetting it.
 */
static int may_own(struct pci_dev *pdev, const struct dma_buf *dmabuf)
{
	const struct pci_driver *drv;
	int ret;

	if (pdev->hdr_type != PCI_HEADER_TYPE_NORMAL)
		return 0;
	/* Waiting could take as long as a user likes. */
	if (!device_trylock(&pdev->dev))
		return -EBUSY;
	drv = pdev->driver;
	ret = drv && (drv->driver_managed_dma ||
		      (dmabuf->owner && drv->driver.owner == dmabuf->owner));
	device_unlock(&pdev->dev);
	return ret;
}

/* Attach as this device, and see if the ranges are its own. */
static int bridge_attach_pdev(struct dma_buf_pfn_attachment *a,
			      struct dma_buf *dmabuf, struct pci_dev *pdev,
			      enum dma_buf_pfn_mode mode)
{
	int err;

	a->bridge->pdev = pdev;
	err = bridge_attach_as(a, dmabuf, &pdev->dev, mode);
	if (err)
		return err;

	err = dma_resv_lock_interruptible(dmabuf->resv, NULL);
	if (err)
		goto out;
	err = bridge_try_map(a, true);
	if (!err)
		bridge_unmap_unpin(a);
	dma_resv_unlock(dmabuf->resv);
out:
	if (err)
		dma_buf_detach(dmabuf, a->attach);
	return err;
}

/* These say something about the dma-buf, the others about the device tried. */
static bool is_final(int err)
{
	return !err || err == -ENODEV || err == -EIO || err == -EINTR ||
	       err == -ERESTARTSYS || err == -ETIMEDOUT;
}

static int bridge_attach_p2p(struct dma_buf_pfn_attachment *a,
			     struct dma_buf *dmabuf)
{
	const enum dma_buf_pfn_mode mode = a->mode;
	struct pci_dev *pdev = NULL;
	int err, ret = -ENXIO;

	for_each_pci_dev(pdev) {
		err = may_own(pdev, dmabuf);
		if (err > 0)
			err = bridge_attach_pdev(a, dmabuf, pdev, mode);
		else if (!err)
			continue;
		if (is_final(err)) {
			ret = err;
			break;
		}
		/* A refusal or a lock is a better reason than "none found". */
		if (err == -EOPNOTSUPP || err == -EBUSY || err == -ENOMEM)
			ret = err;
	}

	if (ret) {
		/* for_each_pci_dev() has a reference on the one we stopped at */
		pci_dev_put(pdev);
		a->bridge->pdev = NULL;
	}
	return ret;
}

/**
 * pfn_bridge_wanted - does it take a bridge to this dma-buf?
 * @dmabuf: any dma-buf
 */
bool pfn_bridge_wanted(const struct dma_buf *dmabuf)
{
	return !dma_buf_is_pfn(dmabuf) || READ_ONCE(test_bridge_lenders);
}

/**
 * pfn_bridge_attach - attach to a dma-buf whose exporter does not lend
 * @a: all but its attachment; its mode is what the importer asks for, and
 *	changed into what was agreed on
 * @dmabuf: the dma-buf
 * @dev: the importing device
 *
 * Context: process context, reservation lock not held.
 * Return: 0; else as dma_buf_pfn_attach().
 */
int pfn_bridge_attach(struct dma_buf_pfn_attachment *a, struct dma_buf *dmabuf,
		      struct device *dev)
{
	struct pfn_bridge *b;
	int err;

	if (a->mode > DMA_BUF_PFN_DYNAMIC)
		return -EINVAL;
	b = kzalloc_obj(*b, GFP_KERNEL_ACCOUNT);
	if (!b)
		return -ENOMEM;
	b->loan.dmabuf = dmabuf;
	a->bridge = b;

	if (dmabuf->ops->vmap) {
		a->backend = DMA_BUF_PFN_BACKEND_VMAP;
		err = bridge_attach_as(a, dmabuf, dev, a->mode);
	} else {
		a->backend = DMA_BUF_PFN_BACKEND_P2P;
		err = bridge_attach_p2p(a, dmabuf);
	}
	if (err)
		kfree(b);
	return err;
}

/**
 * pfn_bridge_detach - detach again
 * @a: an attachment with a bridge and without a loan
 *
 * Context: process context, reservation lock not held.
 */
void pfn_bridge_detach(struct dma_buf_pfn_attachment *a)
{
	dma_buf_detach(a->attach->dmabuf, a->attach);
	pci_dev_put(a->bridge->pdev);
	kfree(a->bridge);
}
