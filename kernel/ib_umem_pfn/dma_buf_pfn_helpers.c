// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * What an exporter that lends ranges gets for free: scatterlists for legacy
 * importers, mmap for user space, vmap for the kernel.
 */
#include <linux/dma-mapping.h>
#include <linux/dma-resv.h>
#include <linux/iosys-map.h>
#include <linux/mm.h>
#include <linux/pfn-dma-map.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>

#include "dma_buf_pfn_priv.h"

/*
 * How long a CPU fault waits for a move to finish before it tries again, and
 * the second time gives up with SIGBUS. Long enough for any real copy, short
 * enough to notice a stuck one.
 */
#define FAULT_FENCE_TIMEOUT	(30 * HZ)

/* How often somebody who waits, and must not be woken up, looks if he has to die. */
#define FAULT_LOOK_UP		(HZ / 10)

/* Pages that one CPU fault maps at most. */
#define FAULT_AROUND		128

/**
 * struct seg_limits - what a device takes as one entry of a scatterlist
 * @bytes: at most so many; whole pages
 * @boundary: a mask; no entry reaches across a multiple of it plus one
 */
struct seg_limits {
	u64 bytes;
	u64 boundary;
};

/**
 * struct pfn_sgt - a mapping handed to a legacy importer
 * @sgt: what the importer sees
 * @loan: what it is made of
 * @dma: the DMA addresses of MMIO; unmapped for RAM
 * @nr_alloc: entries of @sgt, of which MMIO shows none as pages
 */
struct pfn_sgt {
	struct sg_table sgt;
	struct pfn_loan *loan;
	struct pfn_dma_map dma;
	unsigned int nr_alloc;
};

static struct seg_limits seg_limits(struct device *dev)
{
	return (struct seg_limits){
		.bytes = max(ALIGN_DOWN(dma_get_max_seg_size(dev), PAGE_SIZE),
			     PAGE_SIZE),
		.boundary = dma_get_seg_boundary(dev) | ~PAGE_MASK,
	};
}

/* Of the entry that begins at @addr, with @left bytes to come. */
static u64 seg_len(const struct seg_limits *limits, u64 addr, u64 left)
{
	return min3(left - 1, limits->bytes - 1,
		    limits->boundary - (addr & limits->boundary)) + 1;
}

static u64 seg_count(const struct seg_limits *limits, u64 addr, u64 bytes)
{
	u64 len, nr = 0;

	for (; bytes; bytes -= len, addr += len, nr++)
		len = seg_len(limits, addr, bytes);
	return nr;
}

static int sgt_alloc(struct pfn_sgt *p, u64 nr)
{
	if (nr > UINT_MAX)
		return -EFBIG;
	p->nr_alloc = nr;
	return sg_alloc_table(&p->sgt, nr, GFP_KERNEL);
}

static void sgt_free(struct pfn_sgt *p)
{
	p->sgt.orig_nents = p->nr_alloc;
	sg_free_table(&p->sgt);
}

static int sgt_map_ram(struct pfn_sgt *p, struct device *dev,
		       enum dma_data_direction dir)
{
	const struct dma_buf_pfn_lend *lend = &p->loan->pub.lend;
	const struct seg_limits limits = seg_limits(dev);
	struct scatterlist *sg;
	u64 nr = 0, off, len;
	size_t i;
	int err;

	/* A device that cannot do DMA would trip a WARN further down. */
	if (!dev->dma_mask)
		return -EOPNOTSUPP;
	for (i = 0; i < lend->nr; i++)
		nr += seg_count(&limits, lend->vec[i].paddr, lend->vec[i].len);
	err = sgt_alloc(p, nr);
	if (err)
		return err;

	sg = p->sgt.sgl;
	for (i = 0; i < lend->nr; i++) {
		const struct phys_vec *r = &lend->vec[i];

		for (off = 0; off < r->len; off += len) {
			len = seg_len(&limits, r->paddr + off, r->len - off);
			sg_set_page(sg, phys_to_page(r->paddr + off), len, 0);
			sg = sg_next(sg);
		}
	}

