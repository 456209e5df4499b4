/* SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB */
/* Shared between the files of module pfn_edu only; pfn_edu_main.c has the map. */
#ifndef _PFN_EDU_PRIV_H
#define _PFN_EDU_PRIV_H

#include <linux/types.h>
#include <uapi/linux/pfn_edu.h>

struct device;

/* pfn_edu_synthetic.c */
int pfn_edu_synthetic(struct device *dev, struct pfn_edu_synthetic *arg);

/**
 * struct pfn_edu_held - mappings that are held, of one of the two ways
 * @nr: how many
 * @way: of which, &enum pfn_edu_way
 * @mr: what the way calls a mapping
 *
 * All 0 in the beginning. No list: to hold a mapping takes no memory of its own.
 */
struct pfn_edu_held {
	u32 nr;
	u32 way;
	void *mr[PFN_EDU_MAX_HELD];
};

/* pfn_edu_compare.c */
int pfn_edu_compare(struct device *dev, const bool *going,
		    struct pfn_edu_compare *arg);
int pfn_edu_hold(struct pfn_edu_held *held, struct device *dev,
		 const bool *going, const struct pfn_edu_hold *arg);
void pfn_edu_drop(struct pfn_edu_held *held);

#endif /* _PFN_EDU_PRIV_H */
