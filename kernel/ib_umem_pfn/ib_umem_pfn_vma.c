// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * Which dma-buf is mapped at an address? For programs that register device memory
 * by a pointer (ibv_reg_mr()), as they do with any other memory.
 *
 * A mapping of a dma-buf is one whose file is a dma-buf's. It is looked up with the
 * mmap_lock held, which is dropped again, with a reference to the dma-buf taken,
 * before anything else is done: exporters' page faults take the reservation lock
 * with the mmap_lock held, so no one may do it the other way round. What becomes of
 * the mapping from then on does not matter; the MR is one of the dma-buf.
 *
 * Where in the dma-buf the mapping begins is vm_pgoff, if it is what the program
 * said to mmap(2). Not all exporters leave it alone: see va_first_page().
 */
#include <linux/cache.h>
#include <linux/dma-buf-pfn.h>
#include <linux/err.h>
#include <linux/fs.h>
#include <linux/mm.h>
#include <linux/mmap_lock.h>
#include <linux/mmu_context.h>
#include <linux/sched.h>
#include <linux/sizes.h>
#include <rdma/ib_umem_pfn.h>
#include <rdma/ib_verbs.h>

#include "ib_umem_pfn_priv.h"
#include "ib_umem_pfn_trace.h"

/*
 * DRM drivers number the pages of all objects of a device in one space, which begins
 * at 4 GiB so that 32-bit programs get no such offset by chance.
 */
#define FOREIGN_OFFSETS_FROM	(SZ_4G >> PAGE_SHIFT)

/* The file operations of all dma-bufs. The dma-buf core does not tell whose they are. */
static const struct file_operations *dma_buf_fops __ro_after_init;

/**
 * struct va_dmabuf - what is mapped at a range of addresses
 * @dmabuf: the dma-buf, with a reference; NULL if it is something else
 * @offset: of the range in it, bytes
 * @readonly: the mapping does not let anybody write
 * @pinnable: its pages can be pinned like those of ordinary memory
 */
struct va_dmabuf {
	struct dma_buf *dmabuf;
	u64 offset;
	bool readonly;
	bool pinnable;
};

static struct sg_table *sample_map(struct dma_buf_attachment *attach,
				   enum dma_data_direction dir)
{
	return ERR_PTR(-EOPNOTSUPP);
}

static void sample_unmap(struct dma_buf_attachment *attach,
			 struct sg_table *sgt, enum dma_data_direction dir)
{
}

static void sample_release(struct dma_buf *dmabuf)
{
}

static const struct dma_buf_ops sample_ops = {
	.map_dma_buf = sample_map,
	.unmap_dma_buf = sample_unmap,
	.release = sample_release,
};

/**
 * umem_va_init - learn how to recognise a dma-buf's file
 *
 * By what the dma-buf core itself compares: the file operations, here of a dma-buf
 * that is made for this only. It holds the module until it is gone, which may be
 * after this function has returned; so nothing may fail after this.
 *
 * Context: module initialisation.
 * Return: 0 or an errno of dma_buf_export().
 */
int __init umem_va_init(void)
{
	DEFINE_DMA_BUF_EXPORT_INFO(info);
	struct dma_buf *dmabuf;

	info.ops = &sample_ops;
	info.size = PAGE_SIZE;
	info.priv = &dma_buf_fops; /* the core insists on something */
	dmabuf = dma_buf_export(&info);
	if (IS_ERR(dmabuf))
		return PTR_ERR(dmabuf);
	dma_buf_fops = dmabuf->file->f_op;
	dma_buf_put(dmabuf);
	return 0;
}

/*
 * A private mapping shows copies of pages once they have been written to, and is
 * not the dma-buf. VM_MAYSHARE and not VM_SHARED, which the kernel clears for a
 * file that is open for reading only.
 */
static struct dma_buf *va_dmabuf_of(const struct vm_area_struct *vma)
{
	const struct file *file = vma->vm_file;

	if (!file || file->f_op != dma_buf_fops ||
	    !(vma->vm_flags & VM_MAYSHARE))
		return NULL;
	return file->private_data;
}

/* Pages that can be pinned, as those of ordinary memory? */
static bool va_pinnable(const struct vm_area_struct *vma)
{
	return !(vma->vm_flags & (VM_IO | VM_PFNMAP));
}

/*
 * The page of the dma-buf that a mapping begins with. vm_pgoff is what the program
 * asked for, checked by the dma-buf core against the buffer's size. But
 *
 * - DRM drivers then add to it where the object is in a numbering of theirs. That is
 *   recognised: it is beyond the end, or, of a buffer of more than 4 GiB, beyond
 *   these.
 * - videobuf2 shows the beginning of its vmalloc buffers whatever was asked for.
 *   Such pages can be pinned, so there is no need to rely on it.
 *
 * What the mapping shows is known in any case if it is as large as the buffer, and
 * has been from the beginning.
 */
static int va_first_page(const struct vm_area_struct *vma,
			 const struct dma_buf *dmabuf, u64 *first)
{
	u64 pages = dmabuf->size >> PAGE_SHIFT;
	u64 known = pages;

	if (vma_pages(vma) == pages && (vma->vm_flags & VM_DONTEXPAND)) {
		*first = 0;
		return 0;
	}
	if (va_pinnable(vma) && vma->vm_pgoff)
		return -EOPNOTSUPP;
	if (!dma_buf_is_pfn(dmabuf))
		known = min(known, FOREIGN_OFFSETS_FROM);
	if (vma->vm_pgoff > known || vma_pages(vma) > known - vma->vm_pgoff)
		return -EOPNOTSUPP;
	*first = vma->vm_pgoff;
	return 0;
}

