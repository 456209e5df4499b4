/* SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB */
/*
 * What the KUnit suites start from: an exporter and an importer that do as they
 * are told and count what happens to them. Everything is cleaned up when the
 * test ends, however it ends.
 */
#ifndef _PFN_FAKE_KUNIT_H
#define _PFN_FAKE_KUNIT_H

#include <kunit/device.h>
#include <kunit/test.h>
#include <linux/dma-buf-pfn.h>
#include <linux/prandom.h>

#define FAKE_CAN_PIN	DMA_BUF_PFN_CAN_PIN
#define FAKE_MAY_MOVE	DMA_BUF_PFN_MAY_MOVE
#define FAKE_MAY_REVOKE	DMA_BUF_PFN_MAY_REVOKE
#define FAKE_ALL_CAPS	(FAKE_CAN_PIN | FAKE_MAY_MOVE | FAKE_MAY_REVOKE)

/**
 * struct fake_exporter - owns ranges, which need not exist
 * @test: the test
 * @dmabuf: the one reference to it
 * @pfn: the framework's side
 * @lend: what the next map lends; change it and invalidate to "move"
 * @map_err: what the next map returns
 * @maps: times the list was lent
 * @unmaps: times it came home
 * @last_home: cookie of the list that came home last
 * @releases: times the buffer was released
 */
struct fake_exporter {
	struct kunit *test;
	struct dma_buf *dmabuf;
	struct dma_buf_pfn *pfn;
	struct dma_buf_pfn_lend lend;
	int map_err;
	unsigned int maps;
	unsigned int unmaps;
	void *last_home;
	unsigned int releases;
};

/**
 * struct fake_importer - borrows when told, lets go when it has to
 * @a: its attachment
 * @invalidations: times it was told of a move
 * @revokes: times it was told that it is for good
 * @keeps: a bug: it doesn't let go
 */
struct fake_importer {
	struct dma_buf_pfn_attachment *a;
	unsigned int invalidations;
	unsigned int revokes;
	bool keeps;
};

struct fake_exporter *fake_export(struct kunit *test, unsigned long caps,
				  enum dma_buf_pfn_kind kind,
				  const struct phys_vec *vec, size_t nr);
struct fake_exporter *fake_export_simple(struct kunit *test,
					 unsigned long caps);
void fake_put(struct kunit *test, struct fake_exporter *ex);
const struct dma_buf_pfn_ops *fake_exporter_ops(void);

/* Each of them takes the reservation lock for its caller. */
int fake_invalidate(struct fake_exporter *ex);
int fake_revoke(struct fake_exporter *ex);
int fake_unrevoke(struct fake_exporter *ex);
void fake_remove(struct fake_exporter *ex);
bool fake_is_pinned(struct fake_exporter *ex);
bool fake_is_revoked(struct fake_exporter *ex);
unsigned int fake_nr_attachments(struct fake_exporter *ex);

struct fake_importer *fake_attach(struct kunit *test, struct fake_exporter *ex,
				  enum dma_buf_pfn_mode mode);
void fake_detach(struct kunit *test, struct fake_importer *im);
/* These, too. */
const struct dma_buf_pfn_loan *fake_map(struct fake_importer *im);
void fake_unmap(struct fake_importer *im);

struct device *fake_device(struct kunit *test);

/* Memory that does exist: @pages in ranges of up to @max_pages, @nr of them. */
struct phys_vec *fake_ram(struct kunit *test, struct rnd_state *rnd,
			  unsigned int pages, unsigned int max_pages,
			  size_t *nr);
u64 fake_size(const struct phys_vec *vec, size_t nr);

/* The seed is printed, and can be given as a module parameter. */
void fake_seed(struct kunit *test, struct rnd_state *rnd);

/* A number below @end */
static inline u32 fake_below(struct rnd_state *rnd, u32 end)
{
	return prandom_u32_state(rnd) % end;
}

#endif /* _PFN_FAKE_KUNIT_H */
