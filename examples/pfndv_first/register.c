/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * Device memory, registered for RDMA with libpfndv, in one page of C: a buffer, an
 * MR on it, what becomes of the MR when the buffer moves, and a wish that cannot
 * be granted.
 *
 *   cc register.c $(pkg-config --cflags --libs pfndv) -o register
 */
#include <err.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/ioctl.h>

#include <infiniband/pfndv.h>
#include <linux/pfn_vram.h>

static void show(struct ibv_mr *mr, const char *when)
{
	struct pfndv_mr_attr attr;

	if (pfndv_query_mr(mr, &attr, sizeof(attr)))
		errx(1, "query: %s", pfndv_last_reason());
	printf("%-18s %s, %s, %llu ranges, %llu faults\n", when, pfndv_mode_str(attr.mode),
	       pfndv_state_str(attr.state), (unsigned long long)attr.ranges,
	       (unsigned long long)attr.faults);
}

static struct ibv_context *open_first_supported(void)
{
	struct ibv_device **list = ibv_get_device_list(NULL), **device;
	struct ibv_context *context = NULL;

	for (device = list; device && *device && !context; device++)
		if (pfndv_is_supported(*device))
			context = ibv_open_device(*device);
	if (!context)
		errx(1, "no device with pfn MRs: %s", pfndv_last_reason());
	ibv_free_device_list(list);
	return context;
}

int main(void)
{
	/* A stand-in for a GPU. With a real one its driver exports the dma-buf. */
	struct pfn_vram_alloc buffer = {
		.size = 1 << 20,
		.placement = PFN_VRAM_PLACEMENT_VRAM,
		.caps = PFN_VRAM_CAP_MOVE,
		.fd_flags = O_RDWR | O_CLOEXEC,
	};
	int gpu = open("/dev/pfn_vram0", O_RDWR | O_CLOEXEC);

	if (gpu < 0 || ioctl(gpu, PFN_VRAM_IOC_ALLOC, &buffer))
		err(1, "/dev/pfn_vram0");

	struct ibv_context *context = open_first_supported();
	struct ibv_pd *pd = ibv_alloc_pd(context);
	struct pfndv_dmabuf_mr_attr attr = {
		.fd = buffer.fd,
		.length = buffer.size,
		.access = IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_WRITE,
	};
	struct ibv_mr *mr;

	if (!pd)
		err(1, "ibv_alloc_pd");
	mr = pfndv_reg_dmabuf_mr(pd, &attr, sizeof(attr));
	if (!mr)
		errx(1, "register: %s", pfndv_last_reason());
	show(mr, "registered:");

	struct pfn_vram_move move = {.fd = buffer.fd, .placement = PFN_VRAM_PLACEMENT_SYSTEM};

	if (ioctl(gpu, PFN_VRAM_IOC_MOVE, &move))
		err(1, "move");
	show(mr, "moved:");
	if (pfndv_prefetch(mr, attr.iova, attr.length, 0))
		errx(1, "prefetch: %s", pfndv_last_reason());
	show(mr, "prefetched:");

	attr.mode = PFNDV_MODE_PINNED;
	if (!pfndv_reg_dmabuf_mr(pd, &attr, sizeof(attr)))
		printf("pinned, please:    %s\n", pfndv_last_reason());

	return ibv_dereg_mr(mr) || ibv_dealloc_pd(pd) || ibv_close_device(context);
}
