// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * DMA addresses for a loan, see <linux/pfn-dma-map.h>.
 *
 * This is here and not in ib_umem_pfn since nothing about it is RDMA's: an
 * importer of any kind that has a device and a loan can use it, and so do the
 * scatterlists for legacy importers (..._helpers.c).
 *
 * A mapping points into the loan, so it must go before the loan does: importers
 * unmap in their invalidate callback, after they have stopped their device.
 * That is also what undoes mappings of a PCI device's memory when that device
 * goes away: its exporter revokes.
 *
 * All lengths that are mapped are whole pages. Ranges consist of pages of the
 * dma-buf, so that shows a device nothing that isn't the buffer's, and an
 * untrusted device, for which the DMA API bounces parts of pages, needs no
 * bounce buffer.
 */
#include <linux/dma-direct.h>
#include <linux/dma-map-ops.h>
#include <linux/dma-resv.h>
#include <linux/export.h>
#include <linux/iommu-dma.h>
#include <linux/overflow.h>
#include <linux/pci-p2pdma.h>
#include <linux/pci.h>
#include <linux/pfn-dma-map.h>
#include <linux/slab.h>

#include "dma_buf_pfn_priv.h"

/* Ranges between two looks at whether somebody else wants the CPU. */
#define RESCHED_RANGES	SZ_4K

static int dma_refuse(struct pfn_dma_map *map, int err, const char *reason)
{
	map->reason = reason;
	return err;
}

/**
 * struct piece - what a range has in a mapping
 * @map: the mapping
 * @paddr: physical address
 * @len: bytes
 * @pos: offset from the mapping's first page, bytes
 * @index: of the range, from the mapping's first one
 * @start: private: offset in the dma-buf of the range after it
 */
struct piece {
	const struct pfn_dma_map *map;
	phys_addr_t paddr;
	size_t len;
	u64 pos;
	size_t index;
	u64 start;
};

static u64 map_first_page(const struct pfn_dma_map *map)
{
	return round_down(map->offset, PAGE_SIZE);
}

static u64 map_end_page(const struct pfn_dma_map *map)
{
	return round_up(map->offset + map->length, PAGE_SIZE);
}

static u64 map_bytes(const struct pfn_dma_map *map)
{
	return map_end_page(map) - map_first_page(map);
}

/* The range @index of the loan, which starts at @start. */
static void piece_at(const struct pfn_dma_map *map, struct piece *p,
		     size_t index, u64 start)
{
	const struct phys_vec *r = &map->loan->lend.vec[index];
	u64 from = max(start, map_first_page(map));

	p->paddr = r->paddr + (from - start);
	p->len = min(start + r->len, map_end_page(map)) - from;
	p->pos = from - map_first_page(map);
	p->index = index - map->first;
	p->start = start + r->len;
}

static struct piece *piece_start(struct piece *p, const struct pfn_dma_map *map)
{
	p->map = map;
	p->index = -1;
	p->start = map->first_start;
	return p;
}

static bool piece_next(struct piece *p)
{
	if (p->start >= map_end_page(p->map))
		return false;
	piece_at(p->map, p, p->map->first + p->index + 1, p->start);
	if (!((p->index + 1) % RESCHED_RANGES))
		cond_resched();
	return true;
}

/* May sleep. Afterwards @p is the last one. */
#define for_each_piece(p, map)						\
	for (struct piece *__p = piece_start(p, map); piece_next(__p);)

/* Unless there is an array the address is computed. */
static dma_addr_t piece_addr(const struct pfn_dma_map *map,
			     const struct piece *p)
{
	return map->addrs ? map->addrs[p->index] : p->paddr + map->delta;
}

static bool bridge_redirects(struct pci_dev *bridge)
{
	u16 ctrl;

	if (!bridge->acs_cap)
		return false;
	pci_read_config_word(bridge, bridge->acs_cap + PCI_ACS_CTRL, &ctrl);
	return ctrl & (PCI_ACS_RR | PCI_ACS_CR | PCI_ACS_EC);
}

/* Does any port from @dev up to @top, exclusive, send everything upstream? */
static bool path_redirects(struct pci_dev *dev, struct pci_dev *top)
{
	for (; dev != top; dev = pci_upstream_bridge(dev))
		if (bridge_redirects(dev))
			return true;
	return false;
}

static bool is_above(struct pci_dev *top, struct pci_dev *dev)
{
	for (; dev; dev = pci_upstream_bridge(dev))
		if (dev == top)
			return true;
	return false;
}

/*
 * What the kernel's pci_p2pdma_map_type() would say, if it were exported. Whether
 * there is a way at all is asked with an exported function; which way it is
 * depends on whether the two meet below the host bridge and on the access
 * control (ACS) of the ports between.
 */