	err = dma_map_sgtable(dev, &p->sgt, dir, 0);
	if (err)
		sgt_free(p);
	return err;
}

/*
 * DMA addresses without pages, and no entry too many: one address range behind an
 * IOMMU, one for each of the exporter's ranges otherwise, each in as few entries as
 * the device's limits allow.
 */
static int sgt_map_mmio(struct pfn_sgt *p, struct dma_buf_attachment *attach,
			enum dma_data_direction dir)
{
	const struct seg_limits limits = seg_limits(attach->dev);
	struct pfn_loan *loan = p->loan;
	struct pfn_dma_iter iter;
	struct scatterlist *sg;
	u64 nr = 0;
	int err;

	if (!attach->peer2peer)
		return -EOPNOTSUPP;
	err = dma_buf_pfn_dma_map(&p->dma, &loan->pub, attach->dev, 0,
				  loan->pub.size, dir);
	if (err)
		return err;
	pfn_dma_for_each_extent(&p->dma, &iter)
		nr += seg_count(&limits, iter.addr, iter.len);
	err = sgt_alloc(p, nr);
	if (err) {
		dma_buf_pfn_dma_unmap(&p->dma);
		return err;
	}

	sg = p->sgt.sgl;
	pfn_dma_for_each_extent(&p->dma, &iter) {
		u64 off, len;

		for (off = 0; off < iter.len; off += len) {
			len = seg_len(&limits, iter.addr + off, iter.len - off);
			sg_dma_address(sg) = iter.addr + off;
			sg_dma_len(sg) = len;
			sg = sg_next(sg);
		}
	}
	/* How the dma-buf core says that there are no pages in it. */
	p->sgt.orig_nents = 0;
	return 0;
}

struct sg_table *pfn_map_dma_buf(struct dma_buf_attachment *attach,
				 enum dma_data_direction dir)
{
	struct dma_buf_pfn *pfn = attach->dmabuf->priv;
	struct pfn_sgt *p;
	int err;

	p = kzalloc_obj(*p);
	if (!p)
		return ERR_PTR(-ENOMEM);

	p->loan = pfn_loan_get(pfn);
	if (IS_ERR(p->loan)) {
		err = PTR_ERR(p->loan);
		goto err_free;
	}

	switch (p->loan->pub.lend.kind) {
	case DMA_BUF_PFN_RAM:
		err = sgt_map_ram(p, attach->dev, dir);
		break;
	case DMA_BUF_PFN_MMIO:
		err = sgt_map_mmio(p, attach, dir);
		break;
	default:
		err = -EOPNOTSUPP;
		break;
	}
	if (err)
		goto err_put;
	return &p->sgt;

err_put:
	pfn_loan_put(p->loan);
err_free:
	kfree(p);
	return ERR_PTR(err);
}

void pfn_unmap_dma_buf(struct dma_buf_attachment *attach, struct sg_table *sgt,
		       enum dma_data_direction dir)
{
	struct pfn_sgt *p = container_of(sgt, struct pfn_sgt, sgt);

	if (p->dma.bus != PFN_DMA_UNMAPPED)
		dma_buf_pfn_dma_unmap(&p->dma);
	else
		dma_unmap_sgtable(attach->dev, &p->sgt, dir, 0);
	sgt_free(p);
	pfn_loan_put(p->loan);
	kfree(p);
}

