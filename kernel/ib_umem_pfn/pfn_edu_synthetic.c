// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * Buffers to measure with that no machine has: lists of device memory that does
 * not exist. Mapping them costs the same, as nothing touches them.
 */
#include <linux/dma-buf-mapping.h>
#include <linux/dma-buf-pfn.h>
#include <linux/dma-resv.h>
#include <linux/fdtable.h>
#include <linux/pci-p2pdma.h>
#include <linux/scatterlist.h>
#include <linux/slab.h>

#include "pfn_edu_priv.h"

#define MAX_RANGES	SZ_1M
/* Above all that exists, below what page tables can express. */
#define SYNTHETIC_BASE	BIT_ULL(45)
#define SYNTHETIC_MAX	BIT_ULL(42)

/**
 * struct synthetic - memory that does not exist
 * @vec: the ranges
 * @nr: number of them
 * @size: bytes, together
 * @provider: whose it is said to be; holds a reference to the device
 */
struct synthetic {
	struct phys_vec *vec;
	size_t nr;
	u64 size;
	struct p2pdma_provider provider;
};

static void synthetic_free(struct synthetic *s)
{
	put_device(s->provider.owner);
	kvfree(s->vec);
	kfree(s);
}

/* As far apart as they are long, so that none touches another. */
static struct synthetic *
synthetic_create(const struct pfn_edu_synthetic *arg,
		 const struct p2pdma_provider *provider)
{
	struct synthetic *s;
	size_t i;

	s = kzalloc_obj(*s);
	if (!s)
		return ERR_PTR(-ENOMEM);
	s->nr = arg->ranges;
	s->size = arg->ranges * arg->range_size;
	s->vec = kvmalloc_array(s->nr, sizeof(*s->vec), GFP_KERNEL);
	if (!s->vec) {
		kfree(s);
		return ERR_PTR(-ENOMEM);
	}
	for (i = 0; i < s->nr; i++) {
		s->vec[i].paddr = SYNTHETIC_BASE + 2 * i * arg->range_size;
		s->vec[i].len = arg->range_size;
	}
	s->provider = *provider;
	get_device(s->provider.owner);
	return s;
}

static int synthetic_pfn_map(struct dma_buf_pfn *pfn,
			     struct dma_buf_pfn_lend *lend)
{
	struct synthetic *s = dma_buf_pfn_priv(pfn);

	*lend = (struct dma_buf_pfn_lend) {
		.vec = s->vec,
		.nr = s->nr,
		.kind = DMA_BUF_PFN_MMIO,
		.caching = DMA_BUF_PFN_UC,
		.provider = &s->provider,
	};
	return 0;
}

static void synthetic_pfn_unmap(struct dma_buf_pfn *pfn,
				const struct dma_buf_pfn_lend *lend)
{
}

static void synthetic_pfn_release(struct dma_buf_pfn *pfn)
{
	synthetic_free(dma_buf_pfn_priv(pfn));
}

static const struct dma_buf_pfn_ops synthetic_pfn_ops = {
	.map = synthetic_pfn_map,
	.unmap = synthetic_pfn_unmap,
	.release = synthetic_pfn_release,
};

static struct dma_buf *export_pfn(struct synthetic *s)
{
	const struct dma_buf_pfn_export_info info = {
		.exp_name = "pfn_edu",
		.owner = THIS_MODULE,
		.ops = &synthetic_pfn_ops,
		.size = s->size,
		.flags = O_RDWR,
		.priv = s,
	};

	return dma_buf_pfn_export(&info);
}

/* The other one does what vfio-pci does. */
static struct sg_table *synthetic_sg_map(struct dma_buf_attachment *attach,
					 enum dma_data_direction dir)
{
	struct synthetic *s = attach->dmabuf->priv;

	if (!attach->peer2peer)
		return ERR_PTR(-EOPNOTSUPP);
	return dma_buf_phys_vec_to_sgt(attach, &s->provider, s->vec, s->nr,
				       s->size, dir);
}

static void synthetic_sg_unmap(struct dma_buf_attachment *attach,
			       struct sg_table *sgt,
			       enum dma_data_direction dir)
{
	/*
	 * dma_buf_phys_vec_to_sgt() leaves 0 here to say that there are no
	 * pages, and sg_free_table() takes that for nothing to free.
	 */
	sgt->orig_nents = sgt->nents;
	dma_buf_free_sgt(attach, sgt, dir);
}

