// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * What it costs to let a device see a dma-buf: by ranges, as ib_umem_pfn does,
 * and by scatterlist, as ib_umem_dmabuf does, for the same buffer and device. Time
 * is measured here, by turns. Memory and the IOMMU's work are counted by whoever
 * has mappings made and held, with the kernel's tracepoints.
 */
#include <linux/dma-buf.h>
#include <linux/ktime.h>
#include <linux/scatterlist.h>
#include <linux/slab.h>
#include <rdma/ib_umem.h>
#include <rdma/ib_umem_pfn.h>
#include <rdma/ib_verbs.h>

#include "pfn_edu_priv.h"

#define MAX_ROUNDS	1000

/**
 * struct sample - one round of one way
 * @start: when it began
 * @mapped: when the device could begin
 * @unmapping: when it was to end
 * @end: when all was as before
 */
struct sample {
	ktime_t start;
	ktime_t mapped;
	ktime_t unmapping;
	ktime_t end;
};

static void cost_add(struct pfn_edu_cost *c, const struct sample *s)
{
	u64 map = ktime_to_ns(ktime_sub(s->mapped, s->start));
	u64 unmap = ktime_to_ns(ktime_sub(s->end, s->unmapping));

	c->map_ns_sum += map;
	c->unmap_ns_sum += unmap;
	c->map_ns = c->map_ns ? min(c->map_ns, map) : map;
	c->unmap_ns = c->unmap_ns ? min(c->unmap_ns, unmap) : unmap;
}

/*
 * Our way
 */

/**
 * struct pfn_mr - as much as a driver's MR would have of ours
 * @umem: whose memory
 * @dma: where the device sees it
 */
struct pfn_mr {
	struct ib_umem_pfn *umem;
	struct ib_umem_pfn_dma dma;
};

static void never_stopped(struct ib_umem_pfn_dma *dma, bool revoked)
{
}

/* As a driver would register an MR, and deregister it. @mr is all 0. */
static int pfn_mr_map(struct pfn_mr *mr, struct device *dev, int fd, u64 size)
{
	struct ib_umem_pfn_attr attr = {
		.fd = fd,
		.length = size,
		.access = IB_ACCESS_LOCAL_WRITE,
		.mode = PFN_MR_MODE_PINNED,
		.eventfd = -1,
	};
	struct ib_umem_pfn *umem;
	int err;

	umem = ib_umem_pfn_get_for_dma(dev, &attr);
	if (IS_ERR(umem))
		return PTR_ERR(umem);
	mr->umem = umem;
	mr->dma.stop = never_stopped;
	err = ib_umem_pfn_dma_map_and_lock(umem, &mr->dma, dev, 0, size);
	if (err) {
		ib_umem_pfn_release(umem);
		return err;
	}
	ib_umem_pfn_unlock(umem);
	return 0;
}

static void pfn_mr_unmap(struct pfn_mr *mr)
{
	ib_umem_pfn_dma_unmap(mr->umem, &mr->dma);
	ib_umem_pfn_release(mr->umem);
}

static u64 pfn_mr_bytes(const struct pfn_mr *mr)
{
	struct pfn_mr_info info;

	ib_umem_pfn_query(mr->umem, &info);
	return info.metadata_bytes + kmalloc_size_roundup(sizeof(*mr)) +
	       pfn_dma_map_metadata(&mr->dma.map);
}

static int round_pfn(struct device *dev, int fd, u64 size,
		     struct pfn_edu_cost *c)
{
	struct pfn_mr mr = {};
	struct sample s;
	int err;

	s.start = ktime_get();
	err = pfn_mr_map(&mr, dev, fd, size);
	if (err)
		return err;
	s.mapped = ktime_get();

	c->extents = mr.dma.map.extents;
	c->bytes = pfn_mr_bytes(&mr);

	s.unmapping = ktime_get();
	pfn_mr_unmap(&mr);
	s.end = ktime_get();
	cost_add(c, &s);
	return 0;
}

/*
 * The other
 */

static struct ib_umem_dmabuf *sg_map(struct device *dev, int fd, u64 size)
{
	return ib_umem_dmabuf_get_pinned_with_dma_device(NULL, dev, 0, size, fd,
							 IB_ACCESS_LOCAL_WRITE);
}

static void sg_unmap(struct ib_umem_dmabuf *umem)
{
	ib_umem_release(&umem->umem);
}

/* What sg_alloc_table() takes: whole pages, chained by their last entry. */
static u64 sg_table_bytes(u64 nents)
{
	u64 bytes = 0;

	for (; nents > SG_MAX_SINGLE_ALLOC; nents -= SG_MAX_SINGLE_ALLOC - 1)
		bytes += PAGE_SIZE;
	return bytes + kmalloc_size_roundup(nents * sizeof(struct scatterlist));
}

static u64 sg_bytes(const struct ib_umem_dmabuf *umem)
{
	return kmalloc_size_roundup(sizeof(*umem)) +
	       kmalloc_size_roundup(sizeof(*umem->attach)) +
	       kmalloc_size_roundup(sizeof(*umem->sgt)) +
	       sg_table_bytes(max(umem->sgt->orig_nents, umem->sgt->nents));
}

