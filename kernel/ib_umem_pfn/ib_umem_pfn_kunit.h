/* SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB */
/* What ib_umem_pfn_core.c shows to its KUnit suite, and is static without KUnit. */
#ifndef _IB_UMEM_PFN_KUNIT_H
#define _IB_UMEM_PFN_KUNIT_H

#include <linux/types.h>

#if IS_ENABLED(CONFIG_KUNIT)
u64 hint_pack(size_t index, u64 start);
#endif

#endif /* _IB_UMEM_PFN_KUNIT_H */