static int p2p_route(struct pfn_dma_map *map, enum pfn_dma_bus *bus)
{
	struct p2pdma_provider *provider = map->loan->lend.provider;
	struct pci_dev *owner, *client, *top;

	if (!provider || !dev_is_pci(provider->owner))
		return dma_refuse(map, -EOPNOTSUPP,
				  "the exporter does not offer its device memory for peer-to-peer DMA");
	if (!dev_is_pci(map->dev))
		return dma_refuse(map, -EOPNOTSUPP,
				  "the device is not a PCI device, the memory is one's");
	owner = to_pci_dev(provider->owner);
	client = to_pci_dev(map->dev);
	if (pci_p2pdma_distance(owner, map->dev, false) < 0)
		return dma_refuse(map, -EREMOTEIO,
				  "no peer-to-peer DMA between the two PCI devices: they share no switch, and the host bridge is not known to pass it on");

	for (top = owner; top; top = pci_upstream_bridge(top))
		if (is_above(top, client))
			break;
	*bus = PFN_DMA_DIRECT;
	if (top && !path_redirects(owner, top) && !path_redirects(client, top) &&
	    !bridge_redirects(top))
		*bus = PFN_DMA_P2P_BUS;
	return 0;
}

/* Can the device put out the addresses from @first to @last? */
static bool dev_reaches(struct device *dev, dma_addr_t first, dma_addr_t last)
{
	return first != DMA_MAPPING_ERROR && first <= last &&
	       last <= min_not_zero(*dev->dma_mask, dev->bus_dma_limit);
}

/*
 * Asked before the DMA API is, as its first refusal prints a WARN, and users must
 * not be able to cause that. phys_to_dma() is not for drivers to get an address
 * from; but it is what tells which address the DMA API would give. Counts the
 * pieces as well.
 */
static int check_reach(struct pfn_dma_map *map)
{
	bool mmio = map->loan->lend.kind == DMA_BUF_PFN_MMIO;
	struct piece p;

	for_each_piece(&p, map) {
		phys_addr_t last = p.paddr + p.len - 1;
		bool ok;

		if (map->bus == PFN_DMA_P2P_BUS)
			ok = dev_reaches(map->dev, p.paddr + map->delta,
					 last + map->delta);
		else if (mmio)
			ok = dev_reaches(map->dev,
					 phys_to_dma_unencrypted(map->dev, p.paddr),
					 phys_to_dma_unencrypted(map->dev, last));
		else
			ok = dev_reaches(map->dev,
					 phys_to_dma(map->dev, p.paddr),
					 phys_to_dma(map->dev, last));
		if (!ok)
			return dma_refuse(map, -ERANGE,
					  "the device's DMA mask does not reach the memory, and there is no IOMMU to help");
	}
	map->extents = p.index + 1;
	return 0;
}

/* Undo the link of the first @linked bytes and free the IOVA range. */
static void iova_undo(struct pfn_dma_map *map, u64 linked)
{
	dma_iova_destroy(map->dev, &map->iova, linked, map->dir, map->attrs);
}

static int map_iova(struct pfn_dma_map *map)
{
	struct piece p;
	int err;

	for_each_piece(&p, map) {
		err = dma_iova_link(map->dev, &map->iova, p.paddr, p.pos, p.len,
				    map->dir, map->attrs);
		if (err) {
			iova_undo(map, p.pos);
			return dma_refuse(map, err,
					  "the IOMMU did not take a range");
		}
	}

	err = dma_iova_sync(map->dev, &map->iova, 0, map_bytes(map));
	if (err) {
		iova_undo(map, map_bytes(map));
		return dma_refuse(map, err, "the IOMMU did not synchronise");
	}
	map->extents = 1;
	return 0;
}

/*
 * Remember the address of a piece: by its distance from the physical address if
 * that is the same for all, which it is unless the bus translates by region.
 */
static int note_addr(struct pfn_dma_map *map, const struct piece *p,
		     dma_addr_t addr)
{
	struct piece q;

	if (!p->index)
		map->delta = addr - p->paddr;
	if (!map->addrs) {
		if (addr == p->paddr + map->delta)
			return 0;
		map->addrs = kvmalloc_array(map->loan->lend.nr - map->first,
					    sizeof(*map->addrs),
					    GFP_KERNEL_ACCOUNT);
		if (!map->addrs)
			return -ENOMEM;
		for_each_piece(&q, map) {
			if (q.index == p->index)
				break;
			map->addrs[q.index] = q.paddr + map->delta;
		}
	}
	map->addrs[p->index] = addr;
	return 0;
}