static int round_sg(struct device *dev, int fd, u64 size,
		    struct pfn_edu_cost *c)
{
	struct ib_umem_dmabuf *umem;
	struct sample s;

	s.start = ktime_get();
	umem = sg_map(dev, fd, size);
	if (IS_ERR(umem))
		return PTR_ERR(umem);
	s.mapped = ktime_get();

	c->extents = umem->sgt->nents;
	c->bytes = sg_bytes(umem);

	s.unmapping = ktime_get();
	sg_unmap(umem);
	s.end = ktime_get();
	cost_add(c, &s);
	return 0;
}

/*
 * By turns
 */

static int dmabuf_size(int fd, u64 *size)
{
	struct dma_buf *dmabuf = dma_buf_get(fd);

	if (IS_ERR(dmabuf))
		return PTR_ERR(dmabuf);
	*size = dmabuf->size;
	dma_buf_put(dmabuf);
	return 0;
}

/**
 * pfn_edu_compare - PFN_EDU_IOC_COMPARE
 * @dev: the device that is to see the buffer
 * @going: set when @dev's driver wants to be rid of us
 * @arg: see there
 *
 * One way failing is a result and not an error.
 *
 * Return: 0, or what that documents.
 */
int pfn_edu_compare(struct device *dev, const bool *going,
		    struct pfn_edu_compare *arg)
{
	u64 pfn_size, sg_size;
	u32 i;
	int err;

	if (arg->reserved || !arg->rounds || arg->rounds > MAX_ROUNDS)
		return -EINVAL;
	err = dmabuf_size(arg->pfn_fd, &pfn_size);
	if (!err)
		err = dmabuf_size(arg->sg_fd, &sg_size);
	if (err)
		return err;

	memset(&arg->pfn, 0, sizeof(arg->pfn));
	memset(&arg->sg, 0, sizeof(arg->sg));
	for (i = 0; i < arg->rounds; i++) {
		if (!arg->pfn.error)
			arg->pfn.error = round_pfn(dev, arg->pfn_fd, pfn_size,
						   &arg->pfn);
		if (!arg->sg.error)
			arg->sg.error = round_sg(dev, arg->sg_fd, sg_size,
						 &arg->sg);
		if (READ_ONCE(*going))
			return -ENODEV;
		if (signal_pending(current))
			return -EINTR;
	}
	return 0;
}

/*
 * Mappings that stay, for who counts from outside what they take
 */

static int hold_pfn(struct pfn_edu_held *held, struct device *dev, int fd,
		    u64 size)
{
	struct pfn_mr *mr;
	int err;

	mr = kzalloc_obj(*mr);
	if (!mr)
		return -ENOMEM;
	err = pfn_mr_map(mr, dev, fd, size);
	if (err) {
		kfree(mr);
		return err;
	}
	held->mr[held->nr++] = mr;
	return 0;
}

static int hold_sg(struct pfn_edu_held *held, struct device *dev, int fd,
		   u64 size)
{
	struct ib_umem_dmabuf *umem = sg_map(dev, fd, size);

	if (IS_ERR(umem))
		return PTR_ERR(umem);
	held->mr[held->nr++] = umem;
	return 0;
}

/**
 * pfn_edu_hold - PFN_EDU_IOC_HOLD
 * @held: where to keep the mappings
 * @dev: the device that is to see the buffer
 * @going: set when @dev's driver wants to be rid of us
 * @arg: see there
 *
 * Return: 0, or what that documents; what has been mapped until then is held.
 */
int pfn_edu_hold(struct pfn_edu_held *held, struct device *dev,
		 const bool *going, const struct pfn_edu_hold *arg)
{
	u64 size;
	u32 i;
	int err;

	if (arg->reserved || arg->way > PFN_EDU_BY_SCATTERLIST)
		return -EINVAL;
	if (held->nr && held->way != arg->way)
		return -EBUSY;
	if (arg->count > PFN_EDU_MAX_HELD - held->nr)
		return -ENOSPC;
	err = dmabuf_size(arg->fd, &size);
	if (err)
		return err;

	held->way = arg->way;
	for (i = 0; i < arg->count; i++) {
		if (arg->way == PFN_EDU_BY_RANGES)
			err = hold_pfn(held, dev, arg->fd, size);
		else
			err = hold_sg(held, dev, arg->fd, size);
		if (err)
			return err;
		if (READ_ONCE(*going))
			return -ENODEV;
		if (signal_pending(current))
			return -EINTR;
	}
	return 0;
}

/**
 * pfn_edu_drop - unmap all that is held
 * @held: maybe nothing
 */
void pfn_edu_drop(struct pfn_edu_held *held)
{
	while (held->nr) {
		void *mr = held->mr[--held->nr];

		if (held->way == PFN_EDU_BY_RANGES) {
			pfn_mr_unmap(mr);
			kfree(mr);
		} else {
			sg_unmap(mr);
		}
	}
}
