// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * pfn_vram: physical memory. Which of it is free, giving it out in the shape
 * that was asked for, zeroing it and copying it.
 *
 * VRAM of both backends, BAR and RAM, is a gen_pool of pages by physical
 * address, so that one allocator serves both. The host's RAM comes from the
 * page allocator, charged to the caller's memory cgroup; a range may be several
 * of its blocks, and the compound order of its pages tells them apart when they
 * go back, so nothing else has to be remembered. VRAM is charged to the caller's
 * device memory cgroup, where there is such a thing (pfn_vram_dmem.c).
 *
 * Allocation is all or nothing, fails fast on what can never be had, gives up
 * on a fatal signal, and does not warn, since the sizes are users' choice.
 */
#include <linux/genalloc.h>
#include <linux/gfp.h>
#include <linux/io.h>
#include <linux/log2.h>
#include <linux/mm.h>
#include <linux/overflow.h>
#include <linux/random.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>
#include <linux/sort.h>

#include "pfn_vram_priv.h"

/* CPU work between two looks at whether there is something better to do. */
#define MEM_STEP	SZ_256K

/* gen_pool and the direct map speak unsigned long. */
static_assert(sizeof(unsigned long) >= sizeof(phys_addr_t));

/*
 * The pool
 */

/* RAM behind a pool: one refcounted page after the other. */
struct ram_block {
	struct list_head node;
	unsigned long pfn;
	unsigned long nr;
};

int pfn_vram_pool_init(struct pfn_vram_dev *dev)
{
	dev->pool = gen_pool_create(PAGE_SHIFT, NUMA_NO_NODE);
	return dev->pool ? 0 : -ENOMEM;
}

/* All memory must have come home. */
void pfn_vram_pool_fini(struct pfn_vram_dev *dev)
{
	struct ram_block *block, *next;

	gen_pool_destroy(dev->pool);
	list_for_each_entry_safe(block, next, &dev->ram_blocks, node) {
		free_contig_range(block->pfn, block->nr);
		kfree(block);
	}
}

/**
 * pfn_vram_pool_add_io - make a BAR the device's VRAM
 * @dev: a device without any
 * @io: the BAR, mapped write-combining
 * @base: its physical address
 * @size: bytes
 *
 * Return: 0 or -ENOMEM.
 */
int pfn_vram_pool_add_io(struct pfn_vram_dev *dev, void __iomem *io,
			 phys_addr_t base, size_t size)
{
	dev->kind = DMA_BUF_PFN_MMIO;
	dev->caching = DMA_BUF_PFN_WC;
	dev->io = io;
	dev->io_base = base;
	return gen_pool_add(dev->pool, base, size, NUMA_NO_NODE);
}

/* The order of the largest block of not more than so many pages. */
static unsigned int max_order(u64 nr_pages)
{
	return min_t(unsigned int, ilog2(nr_pages), MAX_PAGE_ORDER);
}

/* Takes over nr pages from pfn on, each with a reference. */
static int pool_add_ram_block(struct pfn_vram_dev *dev, unsigned long pfn,
			      unsigned long nr)
{
	struct ram_block *block;
	int err = -ENOMEM;

	block = kmalloc_obj(*block);
	if (!block)
		goto err_pages;
	err = gen_pool_add(dev->pool, PFN_PHYS(pfn), nr << PAGE_SHIFT,
			   NUMA_NO_NODE);
	if (err)
		goto err_block;

	block->pfn = pfn;
	block->nr = nr;
	list_add(&block->node, &dev->ram_blocks);
	return 0;

err_block:
	kfree(block);
err_pages:
	free_contig_range(pfn, nr);
	return err;
}

/**
 * pfn_vram_pool_add_ram - set RAM aside as the device's VRAM
 * @dev: a device without any
 * @nr_pages: how much
 *
 * In one piece if there is one, otherwise in pieces as large as the page
 * allocator has: buffers consist of more ranges then.
 *
 * Return: 0 or -ENOMEM; pfn_vram_pool_fini() gives back what has been added.
 */