/* Map the faulting page and what follows it in the same range. */
static vm_fault_t fault_populate(struct vm_fault *vmf,
				 const struct dma_buf_pfn_loan *loan)
{
	struct vm_area_struct *vma = vmf->vma;
	pgprot_t prot = pfn_lend_prot(&loan->lend, vma->vm_page_prot);
	u64 offset = (u64)vmf->pgoff << PAGE_SHIFT;
	unsigned long addr = vmf->address & PAGE_MASK;
	const struct phys_vec *r;
	unsigned long pfn, nr, i;
	vm_fault_t ret;
	u64 start;

	r = &loan->lend.vec[dma_buf_pfn_loan_find(loan, offset, &start)];
	pfn = PHYS_PFN(r->paddr + (offset - start));
	nr = min((r->len - (offset - start)) >> PAGE_SHIFT,
		 (vma->vm_end - addr) >> PAGE_SHIFT);
	nr = min(nr, FAULT_AROUND);

	ret = vmf_insert_pfn_prot(vma, addr, pfn, prot);
	for (i = 1; i < nr && ret == VM_FAULT_NOPAGE; i++)
		if (vmf_insert_pfn_prot(vma, addr + i * PAGE_SIZE, pfn + i,
					prot) != VM_FAULT_NOPAGE)
			break;
	return ret;
}

/*
 * May any signal end a wait? In user mode it is delivered, and the access faults
 * again after that. In kernel mode, in the middle of a copy from or to user space,
 * it is not: the access would fault again at once, over and over until it need not
 * wait. So there only a signal that kills ends a wait, as it does elsewhere in the
 * mm: see fault_signal_pending().
 */
static bool fault_is_interruptible(const struct vm_fault *vmf)
{
	return vmf->flags & FAULT_FLAG_USER;
}

/* 0 with the lock held, or -EINTR. Who holds it does not do so for long. */
static int fault_lock_resv(struct vm_fault *vmf, struct dma_resv *resv)
{
	if (fault_is_interruptible(vmf))
		return dma_resv_lock_interruptible(resv, NULL);
	return dma_resv_lock(resv, NULL);
}

/* > 0 when the move has ended, 0 if it did not in time, < 0: a signal. */
static long fault_wait_resv(struct vm_fault *vmf, struct dma_resv *resv)
{
	unsigned long deadline = jiffies + FAULT_FENCE_TIMEOUT;
	long left;

	if (fault_is_interruptible(vmf))
		return dma_resv_wait_timeout(resv, DMA_RESV_USAGE_KERNEL, true,
					     FAULT_FENCE_TIMEOUT);

	/* Fences know no wait that only a signal that kills can end. */
	do {
		if (fatal_signal_pending(current))
			return -EINTR;
		left = dma_resv_wait_timeout(resv, DMA_RESV_USAGE_KERNEL, false,
					     FAULT_LOOK_UP);
	} while (!left && time_before(jiffies, deadline));
	return left;
}

/*
 * Get the reservation lock, without holding the mmap_lock while somebody else
 * has it if there is a choice. Returns 0 with the lock held.
 */
static vm_fault_t fault_lock(struct vm_fault *vmf, struct dma_buf *dmabuf)
{
	if (dma_resv_trylock(dmabuf->resv))
		return 0;

	if (!fault_flag_allow_retry_first(vmf->flags))
		return fault_lock_resv(vmf, dmabuf->resv) ? VM_FAULT_NOPAGE : 0;

	if (!(vmf->flags & FAULT_FLAG_RETRY_NOWAIT)) {
		get_dma_buf(dmabuf);
		mmap_read_unlock(vmf->vma->vm_mm);
		if (!fault_lock_resv(vmf, dmabuf->resv))
			dma_resv_unlock(dmabuf->resv);
		dma_buf_put(dmabuf);
	}
	return VM_FAULT_RETRY;
}

/*
 * A move is on its way: unlock, wait, and have the CPU try again. As above, the
 * mmap_lock is dropped for it if possible.
 */
static vm_fault_t fault_unlock_and_wait(struct vm_fault *vmf,
					struct dma_buf *dmabuf)
{
	bool retry = fault_flag_allow_retry_first(vmf->flags);
	long left;

	get_dma_buf(dmabuf);
	dma_resv_unlock(dmabuf->resv);
	if (retry && (vmf->flags & FAULT_FLAG_RETRY_NOWAIT)) {
		dma_buf_put(dmabuf);
		return VM_FAULT_RETRY;
	}