/* Undo the mapping of the first @nr pieces. */
static void direct_undo(struct pfn_dma_map *map, size_t nr)
{
	struct piece p;

	for_each_piece(&p, map) {
		if (p.index == nr)
			break;
		dma_unmap_phys(map->dev, piece_addr(map, &p), p.len, map->dir,
			       map->attrs);
	}
	kvfree(map->addrs);
	map->addrs = NULL;
}

static int map_direct(struct pfn_dma_map *map)
{
	struct piece p;
	int err;

	for_each_piece(&p, map) {
		dma_addr_t addr = dma_map_phys(map->dev, p.paddr, p.len,
					       map->dir, map->attrs);

		if (dma_mapping_error(map->dev, addr)) {
			direct_undo(map, p.index);
			return dma_refuse(map, -EIO,
					  "the device needs a bounce buffer to reach the memory");
		}
		err = note_addr(map, &p, addr);
		if (err) {
			dma_unmap_phys(map->dev, addr, p.len, map->dir,
				       map->attrs);
			direct_undo(map, p.index);
			return err;
		}
	}
	return 0;
}

static int map_bus(struct pfn_dma_map *map)
{
	map->delta = map->loan->lend.provider->bus_offset;
	return check_reach(map);
}

/* By the host bridge: through the IOMMU if the device has one. */
static int map_host(struct pfn_dma_map *map)
{
	int err;

	if (dma_iova_try_alloc(map->dev, &map->iova, 0, map_bytes(map))) {
		map->bus = PFN_DMA_IOVA;
		return map_iova(map);
	}
	if (use_dma_iommu(map->dev))
		return dma_refuse(map, -ENOMEM,
				  "the IOMMU has no free address range as long as that below the device's DMA mask");

	map->bus = PFN_DMA_DIRECT;
	err = check_reach(map);
	return err ?: map_direct(map);
}

static int map_check(struct pfn_dma_map *map)
{
	u64 end;

	if (!map->length || check_add_overflow(map->offset, map->length, &end) ||
	    end > map->loan->size)
		return dma_refuse(map, -EINVAL,
				  "the range is empty or ends beyond the end of the dma-buf");
	if (map->loan->lend.kind > DMA_BUF_PFN_MMIO)
		return dma_refuse(map, -EOPNOTSUPP,
				  "the exporter lends no physical ranges");
	if (!map->dev->dma_mask || !*map->dev->dma_mask)
		return dma_refuse(map, -EOPNOTSUPP, "the device does no DMA");
	if (map->coherent && !dev_is_dma_coherent(map->dev))
		return dma_refuse(map, -EOPNOTSUPP,
				  "the device does not snoop the CPU's caches");
	return 0;
}

/**
 * dma_buf_pfn_dma_map - let a device see (a part of) a loan
 * @map: filled in, whatever was in it before; on failure @map->reason says why,
 *	and no more is to be done with it
 * @loan: a borrowed loan; reservation lock of its dma-buf held
 * @dev: the device that will do DMA, which need not be the one that attached
 * @offset: first byte in the dma-buf
 * @length: bytes
 * @dir: what the device may do
 *
 * To be undone with dma_buf_pfn_dma_unmap() before the loan is given back, which
 * an importer has to do in its invalidate callback, and before @dev's driver is
 * unbound. The content may be accessed once the KERNEL fences on the reservation
 * object have signalled.
 *
 * Context: process context, may sleep.
 * Return: 0, or, with nothing left behind:
 * -EINVAL	nothing, or more than there is, was asked for
 * -EOPNOTSUPP	this kind of memory is not for this kind of device
 * -EREMOTEIO	no way for peer-to-peer DMA between the two PCI devices
 * -ERANGE	out of reach of the device's DMA mask
 * -EIO		reachable with a bounce buffer only
 * -ENOMEM	no memory, or no IOMMU address space; or an error of the IOMMU
 */
int dma_buf_pfn_dma_map(struct pfn_dma_map *map,
			const struct dma_buf_pfn_loan *loan, struct device *dev,
			u64 offset, u64 length, enum dma_data_direction dir)
{
	bool mmio = loan->lend.kind == DMA_BUF_PFN_MMIO;
	enum pfn_dma_bus route = PFN_DMA_DIRECT;
	int err;

	dma_resv_assert_held(pfn_loan_of(loan)->dmabuf->resv);

	*map = (struct pfn_dma_map) {
		.coherent = !mmio && loan->lend.caching == DMA_BUF_PFN_WB,
		.dir = dir,
		.offset = offset,
		.length = length,
		.dev = dev,
		.loan = loan,
		.attrs = mmio ? DMA_ATTR_MMIO : DMA_ATTR_REQUIRE_COHERENT,
	};
	err = map_check(map);
	if (!err && mmio)
		err = p2p_route(map, &route);
	if (err)
		goto out;

	map->first = dma_buf_pfn_loan_find(loan, offset, &map->first_start);
	map->bus = route;
	err = route == PFN_DMA_P2P_BUS ? map_bus(map) : map_host(map);
out:
	if (err)
		map->bus = PFN_DMA_UNMAPPED;
	return err;
}
EXPORT_SYMBOL_NS_GPL(dma_buf_pfn_dma_map, "DMA_BUF_PFN");