int pfn_vram_pool_add_ram(struct pfn_vram_dev *dev, unsigned long nr_pages)
{
	const gfp_t gfp = GFP_KERNEL | __GFP_NOWARN;
	unsigned int order;
	struct page *page;
	int err;

	dev->kind = DMA_BUF_PFN_RAM;
	dev->caching = DMA_BUF_PFN_WB;
	if (nr_pages >= totalram_pages())
		return -ENOMEM;

	page = alloc_contig_pages(nr_pages, gfp, numa_mem_id(), NULL);
	if (page)
		return pool_add_ram_block(dev, page_to_pfn(page), nr_pages);

	for (order = MAX_PAGE_ORDER; nr_pages; nr_pages -= 1UL << order) {
		order = min(order, max_order(nr_pages));
		page = alloc_pages(gfp | __GFP_RETRY_MAYFAIL, order);
		while (!page && order)
			page = alloc_pages(gfp | __GFP_RETRY_MAYFAIL, --order);
		if (!page)
			return -ENOMEM;
		split_page(page, order);
		err = pool_add_ram_block(dev, page_to_pfn(page), 1UL << order);
		if (err)
			return err;
	}
	return 0;
}

struct pool_run {
	unsigned long longest;
	unsigned long enough;
};

static void pool_chunk_longest_run(struct gen_pool *pool,
				   struct gen_pool_chunk *chunk, void *data)
{
	unsigned long end, nr, start = 0;
	struct pool_run *run = data;

	nr = (chunk->end_addr - chunk->start_addr + 1) >> PAGE_SHIFT;
	while (run->longest < run->enough) {
		start = find_next_zero_bit(chunk->bits, nr, start);
		if (start >= nr)
			break;
		end = find_next_bit(chunk->bits, nr, start);
		run->longest = max(run->longest, end - start);
		start = end;
	}
}

/* Bytes of the longest piece that is free, but not more than needed. */
static u64 pool_longest_run(struct pfn_vram_dev *dev, u64 enough)
{
	struct pool_run run = { .enough = enough >> PAGE_SHIFT };

	gen_pool_for_each_chunk(dev->pool, pool_chunk_longest_run, &run);
	return min((u64)run.longest << PAGE_SHIFT, enough);
}

/*
 * Take one piece, aligned as well as a huge page would like it if that can be
 * had. 0: there is none.
 */
static phys_addr_t pool_take(struct pfn_vram_dev *dev, size_t len)
{
	struct genpool_data_align data = {
		.align = min(rounddown_pow_of_two(len), SZ_2M),
	};
	unsigned long addr;

	addr = gen_pool_alloc_algo(dev->pool, len, gen_pool_first_fit_align,
				   &data);
	return addr ?: gen_pool_alloc(dev->pool, len);
}

/*
 * Lists of ranges
 */

static size_t vec_bytes(size_t nr)
{
	return array_size(nr, sizeof(struct phys_vec));
}

/* Make room for that many ranges; those there are stay. */
static int vec_resize(struct pfn_vram_mem *mem, size_t max)
{
	struct phys_vec *vec;

	vec = kvmalloc(vec_bytes(max), GFP_KERNEL_ACCOUNT | __GFP_NOWARN);
	if (!vec)
		return -ENOMEM;

	if (mem->nr)
		memcpy(vec, mem->vec, vec_bytes(mem->nr));
	kvfree(mem->vec);
	mem->vec = vec;
	mem->max = max;
	return 0;
}

static int vec_reserve(struct pfn_vram_mem *mem)
{
	if (mem->nr < mem->max)
		return 0;
	return vec_resize(mem, mem->max ? mem->max * 2 : 4);
}

/* Only after vec_reserve(). */
static void vec_add(struct pfn_vram_mem *mem, phys_addr_t paddr, size_t len)
{
	mem->vec[mem->nr++] = (struct phys_vec){ .paddr = paddr, .len = len };
}

/* Two pieces of a pool may touch and still be two: they go back separately. */
static bool vec_can_merge(const struct pfn_vram_mem *mem,
			  const struct phys_vec *a, const struct phys_vec *b)
{
	if (a->paddr + a->len != b->paddr)
		return false;
	return mem->where != PFN_VRAM_PLACEMENT_VRAM ||
	       gen_pool_has_addr(mem->dev->pool, a->paddr, a->len + b->len);
}

static int vec_cmp(const void *pa, const void *pb)
{
	const struct phys_vec *a = pa, *b = pb;

	return a->paddr < b->paddr ? -1 : a->paddr > b->paddr;
}

