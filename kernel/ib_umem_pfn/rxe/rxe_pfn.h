/* SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB */
/*
 * pfn MRs on soft-RoCE: the functions that rxe's hook points call. A MR is a
 * pfn MR if and only if mr->pfn is set, which never changes after registration.
 */
#ifndef RXE_PFN_H
#define RXE_PFN_H

#include <rdma/uverbs_ioctl.h>

/* for struct ib_device and struct ib_device_ops */
extern const struct uapi_definition rxe_pfn_defs[];

struct ib_mr *rxe_pfn_reg_user_mr(struct ib_pd *ibpd, u64 offset, u64 length,
				  u64 iova, int fd, int access,
				  struct ib_dmah *dmah,
				  struct uverbs_attr_bundle *attrs);

/* for rxe_mr.c; the caller has checked that iova and length are in range */
int rxe_pfn_mr_copy(struct rxe_mr *mr, u64 iova, void *addr,
		    unsigned int length, enum rxe_mr_copy_dir dir);
enum resp_states rxe_pfn_do_atomic_op(struct rxe_mr *mr, u64 iova, int opcode,
				      u64 compare, u64 swap_add, u64 *orig_val);
enum resp_states rxe_pfn_do_atomic_write(struct rxe_mr *mr, u64 iova,
					 u64 value);
void rxe_pfn_mr_cleanup(struct rxe_mr *mr);

/* for rxe_resp.c */
int rxe_pfn_check_flush(struct rxe_mr *mr);

/* for rxe_verbs.c */
int rxe_pfn_mr_init_user(struct rxe_dev *rxe, u64 start, u64 length, u64 iova,
			 int access, struct rxe_mr *mr, struct ib_udata *udata);
int rxe_pfn_rereg_access(struct rxe_mr *mr, int access);
int rxe_pfn_fill_res_mr_entry(struct sk_buff *msg, struct ib_mr *ibmr);
int rxe_pfn_fill_stat_mr_entry(struct sk_buff *msg, struct ib_mr *ibmr);

/* for rxe.c */
int rxe_pfn_advise_mr(struct ib_pd *ibpd, enum ib_uverbs_advise_mr_advice advice,
		      u32 flags, struct ib_sge *sg_list, u32 num_sge,
		      struct uverbs_attr_bundle *attrs);

#endif /* RXE_PFN_H */