	if (retry)
		mmap_read_unlock(vmf->vma->vm_mm);
	left = fault_wait_resv(vmf, dmabuf->resv);
	dma_buf_put(dmabuf);
	if (retry)
		return VM_FAULT_RETRY;
	return left ? VM_FAULT_NOPAGE : VM_FAULT_SIGBUS;
}

static vm_fault_t fault_from_errno(int err)
{
	switch (err) {
	case -ENOMEM:
		return VM_FAULT_OOM;
	case -EINTR:
	case -ERESTARTSYS:
		return VM_FAULT_NOPAGE;
	default:
		return VM_FAULT_SIGBUS;
	}
}

static vm_fault_t pfn_vm_fault(struct vm_fault *vmf)
{
	struct dma_buf_pfn *pfn = vmf->vma->vm_private_data;
	struct dma_resv *resv = pfn->dmabuf->resv;
	struct pfn_loan *loan;
	vm_fault_t ret;

	/* The dma-buf core checks this at mmap; be sure. */
	if (vmf->pgoff >= pfn->dmabuf->size >> PAGE_SHIFT)
		return VM_FAULT_SIGBUS;

	ret = fault_lock(vmf, pfn->dmabuf);
	if (ret)
		return ret;

	if (!dma_resv_test_signaled(resv, DMA_RESV_USAGE_KERNEL))
		return fault_unlock_and_wait(vmf, pfn->dmabuf);

	loan = pfn_loan_get(pfn);
	if (IS_ERR(loan)) {
		ret = fault_from_errno(PTR_ERR(loan));
	} else {
		ret = fault_populate(vmf, &loan->pub);
		pfn_loan_put(loan);
	}
	dma_resv_unlock(resv);
	return ret;
}

static const struct vm_operations_struct pfn_vm_ops = {
	.fault = pfn_vm_fault,
};

int pfn_mmap(struct dma_buf *dmabuf, struct vm_area_struct *vma)
{
	/* A private copy could not follow the buffer when it moves. */
	if ((vma->vm_flags & (VM_SHARED | VM_MAYWRITE)) == VM_MAYWRITE)
		return -EINVAL;

	vm_flags_set(vma, VM_IO | VM_PFNMAP | VM_DONTEXPAND | VM_DONTDUMP);
	vma->vm_private_data = dmabuf->priv;
	vma->vm_ops = &pfn_vm_ops;
	return 0;
}

/*
 * A kernel mapping cannot be followed by a move, so it forbids moves. It does
 * not forbid revoking: the mapping stays, on memory that the exporter keeps
 * until it is returned.
 */
int pfn_vmap(struct dma_buf *dmabuf, struct iosys_map *map)
{
	struct dma_buf_pfn *pfn = dmabuf->priv;
	struct pfn_loan *loan;
	void *kva;

	if ((pfn->caps & DMA_BUF_PFN_MAY_MOVE) &&
	    !(pfn->caps & DMA_BUF_PFN_CAN_PIN))
		return -EOPNOTSUPP;

	loan = pfn_loan_get(pfn);
	if (IS_ERR(loan))
		return PTR_ERR(loan);
	kva = pfn_loan_kmap(loan);
	if (!kva) {
		pfn_loan_put(loan);
		return -ENOMEM;
	}

	if (loan->pub.lend.kind == DMA_BUF_PFN_MMIO)
		iosys_map_set_vaddr_iomem(map, (__force void __iomem *)kva);
	else
		iosys_map_set_vaddr(map, kva);
	pfn->vmap_loan = loan;
	pfn->nr_still++;
	return 0;
}

void pfn_vunmap(struct dma_buf *dmabuf, struct iosys_map *map)
{
	struct dma_buf_pfn *pfn = dmabuf->priv;

	pfn->nr_still--;
	pfn_loan_put(pfn->vmap_loan);
	pfn->vmap_loan = NULL;
}
