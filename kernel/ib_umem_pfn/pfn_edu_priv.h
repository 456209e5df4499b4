/* SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB */
/* Shared between the files of module pfn_edu only; pfn_edu_main.c has the map. */
#ifndef _PFN_EDU_PRIV_H
#define _PFN_EDU_PRIV_H

#include <uapi/linux/pfn_edu.h>

struct device;

/* pfn_edu_synthetic.c */
int pfn_edu_synthetic(struct device *dev, struct pfn_edu_synthetic *arg);

/* pfn_edu_compare.c */
int pfn_edu_compare(struct device *dev, const bool *going,
		    struct pfn_edu_compare *arg);

#endif /* _PFN_EDU_PRIV_H */