/* Memory that is nowhere doesn't move. */
static int synthetic_sg_pin(struct dma_buf_attachment *attach)
{
	return 0;
}

static void synthetic_sg_unpin(struct dma_buf_attachment *attach)
{
}

static void synthetic_sg_release(struct dma_buf *dmabuf)
{
	synthetic_free(dmabuf->priv);
}

static const struct dma_buf_ops synthetic_sg_ops = {
	.map_dma_buf = synthetic_sg_map,
	.unmap_dma_buf = synthetic_sg_unmap,
	.pin = synthetic_sg_pin,
	.unpin = synthetic_sg_unpin,
	.release = synthetic_sg_release,
};

static struct dma_buf *export_sg(struct synthetic *s)
{
	DEFINE_DMA_BUF_EXPORT_INFO(info);

	info.ops = &synthetic_sg_ops;
	info.size = s->size;
	info.flags = O_RDWR;
	info.priv = s;
	return dma_buf_export(&info);
}

/* A descriptor of a new dma-buf, or a negative errno. */
static int synthetic_fd(const struct pfn_edu_synthetic *arg,
			const struct p2pdma_provider *provider,
			struct dma_buf *(*export)(struct synthetic *s))
{
	struct dma_buf *dmabuf;
	struct synthetic *s;
	int fd;

	s = synthetic_create(arg, provider);
	if (IS_ERR(s))
		return PTR_ERR(s);
	dmabuf = export(s);
	if (IS_ERR(dmabuf)) {
		synthetic_free(s);
		return PTR_ERR(dmabuf);
	}
	fd = dma_buf_fd(dmabuf, O_CLOEXEC);
	if (fd < 0)
		dma_buf_put(dmabuf);
	return fd;
}

static void peek_invalidate(struct dma_buf_pfn_attachment *a, bool revoked)
{
	dma_buf_pfn_unmap(a);
}

static const struct dma_buf_pfn_importer_ops peek_ops = {
	.invalidate = peek_invalidate,
};

/* Whose memory is it? Takes a reference to the device. */
static int get_provider(struct device *dev, struct dma_buf *dmabuf,
			struct p2pdma_provider *provider)
{
	const struct dma_buf_pfn_loan *loan;
	struct dma_buf_pfn_attachment *a;
	int err = 0;

	a = dma_buf_pfn_attach(dmabuf, dev, DMA_BUF_PFN_DEFAULT, &peek_ops,
			       NULL);
	if (IS_ERR(a))
		return PTR_ERR(a);

	dma_resv_lock(dmabuf->resv, NULL);
	loan = dma_buf_pfn_map(a);
	if (IS_ERR(loan)) {
		err = PTR_ERR(loan);
	} else if (!loan->lend.provider) {
		err = -EOPNOTSUPP;
	} else {
		*provider = *loan->lend.provider;
		get_device(provider->owner);
	}
	dma_resv_unlock(dmabuf->resv);
	dma_buf_pfn_detach(a);
	return err;
}

/**
 * pfn_edu_synthetic - PFN_EDU_IOC_SYNTHETIC
 * @dev: the importing device
 * @arg: see there; the descriptors are in the table already when this returns
 *
 * Return: 0, or what that documents.
 */
int pfn_edu_synthetic(struct device *dev, struct pfn_edu_synthetic *arg)
{
	struct p2pdma_provider provider;
	struct dma_buf *like;
	int err;

	if (arg->reserved || !arg->ranges || arg->ranges > MAX_RANGES ||
	    !arg->range_size || !PAGE_ALIGNED(arg->range_size) ||
	    arg->range_size > SYNTHETIC_MAX / arg->ranges)
		return -EINVAL;
	like = dma_buf_get(arg->like_fd);
	if (IS_ERR(like))
		return PTR_ERR(like);
	err = get_provider(dev, like, &provider);
	dma_buf_put(like);
	if (err)
		return err;

	arg->pfn_fd = synthetic_fd(arg, &provider, export_pfn);
	arg->sg_fd = synthetic_fd(arg, &provider, export_sg);
	put_device(provider.owner);
	if (arg->pfn_fd >= 0 && arg->sg_fd >= 0)
		return 0;
	err = arg->pfn_fd < 0 ? arg->pfn_fd : arg->sg_fd;
	if (arg->pfn_fd >= 0)
		close_fd(arg->pfn_fd);
	if (arg->sg_fd >= 0)
		close_fd(arg->sg_fd);
	return err;
}