static bool va_allows(struct vm_area_struct *vma, bool write)
{
	vm_flags_t need = VM_READ | (write ? VM_WRITE : 0);

	return (vma->vm_flags & need) == need &&
	       arch_vma_access_permitted(vma, write, false, false);
}

/* Fill @va in for a range that begins in @vma. */
static int va_resolve(struct vm_area_struct *vma, struct dma_buf *dmabuf,
		      u64 addr, struct ib_umem_pfn_attr *attr,
		      struct va_dmabuf *va)
{
	u64 first;

	mmap_assert_locked(vma->vm_mm);

	if (attr->length > vma->vm_end - addr) {
		attr->reason = "the range does not end in the mapping that it begins in";
		return -EINVAL;
	}
	if (!va_allows(vma, ib_access_writable(attr->access))) {
		attr->reason = "the mapping forbids what the access flags ask for";
		return -EACCES;
	}
	if (va_first_page(vma, dmabuf, &first)) {
		attr->reason = "which part of the dma-buf is mapped is not known: map it all";
		return -EOPNOTSUPP;
	}
	va->offset = (first << PAGE_SHIFT) + (addr - vma->vm_start);
	va->readonly = !va_allows(vma, true);
	return 0;
}

/**
 * ib_umem_pfn_va_is_ordinary - is it surely no dma-buf that is mapped there?
 * @addr: an address of the current process
 *
 * Quick, for the sake of all that is registered and is something else: it takes the
 * lock of the one mapping only, as page faults do, and does not wait for threads
 * that map and unmap memory elsewhere.
 *
 * Context: process context; mmap_lock not held.
 * Return: false if ib_umem_pfn_get_va() has to be asked.
 */
bool ib_umem_pfn_va_is_ordinary(u64 addr)
{
	struct vm_area_struct *vma;
	bool ordinary;

	if (!current->mm || addr != (unsigned long)addr)
		return true;
	vma = lock_vma_under_rcu(current->mm, addr);
	if (!vma)
		return false;
	ordinary = !va_dmabuf_of(vma);
	vma_end_read(vma);
	return ordinary;
}
EXPORT_SYMBOL_NS_GPL(ib_umem_pfn_va_is_ordinary, "IB_UMEM_PFN");

/* Look @addr up in the current process. Returns 0 also if there is no dma-buf. */
static int va_find(u64 addr, struct ib_umem_pfn_attr *attr,
		   struct va_dmabuf *va)
{
	struct mm_struct *mm = current->mm;
	struct vm_area_struct *vma;
	struct dma_buf *dmabuf;
	int err = 0;

	*va = (struct va_dmabuf) {};
	if (!mm || addr != (unsigned long)addr)
		return 0;
	if (mmap_read_lock_killable(mm))
		return -EINTR;

	vma = vma_lookup(mm, addr);
	dmabuf = vma ? va_dmabuf_of(vma) : NULL;
	if (!dmabuf)
		goto out;

	va->pinnable = va_pinnable(vma);
	err = va_resolve(vma, dmabuf, addr, attr, va);
	if (!err) {
		get_dma_buf(dmabuf);
		va->dmabuf = dmabuf;
	}
out:
	mmap_read_unlock(mm);
	return err;
}

/**
 * ib_umem_pfn_get_va - borrow the dma-buf that is mapped at an address
 * @ibdev: the importing device; must outlive the umem
 * @addr: first byte, an address of the current process
 * @attr: as for ib_umem_pfn_get(), but for @attr->fd, @attr->offset and
 *	@attr->readonly, which are set to what is found
 *
 * The umem is the dma-buf's memory, whatever becomes of the mapping: it may even go
 * before this returns. Memory whose pages can be pinned, and which therefore can be
 * registered without this, is refused only by the exporter, and not if all he has
 * to say is that there is no way in.
 *
 * Context: process context of the registering process, may sleep; mmap_lock not
 * held.
 * Return: the umem; NULL if the range does not begin in a shared mapping of a
 * dma-buf, or the pages may be pinned instead; or the errors of ib_umem_pfn_get()
 * and ERR_PTR():
 * -EINVAL	not all of the range is in the one mapping that it begins in
 * -EACCES	the mapping forbids what @attr->access needs
 * -EOPNOTSUPP	which part of the dma-buf is mapped cannot be known
 */
struct ib_umem_pfn *ib_umem_pfn_get_va(struct ib_device *ibdev, u64 addr,
				       struct ib_umem_pfn_attr *attr)
{
	struct ib_umem_pfn *umem;
	struct va_dmabuf va;
	int err;

	attr->fd = -1;
	attr->reason = NULL;
	err = va_find(addr, attr, &va);
	if (err) {
		trace_ib_umem_pfn_refuse(attr, err);
		return va.pinnable ? NULL : ERR_PTR(err);
	}
	if (!va.dmabuf)
		return NULL;

	attr->offset = va.offset;
	attr->readonly = va.readonly;
	umem = umem_get_dmabuf(&ibdev->dev, false, attr, va.dmabuf);
	if (umem == ERR_PTR(-EOPNOTSUPP) && va.pinnable)
		return NULL;
	return umem;
}
EXPORT_SYMBOL_NS_GPL(ib_umem_pfn_get_va, "IB_UMEM_PFN");