/* As few ranges as possible; their order is still ours to choose. */
static void vec_merge(struct pfn_vram_mem *mem)
{
	struct phys_vec *last = mem->vec;
	size_t i;

	sort_nonatomic(mem->vec, mem->nr, sizeof(*mem->vec), vec_cmp, NULL);
	for (i = 1; i < mem->nr; i++) {
		if (vec_can_merge(mem, last, &mem->vec[i]))
			last->len += mem->vec[i].len;
		else
			*++last = mem->vec[i];
		if (!(i % SZ_64K))
			cond_resched();
	}
	mem->nr = last - mem->vec + 1;
}

/*
 * Scatter the ranges: a random order in which none directly follows the one
 * that is before it in memory. A shorter one at the end has to stay there.
 */
static void vec_scatter(struct pfn_vram_mem *mem)
{
	struct phys_vec *vec = mem->vec;
	size_t i, nr = mem->nr;

	if (nr > 1 && vec[nr - 1].len < vec[0].len)
		nr--;

	for (i = nr; i > 1; i--) {
		/* swap() evaluates its arguments twice */
		size_t j = get_random_u32_below(i);

		swap(vec[i - 1], vec[j]);
		if (!(i % SZ_64K))
			cond_resched();
	}
	for (i = 1; i < nr; i++)
		if (vec[i - 1].paddr + vec[i - 1].len == vec[i].paddr)
			swap(vec[i - 1], vec[i]);
}

/*
 * VRAM
 */

static void mem_give_vram(struct pfn_vram_mem *mem)
{
	struct pfn_vram_dev *dev = mem->dev;
	size_t i;

	for (i = 0; i < mem->nr; i++) {
		gen_pool_free(dev->pool, mem->vec[i].paddr, mem->vec[i].len);
		if (!(i % 1024))
			cond_resched();
	}
	pfn_vram_dmem_uncharge(mem);
	if (atomic_dec_and_test(&dev->nr_vram))
		wake_up_all(&dev->vram_idle);
}

/* Enter a piece of the pool into the list, cut up if so desired. */
static int mem_add_piece(struct pfn_vram_mem *mem, phys_addr_t paddr,
			 size_t len, size_t cut)
{
	int err;

	for (; len; len -= cut, paddr += cut) {
		cut = min(cut, len);
		err = vec_reserve(mem);
		if (err) {
			gen_pool_free(mem->dev->pool, paddr, len);
			return err;
		}
		vec_add(mem, paddr, cut);
	}
	return 0;
}

/* The longest piece that is of use for what is left. 0: there is none. */
static u64 vram_next_len(struct pfn_vram_dev *dev, u64 left, u64 chunk)
{
	u64 run = pool_longest_run(dev, left);

	/* Only the tail may be shorter than a chunk. */
	if (chunk && run < left)
		run = round_down(run, chunk);
	return run;
}

static int mem_take_vram_locked(struct pfn_vram_mem *mem, u64 size, u64 chunk)
{
	struct pfn_vram_dev *dev = mem->dev;
	phys_addr_t paddr;
	u64 left, len;
	int err;

	lockdep_assert_held(&dev->alloc_lock);

	if (size > gen_pool_avail(dev->pool))
		return -ENOSPC;
	err = pfn_vram_dmem_charge(mem, size);
	if (err)
		return err;

	for (left = size; left; left -= len) {
		if (fatal_signal_pending(current))
			return -EINTR;
		len = vram_next_len(dev, left, chunk);
		if (!len)
			return -ENOSPC;
		paddr = pool_take(dev, len);
		if (!paddr)
			return -ENOSPC;
		err = mem_add_piece(mem, paddr, len, chunk ?: len);
		if (err)
			return err;
		cond_resched();
	}
	return 0;
}

static int mem_take_vram(struct pfn_vram_mem *mem, u64 size, u64 chunk)
{
	struct pfn_vram_dev *dev = mem->dev;
	int err;

	if (mutex_lock_killable(&dev->alloc_lock))
		return -EINTR;
	err = mem_take_vram_locked(mem, size, chunk);
	mutex_unlock(&dev->alloc_lock);
	return err;
}

/*
 * The host's RAM
 */