/**
 * dma_buf_pfn_dma_unmap - the device is not to see it any more
 * @map: the mapping; harmless if unmapped, or all zero
 *
 * The device must have stopped using it. Behind an IOMMU it gets a fault from
 * then on.
 *
 * Context: process context, may sleep; reservation lock held.
 */
void dma_buf_pfn_dma_unmap(struct pfn_dma_map *map)
{
	if (map->bus == PFN_DMA_UNMAPPED)
		return;
	dma_resv_assert_held(pfn_loan_of(map->loan)->dmabuf->resv);

	if (map->bus == PFN_DMA_IOVA)
		iova_undo(map, map_bytes(map));
	else if (map->bus == PFN_DMA_DIRECT && dma_need_unmap(map->dev))
		direct_undo(map, map->extents);
	kvfree(map->addrs);
	map->addrs = NULL;
	map->loan = NULL;
	map->bus = PFN_DMA_UNMAPPED;
}
EXPORT_SYMBOL_NS_GPL(dma_buf_pfn_dma_unmap, "DMA_BUF_PFN");

/**
 * pfn_dma_map_metadata - kernel memory that a mapping takes beside its struct
 * @map: the mapping
 *
 * Return: bytes; not counting the IOMMU's page tables, which are the hardware's.
 */
size_t pfn_dma_map_metadata(const struct pfn_dma_map *map)
{
	if (!map->addrs)
		return 0;
	return (map->loan->lend.nr - map->first) * sizeof(*map->addrs);
}
EXPORT_SYMBOL_NS_GPL(pfn_dma_map_metadata, "DMA_BUF_PFN");

/**
 * pfn_dma_map_addr - where the device sees a byte
 * @map: the mapping, reservation lock held or otherwise known to stay
 * @offset: of the byte, from the mapping's first one; less than its length
 * @contiguous: if not NULL, set to the bytes from there on that have
 *	consecutive addresses, within the mapping
 *
 * Context: any.
 * Return: the DMA address.
 */
dma_addr_t pfn_dma_map_addr(const struct pfn_dma_map *map, u64 offset,
			    u64 *contiguous)
{
	u64 pos = map->offset + offset, left = map->length - offset, start;
	struct piece p;
	size_t i;

	if (map->bus == PFN_DMA_IOVA) {
		if (contiguous)
			*contiguous = left;
		return map->iova.addr + (pos - map_first_page(map));
	}

	i = dma_buf_pfn_loan_find(map->loan, pos, &start);
	piece_at(map, &p, i, start);
	pos -= map_first_page(map) + p.pos;
	if (contiguous)
		*contiguous = min(left, p.len - pos);
	return piece_addr(map, &p) + pos;
}
EXPORT_SYMBOL_NS_GPL(pfn_dma_map_addr, "DMA_BUF_PFN");

/**
 * pfn_dma_iter_start - begin to walk over the extents of a mapping
 * @iter: the iterator
 * @map: the mapping, reservation lock held or otherwise known to stay
 *
 * Return: @iter.
 */
struct pfn_dma_iter *pfn_dma_iter_start(struct pfn_dma_iter *iter,
					const struct pfn_dma_map *map)
{
	*iter = (struct pfn_dma_iter) {
		.map = map,
		.index = map->first,
		.start = map->first_start,
	};
	return iter;
}
EXPORT_SYMBOL_NS_GPL(pfn_dma_iter_start, "DMA_BUF_PFN");

/**
 * pfn_dma_iter_next - on to the next extent
 * @iter: the iterator; sets its addr and len
 *
 * Context: any.
 * Return: false if there are no more.
 */
bool pfn_dma_iter_next(struct pfn_dma_iter *iter)
{
	const struct pfn_dma_map *map = iter->map;
	struct piece p;

	if (iter->start >= map_end_page(map))
		return false;
	if (map->bus == PFN_DMA_IOVA) {
		iter->addr = map->iova.addr;
		iter->len = map_bytes(map);
		iter->start = map_end_page(map);
		return true;
	}

	piece_at(map, &p, iter->index, iter->start);
	iter->addr = piece_addr(map, &p);
	iter->len = p.len;
	iter->index++;
	iter->start = p.start;
	return true;
}
EXPORT_SYMBOL_NS_GPL(pfn_dma_iter_next, "DMA_BUF_PFN");
