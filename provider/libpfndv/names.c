/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* Numbers of the kernel's, and of ours, by name. */
#include <infiniband/pfndv.h>

#include <rdma/pfn_mr_abi.h>

/* They are the same, so nothing has to be translated. */
_Static_assert(PFNDV_MODE_DEFAULT == (int)PFN_MR_MODE_DEFAULT, "mode");
_Static_assert(PFNDV_MODE_PINNED == (int)PFN_MR_MODE_PINNED, "mode");
_Static_assert(PFNDV_MODE_REVOCABLE == (int)PFN_MR_MODE_REVOCABLE, "mode");
_Static_assert(PFNDV_MODE_DYNAMIC == (int)PFN_MR_MODE_DYNAMIC, "mode");
_Static_assert(PFNDV_STATE_ABSENT == (int)PFN_MR_STATE_ABSENT, "state");
_Static_assert(PFNDV_STATE_PRESENT == (int)PFN_MR_STATE_PRESENT, "state");
_Static_assert(PFNDV_STATE_REVOKED == (int)PFN_MR_STATE_REVOKED, "state");
_Static_assert(PFNDV_BACKEND_PFN == (int)PFN_MR_BACKEND_PFN, "backend");
_Static_assert(PFNDV_BACKEND_VMAP == (int)PFN_MR_BACKEND_VMAP, "backend");
_Static_assert(PFNDV_BACKEND_P2P == (int)PFN_MR_BACKEND_P2P, "backend");
_Static_assert(PFNDV_BECAUSE_LENDS == (int)PFN_MR_BECAUSE_LENDS, "because");
_Static_assert(PFNDV_BECAUSE_NO_RANGES == (int)PFN_MR_BECAUSE_NO_RANGES, "because");
_Static_assert(PFNDV_BECAUSE_NO_VMAP == (int)PFN_MR_BECAUSE_NO_VMAP, "because");
_Static_assert(PFNDV_BECAUSE_TEST == (int)PFN_MR_BECAUSE_TEST, "because");

static const char UNKNOWN[] = "unknown";

const char *pfndv_mode_str(uint32_t mode)
{
	switch (mode) {
	case PFNDV_MODE_DEFAULT:
		return "default";
	case PFNDV_MODE_PINNED:
		return "pinned";
	case PFNDV_MODE_REVOCABLE:
		return "revocable";
	case PFNDV_MODE_DYNAMIC:
		return "dynamic";
	}
	return UNKNOWN;
}

const char *pfndv_state_str(uint32_t state)
{
	switch (state) {
	case PFNDV_STATE_ABSENT:
		return "absent";
	case PFNDV_STATE_PRESENT:
		return "present";
	case PFNDV_STATE_REVOKED:
		return "revoked";
	}
	return UNKNOWN;
}

const char *pfndv_backend_str(uint32_t backend)
{
	switch (backend) {
	case PFNDV_BACKEND_PFN:
		return "pfn";
	case PFNDV_BACKEND_VMAP:
		return "vmap";
	case PFNDV_BACKEND_P2P:
		return "p2p";
	}
	return UNKNOWN;
}

/* As "rdma -dd resource show mr" has it. */
const char *pfndv_because_str(uint32_t because)
{
	switch (because) {
	case PFNDV_BECAUSE_LENDS:
		return "exporter lends ranges";
	case PFNDV_BECAUSE_NO_RANGES:
		return "exporter lends no ranges, maps for the kernel";
	case PFNDV_BECAUSE_NO_VMAP:
		return "exporter lends no ranges, has no kernel mapping, tells bus addresses";
	case PFNDV_BECAUSE_TEST:
		return "exporter lends ranges, but test_bridge_lenders is set";
	}
	return UNKNOWN;
}