static void system_give(phys_addr_t paddr, size_t len)
{
	size_t done, step;

	for (done = 0; done < len; done += step) {
		struct page *page = pfn_to_page(PHYS_PFN(paddr + done));
		unsigned int order = compound_order(page);

		step = PAGE_SIZE << order;
		__free_pages(page, order);
	}
}

static void mem_give_system(struct pfn_vram_mem *mem)
{
	size_t i;

	for (i = 0; i < mem->nr; i++) {
		system_give(mem->vec[i].paddr, mem->vec[i].len);
		if (!(i % 1024))
			cond_resched();
	}
}

/* One piece, exactly that long. 0: there is none. */
static phys_addr_t system_take_exactly(size_t len, gfp_t gfp)
{
	unsigned int order = get_order(len);
	struct page *page;
	void *kva;

	if (order > MAX_PAGE_ORDER)
		return 0;
	if (is_power_of_2(len)) {
		page = alloc_pages(gfp | (order ? __GFP_COMP : 0), order);
		return page ? page_to_phys(page) : 0;
	}
	kva = alloc_pages_exact(len, gfp);
	return kva ? virt_to_phys(kva) : 0;
}

/* One piece, not longer than *len, and how long it is. 0: there is none. */
static phys_addr_t system_take_up_to(u64 *len, unsigned int *order, gfp_t gfp)
{
	struct page *page;

	*order = min(*order, max_order(*len >> PAGE_SHIFT));
	for (; *order; (*order)--) {
		page = alloc_pages((gfp & ~__GFP_RETRY_MAYFAIL) |
				   __GFP_NORETRY | __GFP_COMP, *order);
		if (page)
			goto out;
	}
	page = alloc_page(gfp);
	if (!page)
		return 0;
out:
	*len = PAGE_SIZE << *order;
	return page_to_phys(page);
}

static int mem_take_system(struct pfn_vram_mem *mem, u64 size, u64 chunk,
			   bool zero)
{
	const gfp_t gfp = GFP_KERNEL_ACCOUNT | __GFP_NOWARN |
			  __GFP_RETRY_MAYFAIL | (zero ? __GFP_ZERO : 0);
	unsigned int order = MAX_PAGE_ORDER;
	phys_addr_t paddr;
	u64 left, len;
	int err;

	/* Never the whole machine's; also, no need to try what can't succeed. */
	if (size >> PAGE_SHIFT > max(si_mem_available(), 0))
		return -ENOMEM;

	for (left = size; left; left -= len) {
		if (fatal_signal_pending(current))
			return -EINTR;
		err = vec_reserve(mem);
		if (err)
			return err;
		len = chunk ? min(left, chunk) : left;
		if (chunk)
			paddr = system_take_exactly(len, gfp);
		else
			paddr = system_take_up_to(&len, &order, gfp);
		if (!paddr)
			return -ENOMEM;
		vec_add(mem, paddr, len);
		cond_resched();
	}
	return 0;
}

/*
 * Access by the CPU
 */

/* Where a walk through the bytes of a mem is. */
struct mem_cursor {
	const struct pfn_vram_mem *mem;
	size_t i;
	size_t offset;
};

static bool cursor_at_end(const struct mem_cursor *c)
{
	return c->i == c->mem->nr;
}

static size_t cursor_left(const struct mem_cursor *c)
{
	return c->mem->vec[c->i].len - c->offset;
}

static phys_addr_t cursor_paddr(const struct mem_cursor *c)
{
	return c->mem->vec[c->i].paddr + c->offset;
}

static void cursor_advance(struct mem_cursor *c, size_t len)
{
	c->offset += len;
	if (c->offset == c->mem->vec[c->i].len) {
		c->i++;
		c->offset = 0;
	}
}

static void *cursor_kva(const struct mem_cursor *c)
{
	return phys_to_virt(cursor_paddr(c));
}

static void __iomem *cursor_io(const struct mem_cursor *c)
{
	struct pfn_vram_dev *dev = c->mem->dev;

	lockdep_assert_held(&dev->io_lock);
	return dev->io + (cursor_paddr(c) - dev->io_base);
}

/*
 * The BAR is there until this is undone. False: unplugged. Needed for RAM as
 * little as it hurts, which is why nobody makes a difference.
 */
static bool io_enter(struct pfn_vram_dev *dev)
{
	down_read(&dev->io_lock);
	if (dev->io || dev->kind != DMA_BUF_PFN_MMIO)
		return true;
	up_read(&dev->io_lock);
	return false;
}

