/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* What there is to ask of an MR, and the one thing to ask of it. */
#include <errno.h>
#include <string.h>

#include <infiniband/pfndv.h>
#include <rdma/ib_user_ioctl_cmds.h>
#include <rdma/ib_user_verbs.h>
#include <rdma/pfn_mr_abi.h>

#include "command.h"
#include "device.h"
#include "extensible.h"
#include "reason.h"

static int fail_querying(int err, struct ibv_mr *mr)
{
	struct pfn_device_info info;

	switch (err) {
	case EINVAL:
	case EOPNOTSUPP:
		if (device_query(mr->context, &info) == EOPNOTSUPP)
			return fail_unsupported(mr->context->device);
		return fail(err, err == EINVAL ?
			    "this handle is of something else than a memory region" :
			    "the memory region is not on a dma-buf");
	case ENOENT:
		return fail(err, "the device context has no such memory region");
	}
	return fail(err, NULL);
}

int pfndv_query_mr(struct ibv_mr *mr, struct pfndv_mr_attr *attr, uint32_t attr_size)
{
	const uint32_t first_size = SIZE_UP_TO(struct pfndv_mr_attr, offset);
	const uint32_t because_size = SIZE_UP_TO(struct pfndv_mr_attr, because);
	struct pfndv_mr_attr ours = {};
	struct pfn_mr_info info = {};
	struct command cmd;
	int err;

	if (attr_size < first_size)
		return fail(EINVAL, "attr_size is %u, struct pfndv_mr_attr has %u bytes",
			    attr_size, first_size);

	command_init(&cmd, UVERBS_OBJECT_MR, PFN_MR_METHOD_QUERY);
	command_in_handle(&cmd, PFN_MR_ATTR_QUERY_HANDLE, mr->handle);
	command_out(&cmd, PFN_MR_ATTR_QUERY_INFO, &info, sizeof(info));
	err = command_execute(&cmd, mr->context);
	if (err)
		return fail_querying(err, mr);

	ours = (struct pfndv_mr_attr) {
		.comp_mask = info.because && attr_size >= because_size ? PFNDV_MR_BECAUSE : 0,
		.mode = info.mode,
		.state = info.state,
		.backend = info.backend,
		.mmio = info.mmio,
		.ranges = info.ranges,
		.page_size = info.page_size,
		.metadata_bytes = info.metadata_bytes,
		.faults = info.faults,
		.invalidations = info.invalidations,
		.prefetches = info.prefetches,
		.bytes_read = info.bytes_read,
		.bytes_written = info.bytes_written,
		.generation = info.generation,
		.dmabuf_ino = info.dmabuf_ino,
		.offset = info.offset,
		.because = info.because,
	};
	extensible_copy_out(attr, attr_size, &ours, sizeof(ours));
	return 0;
}

static int prefetch(struct ibv_mr *mr, struct ib_uverbs_sge *piece, uint32_t advice,
		    uint32_t flags)
{
	struct command cmd;

	command_init(&cmd, UVERBS_OBJECT_MR, UVERBS_METHOD_ADVISE_MR);
	command_in_handle(&cmd, UVERBS_ATTR_ADVISE_MR_PD_HANDLE, mr->pd->handle);
	command_in_u64(&cmd, UVERBS_ATTR_ADVISE_MR_ADVICE, advice);
	command_in_u32(&cmd, UVERBS_ATTR_ADVISE_MR_FLAGS, flags);
	command_in_bytes(&cmd, UVERBS_ATTR_ADVISE_MR_SGE_LIST, piece, sizeof(*piece));
	return command_execute(&cmd, mr->context);
}

static int fail_prefetching(int err)
{
	switch (err) {
	case ENOENT:
		return fail(err, "the key is not that of a memory region in this protection domain");
	case EFAULT:
		return fail(err, "the range is not inside of the memory region");
	case EPERM:
		return fail(err, "nobody may write to the memory region");
	case ENODEV:
		return fail(err, "the exporter has revoked the memory");
	case ETIMEDOUT:
		return fail(err, "the exporter did not finish moving the memory in time");
	case EOPNOTSUPP:
		return fail(err, "the memory region has nothing to prefetch: it is not on a dma-buf");
	}
	return fail(err, NULL);
}

/* As long as the length of a piece can be, and whole pages. */
#define PIECE_MAX ((uint64_t)1 << 31)

int pfndv_prefetch(struct ibv_mr *mr, uint64_t addr, uint64_t length, uint32_t flags)
{
	const uint32_t known = PFNDV_PREFETCH_WRITE | PFNDV_PREFETCH_NO_WAIT | PFNDV_PREFETCH_ASYNC;
	uint32_t sync = flags & PFNDV_PREFETCH_ASYNC ? 0 : IBV_ADVISE_MR_FLAG_FLUSH;
	uint32_t advice = IBV_ADVISE_MR_ADVICE_PREFETCH;
	int err;

	if (flags & ~known)
		return fail(EINVAL, "flags %#x are unknown", flags & ~known);
	if (flags & PFNDV_PREFETCH_WRITE && flags & PFNDV_PREFETCH_NO_WAIT)
		return fail(EINVAL, "verbs have no advice that is both WRITE and NO_WAIT");
	if (flags & PFNDV_PREFETCH_WRITE)
		advice = IBV_ADVISE_MR_ADVICE_PREFETCH_WRITE;
	if (flags & PFNDV_PREFETCH_NO_WAIT)
		advice = IBV_ADVISE_MR_ADVICE_PREFETCH_NO_FAULT;

	/* The first piece maps all of the MR; the others are only checked. */
	do {
		struct ib_uverbs_sge piece = {
			.addr = addr,
			.length = (uint32_t)(length < PIECE_MAX ? length : PIECE_MAX),
			.lkey = mr->lkey,
		};

		err = prefetch(mr, &piece, advice, sync);
		if (err)
			return fail_prefetching(err);
		addr += piece.length;
		length -= piece.length;
	} while (length);
	return 0;
}