static void io_exit(struct pfn_vram_dev *dev)
{
	up_read(&dev->io_lock);
}

static int mem_zero(const struct pfn_vram_mem *mem)
{
	struct mem_cursor c = { .mem = mem };
	size_t len;

	while (!cursor_at_end(&c)) {
		if (fatal_signal_pending(current))
			return -EINTR;
		if (!io_enter(mem->dev))
			return -ENODEV;
		len = min(cursor_left(&c), MEM_STEP);
		if (pfn_vram_mem_is_io(mem))
			memset_io(cursor_io(&c), 0, len);
		else
			memset(cursor_kva(&c), 0, len);
		io_exit(mem->dev);
		cursor_advance(&c, len);
		cond_resched();
	}
	if (pfn_vram_mem_is_io(mem))
		wmb(); /* drain write-combining before anybody else looks */
	return 0;
}

static void copy_io_to_io(void __iomem *to, void __iomem *from, size_t len,
			  void *bounce)
{
	size_t done, step;

	for (done = 0; done < len; done += step) {
		step = min(len - done, PAGE_SIZE);
		memcpy_fromio(bounce, from + done, step);
		memcpy_toio(to + done, bounce, step);
	}
}

static void copy_step(const struct mem_cursor *to,
		      const struct mem_cursor *from, size_t len, void *bounce)
{
	bool to_io = pfn_vram_mem_is_io(to->mem);
	bool from_io = pfn_vram_mem_is_io(from->mem);

	if (to_io && from_io)
		copy_io_to_io(cursor_io(to), cursor_io(from), len, bounce);
	else if (to_io)
		memcpy_toio(cursor_io(to), cursor_kva(from), len);
	else if (from_io)
		memcpy_fromio(cursor_kva(to), cursor_io(from), len);
	else
		memcpy(cursor_kva(to), cursor_kva(from), len);
}

/**
 * pfn_vram_mem_copy - copy all bytes
 * @to: where to
 * @from: where from, of the same device and as long
 * @bounce: a page to use if both are a BAR
 *
 * Part of a fence's signalling path: does not allocate, nor wait for anything
 * but the CPU. All bytes are visible to everybody when it returns.
 *
 * Return: 0, or -ENODEV if the device was unplugged halfway.
 */
int pfn_vram_mem_copy(const struct pfn_vram_mem *to,
		      const struct pfn_vram_mem *from, void *bounce)
{
	struct mem_cursor d = { .mem = to }, s = { .mem = from };
	size_t len;

	while (!cursor_at_end(&d) && !cursor_at_end(&s)) {
		if (!io_enter(to->dev))
			return -ENODEV;
		len = min3(cursor_left(&d), cursor_left(&s), MEM_STEP);
		copy_step(&d, &s, len, bounce);
		io_exit(to->dev);
		cursor_advance(&d, len);
		cursor_advance(&s, len);
		cond_resched();
	}
	wmb(); /* drain write-combining before the fence signals */
	return 0;
}

/* Not a pattern that a test would write, nor a pointer. */
#define POISON_BYTE	0xb5

/**
 * pfn_vram_mem_poison - overwrite it all
 * @mem: the memory
 *
 * Return: 0, or -ENODEV if the device was unplugged halfway.
 */
int pfn_vram_mem_poison(const struct pfn_vram_mem *mem)
{
	struct mem_cursor c = { .mem = mem };
	size_t len;

	while (!cursor_at_end(&c)) {
		if (!io_enter(mem->dev))
			return -ENODEV;
		len = min(cursor_left(&c), MEM_STEP);
		if (pfn_vram_mem_is_io(mem))
			memset_io(cursor_io(&c), POISON_BYTE, len);
		else
			memset(cursor_kva(&c), POISON_BYTE, len);
		io_exit(mem->dev);
		cursor_advance(&c, len);
		cond_resched();
	}
	wmb(); /* drain write-combining before anybody can touch it */
	return 0;
}

/**
 * pfn_vram_mem_find_touched - is all of it as pfn_vram_mem_poison() left it?
 * @mem: the memory
 * @bounce: a page
 * @where: set to the physical address of the first byte that is not
 *
 * Return: 0 if it is; 1 if not; -ENODEV if the device was unplugged halfway.
 */
int pfn_vram_mem_find_touched(const struct pfn_vram_mem *mem, void *bounce,
			      phys_addr_t *where)
{
	struct mem_cursor c = { .mem = mem };
	const void *bad;
	size_t len;

	while (!cursor_at_end(&c)) {
		if (!io_enter(mem->dev))
			return -ENODEV;
		len = min(cursor_left(&c), PAGE_SIZE);
		if (pfn_vram_mem_is_io(mem))
			memcpy_fromio(bounce, cursor_io(&c), len);
		else
			memcpy(bounce, cursor_kva(&c), len);
		io_exit(mem->dev);

		bad = memchr_inv(bounce, POISON_BYTE, len);
		if (bad) {
			*where = cursor_paddr(&c) + (bad - bounce);
			return 1;
		}
		cursor_advance(&c, len);
		cond_resched();
	}
	return 0;
}

/*
 * Putting it together
 */

static void mem_free(struct kref *ref)
{
	struct pfn_vram_mem *mem = container_of(ref, struct pfn_vram_mem, ref);

	if (mem->where == PFN_VRAM_PLACEMENT_VRAM)
		mem_give_vram(mem);
	else
		mem_give_system(mem);
	kvfree(mem->vec);
	pfn_vram_dev_put(mem->dev);
	kfree(mem);
}

/**
 * pfn_vram_mem_put - drop a reference
 * @mem: the memory, or NULL
 *
 * Context: process context, may sleep; under a reservation lock or not.
 */
void pfn_vram_mem_put(struct pfn_vram_mem *mem)
{
	if (mem)
		kref_put(&mem->ref, mem_free);
}

static struct pfn_vram_mem *mem_new(struct pfn_vram_dev *dev,
				    enum pfn_vram_placement where)
{
	struct pfn_vram_mem *mem;

	mem = kzalloc_obj(*mem, GFP_KERNEL_ACCOUNT);
	if (!mem)
		return NULL;

	kref_init(&mem->ref);
	mem->dev = pfn_vram_dev_get(dev);
	mem->where = where;
	if (where == PFN_VRAM_PLACEMENT_VRAM)
		atomic_inc(&dev->nr_vram);
	return mem;
}

static int mem_fill(struct pfn_vram_mem *mem, u64 size, u64 chunk, bool zero)
{
	int err;

	if (mem->where == PFN_VRAM_PLACEMENT_VRAM)
		err = mem_take_vram(mem, size, chunk);
	else
		err = mem_take_system(mem, size, chunk, zero);
	if (err)
		return err;

	if (chunk)
		vec_scatter(mem);
	else
		vec_merge(mem);
	/* Not having the smaller list is no reason to fail. */
	if (mem->nr < mem->max)
		vec_resize(mem, mem->nr);

	if (zero && mem->where == PFN_VRAM_PLACEMENT_VRAM)
		return mem_zero(mem);
	return 0;
}

/**
 * pfn_vram_mem_alloc - allocate physical memory
 * @dev: the device
 * @where: VRAM or the host's RAM
 * @size: bytes, a positive multiple of PAGE_SIZE
 * @chunk: 0 for few and long ranges, or a power of two of at least PAGE_SIZE:
 *	the length of every range but perhaps the last, in random order
 * @zero: clear it; needed unless every byte will be overwritten before anybody
 *	sees it
 *
 * Context: process context, no locks held. Takes long for large sizes.
 * Return: the memory; ERR_PTR(-ENOSPC) if there is not enough VRAM (in one
 * piece), or the caller's cgroup may not have so much of it, -ENOMEM if there
 * is not enough RAM, -EINTR if the caller has to die, -ENODEV if the device was
 * unplugged.
 */
struct pfn_vram_mem *pfn_vram_mem_alloc(struct pfn_vram_dev *dev,
					enum pfn_vram_placement where, u64 size,
					u64 chunk, bool zero)
{
	struct pfn_vram_mem *mem;
	int err;

	mem = mem_new(dev, where);
	if (!mem)
		return ERR_PTR(-ENOMEM);

	err = mem_fill(mem, size, chunk, zero);
	if (err) {
		pfn_vram_mem_put(mem);
		return ERR_PTR(err);
	}
	return mem;
}
