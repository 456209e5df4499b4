/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * A memory type of perftest: dma-bufs.
 *
 * Options are taken one by one in any order (pfn_memory_option()), and have to
 * make sense together (pfn_memory_check()). A buffer is a dma-buf and a CPU
 * mapping of it, at whose address it is registered, by perftest itself with
 * ibv_reg_dmabuf_mr(). perftest closes the descriptor it is given at once, as
 * MPI does; we keep another one, to move the buffer by.
 *
 * There is one mover for all buffers, a thread that runs as long as there are
 * any. The lock is for the list of buffers and for when to stop.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include <linux/dma-heap.h>
#include <linux/udmabuf.h>

#include "perftest_parameters.h"
#include "pfn_memory.h"
#include "pfn_verify.h"
#include "pfn_vram.h"

struct pfn_buffer {
	struct pfn_buffer *next;
	int fd;			/* the dma-buf */
	void *addr;		/* where it is mapped */
	uint64_t mapped;	/* bytes, whole pages */
};

struct pfn_memory_ctx {
	struct memory_ctx base;
	const struct perftest_parameters *params;
	int device;		/* the exporter's, -1 = not open */
	struct pfn_buffer *buffers;
	pthread_mutex_t lock;
	pthread_cond_t stop;
	pthread_t mover;
	bool moving;		/* the mover runs and shall go on */
	uint64_t moves;
	int move_error;		/* errno that has ended the mover, or 0 */
};

static struct pfn_memory_ctx *pfn_ctx(struct memory_ctx *ctx)
{
	return container_of(ctx, struct pfn_memory_ctx, base);
}

/* Options */

void pfn_memory_usage(void)
{
	printf("      --use_pfn_vram[=<device>] ");
	printf(" Use device memory of pfn_vram through a dma-buf (number or path, default: 0)\n");
	printf("      --use_dmabuf_heap[=<name>] ");
	printf(" Use memory of a dma-buf heap (default: system)\n");
	printf("      --use_udmabuf ");
	printf(" Use memory that udmabuf has made a dma-buf of\n");
	printf("      --pfn_placement=<vram|system> ");
	printf(" Where pfn_vram's memory is (default: vram)\n");
	printf("      --pfn_chunk=<bytes> ");
	printf(" Scatter pfn_vram's memory in ranges of that many bytes (default: as few as possible)\n");
	printf("      --pfn_mode=<pinned|revocable|dynamic> ");
	printf(" What pfn_vram may do with the memory, and with that the mode of the MR (default: dynamic)\n");
	printf("      --move_interval_ms=<ms> ");
	printf(" Move pfn_vram's memory that often between vram and system while the test runs\n");
	printf("      --verify_buffer ");
	printf(" Verify that what has arrived is what was sent; to be given on both sides\n");
}

static int refuse(const char *option, const char *argument)
{
	fprintf(stderr, " Invalid value for --%s: %s\n", option, argument);
	return FAILURE;
}

static int use(struct perftest_parameters *params, enum pfn_exporter exporter, const char *directory,
	       const char *name)
{
	char *path;

	if (params->memory_type != MEMORY_HOST) {
		fprintf(stderr, " Can't use multiple memory types\n");
		return FAILURE;
	}
	if (*name == '/')
		directory = "";
	if (asprintf(&path, "%s%s", directory, name) < 0) {
		fprintf(stderr, " Out of memory\n");
		return FAILURE;
	}
	params->memory_type = MEMORY_PFN;
	params->memory_create = pfn_memory_create;
	params->pfn.exporter = exporter;
	params->pfn.device = path;
	return SUCCESS;
}

static int set_placement(struct pfn_parameters *pfn, const char *argument)
{
	if (!strcmp(argument, "vram"))
		pfn->placement = PFN_VRAM_PLACEMENT_VRAM;
	else if (!strcmp(argument, "system"))
		pfn->placement = PFN_VRAM_PLACEMENT_SYSTEM;
	else
		return refuse("pfn_placement", argument);
	return SUCCESS;
}

/* An importer's mode is by default the strongest that the exporter lets it have. */
static int set_mode(struct pfn_parameters *pfn, const char *argument)
{
	if (!strcmp(argument, "pinned"))
		pfn->caps = PFN_VRAM_CAP_PIN;
	else if (!strcmp(argument, "revocable"))
		pfn->caps = PFN_VRAM_CAP_PIN | PFN_VRAM_CAP_REVOKE;
	else if (!strcmp(argument, "dynamic"))
		pfn->caps = PFN_VRAM_CAP_ALL;
	else
		return refuse("pfn_mode", argument);
	return SUCCESS;
}

/* A number from 1 to @max; false if it is anything else. */
static bool parse(const char *argument, uint64_t max, uint64_t *number)
{
	char *end;

	errno = 0;
	*number = strtoull(argument, &end, 0);
	return *argument >= '0' && *argument <= '9' && !*end && !errno && *number && *number <= max;
}

static int set_chunk(struct pfn_parameters *pfn, const char *argument)
{
	const uint64_t page = sysconf(_SC_PAGESIZE);

	if (!parse(argument, UINT64_MAX, &pfn->chunk) || pfn->chunk < page ||
	    (pfn->chunk & (pfn->chunk - 1)))
		return refuse("pfn_chunk", argument);
	return SUCCESS;
}

static int set_move_interval(struct pfn_parameters *pfn, const char *argument)
{
	uint64_t ms;

	if (!parse(argument, INT32_MAX, &ms))
		return refuse("move_interval_ms", argument);
	pfn->move_interval_ms = ms;
	return SUCCESS;
}

int pfn_memory_option(struct perftest_parameters *params, int option, const char *argument)
{
	struct pfn_parameters *pfn = &params->pfn;

	switch (option) {
	case PFN_OPTION_USE_VRAM:
		return use(params, PFN_VRAM, "/dev/pfn_vram", argument ? argument : "0");
	case PFN_OPTION_USE_HEAP:
		return use(params, PFN_HEAP, "/dev/dma_heap/", argument ? argument : "system");
	case PFN_OPTION_USE_UDMABUF:
		return use(params, PFN_UDMABUF, "/dev/", "udmabuf");
	case PFN_OPTION_PLACEMENT:
		return set_placement(pfn, argument);
	case PFN_OPTION_CHUNK:
		return set_chunk(pfn, argument);
	case PFN_OPTION_MODE:
		return set_mode(pfn, argument);
	case PFN_OPTION_MOVE_INTERVAL:
		return set_move_interval(pfn, argument);
	case PFN_OPTION_VERIFY:
		pfn->verify = true;
		return SUCCESS;
	}
	return FAILURE;
}

/* The option that does not fit to the others, and why; NULL if all do. */
static const char *contradiction(const struct perftest_parameters *params)
{
	const struct pfn_parameters *pfn = &params->pfn;
	const bool of_vram = pfn->placement || pfn->caps || pfn->chunk || pfn->move_interval_ms;

	if (of_vram && pfn->exporter != PFN_VRAM)
		return "--pfn_placement, --pfn_chunk, --pfn_mode and --move_interval_ms need --use_pfn_vram";
	if (pfn->move_interval_ms && pfn->caps && !(pfn->caps & PFN_VRAM_CAP_MOVE))
		return "--move_interval_ms needs --pfn_mode=dynamic";
	if (pfn->exporter && params->connection_type == RawEth)
		return "dma-bufs aren't supported for Raw Ethernet tests";
	if (pfn->exporter && params->use_odp)
		return "a dma-buf can't be an ODP MR";
	return NULL;
}

int pfn_memory_check(struct perftest_parameters *params)
{
	struct pfn_parameters *pfn = &params->pfn;
	const char *why = contradiction(params);

	if (why) {
		fprintf(stderr, " %s\n", why);
		return FAILURE;
	}
	if (pfn->verify && pfn_verify_check(params))
		return FAILURE;
	if (!pfn->exporter)
		return SUCCESS;
	if (access(pfn->device, R_OK | W_OK)) {
		fprintf(stderr, " %s: %s\n", pfn->device, strerror(errno));
		return FAILURE;
	}
	if (!pfn->placement)
		pfn->placement = PFN_VRAM_PLACEMENT_VRAM;
	if (!pfn->caps)
		pfn->caps = PFN_VRAM_CAP_ALL;
	return SUCCESS;
}

/* Exporters: each returns a dma-buf of @size bytes, or -1 with errno. */

static int export_vram(struct pfn_memory_ctx *ctx, uint64_t size)
{
	struct pfn_vram_alloc alloc = {
		.size = size,
		.chunk = ctx->params->pfn.chunk,
		.placement = ctx->params->pfn.placement,
		.caps = ctx->params->pfn.caps,
		.fd_flags = O_RDWR | O_CLOEXEC,
	};

	return ioctl(ctx->device, PFN_VRAM_IOC_ALLOC, &alloc) ? -1 : alloc.fd;
}

static int export_heap(struct pfn_memory_ctx *ctx, uint64_t size)
{
	struct dma_heap_allocation_data alloc = {
		.len = size,
		.fd_flags = O_RDWR | O_CLOEXEC,
	};

	return ioctl(ctx->device, DMA_HEAP_IOCTL_ALLOC, &alloc) ? -1 : (int)alloc.fd;
}

static int export_udmabuf(struct pfn_memory_ctx *ctx, uint64_t size)
{
	struct udmabuf_create create = { .flags = UDMABUF_FLAGS_CLOEXEC, .size = size };
	int fd = -1;

	create.memfd = memfd_create("perftest", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if ((int)create.memfd < 0)
		return -1;
	if (!ftruncate(create.memfd, size) && !fcntl(create.memfd, F_ADD_SEALS, F_SEAL_SHRINK))
		fd = ioctl(ctx->device, UDMABUF_CREATE, &create);
	close(create.memfd);
	return fd;
}

static int export_buffer(struct pfn_memory_ctx *ctx, uint64_t size)
{
	switch (ctx->params->pfn.exporter) {
	case PFN_VRAM:
		return export_vram(ctx, size);
	case PFN_HEAP:
		return export_heap(ctx, size);
	case PFN_UDMABUF:
		return export_udmabuf(ctx, size);
	case PFN_NONE:
		break;
	}
	errno = EINVAL;
	return -1;
}

/* The mover */

/* Wait for the interval; false if it is time to stop. Called with the lock. */
static bool mover_waits(struct pfn_memory_ctx *ctx)
{
	const int ms = ctx->params->pfn.move_interval_ms;
	struct timespec until;

	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += ms / 1000;
	until.tv_nsec += ms % 1000 * 1000000;
	if (until.tv_nsec >= 1000000000) {
		until.tv_nsec -= 1000000000;
		until.tv_sec++;
	}
	while (ctx->moving && pthread_cond_timedwait(&ctx->stop, &ctx->lock, &until) != ETIMEDOUT)
		;
	return ctx->moving;
}

/* Called with the lock. */
static void move_buffers(struct pfn_memory_ctx *ctx, uint32_t placement)
{
	struct pfn_buffer *buffer;

	for (buffer = ctx->buffers; buffer; buffer = buffer->next) {
		struct pfn_vram_move move = {
			.fd = buffer->fd,
			.placement = placement,
			.chunk = ctx->params->pfn.chunk,
		};

		if (ioctl(ctx->device, PFN_VRAM_IOC_MOVE, &move)) {
			ctx->move_error = errno;
			ctx->moving = false;
			return;
		}
		ctx->moves++;
	}
}

static void *mover_runs(void *arg)
{
	struct pfn_memory_ctx *ctx = arg;
	uint32_t placement = ctx->params->pfn.placement;

	pthread_mutex_lock(&ctx->lock);
	while (mover_waits(ctx)) {
		placement = placement == PFN_VRAM_PLACEMENT_VRAM ? PFN_VRAM_PLACEMENT_SYSTEM :
								   PFN_VRAM_PLACEMENT_VRAM;
		move_buffers(ctx, placement);
	}
	pthread_mutex_unlock(&ctx->lock);
	return NULL;
}

/* perftest's alarms are the main thread's: a signal would end a move. */
static int start_mover(struct pfn_memory_ctx *ctx)
{
	sigset_t all, old;
	int error;

	sigfillset(&all);
	ctx->moving = true;
	pthread_sigmask(SIG_BLOCK, &all, &old);
	error = pthread_create(&ctx->mover, NULL, mover_runs, ctx);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	ctx->moving = !error;
	return error;
}

static void stop_mover(struct pfn_memory_ctx *ctx)
{
	pthread_mutex_lock(&ctx->lock);
	ctx->moving = false;
	pthread_cond_signal(&ctx->stop);
	pthread_mutex_unlock(&ctx->lock);
	pthread_join(ctx->mover, NULL);
}

/* SUCCESS, or FAILURE if the mover had to give up. */
static int report_moves(const struct pfn_memory_ctx *ctx)
{
	if (ctx->move_error) {
		fprintf(stderr, " pfn_vram: after %" PRIu64 " moves: %s\n", ctx->moves,
			strerror(ctx->move_error));
		return FAILURE;
	}
	printf(" pfn_vram: moved %" PRIu64 " times\n", ctx->moves);
	return SUCCESS;
}

/* struct memory_ctx */

static int pfn_memory_init(struct memory_ctx *base)
{
	struct pfn_memory_ctx *ctx = pfn_ctx(base);

	ctx->device = open(ctx->params->pfn.device, O_RDWR | O_CLOEXEC);
	if (ctx->device < 0) {
		fprintf(stderr, " %s: %s\n", ctx->params->pfn.device, strerror(errno));
		return FAILURE;
	}
	return SUCCESS;
}

static int pfn_memory_destroy(struct memory_ctx *base)
{
	struct pfn_memory_ctx *ctx = pfn_ctx(base);

	if (ctx->device >= 0)
		close(ctx->device);
	pthread_cond_destroy(&ctx->stop);
	pthread_mutex_destroy(&ctx->lock);
	free(ctx);
	return SUCCESS;
}

static void release_buffer(struct pfn_buffer *buffer)
{
	munmap(buffer->addr, buffer->mapped);
	close(buffer->fd);
	free(buffer);
}

/* Export and map; NULL with errno. */
static struct pfn_buffer *make_buffer(struct pfn_memory_ctx *ctx, uint64_t size)
{
	const uint64_t page = sysconf(_SC_PAGESIZE);
	struct pfn_buffer *buffer = calloc(1, sizeof(*buffer));

	if (!buffer)
		return NULL;
	buffer->mapped = (size + page - 1) & ~(page - 1);
	buffer->fd = export_buffer(ctx, buffer->mapped);
	if (buffer->fd < 0)
		goto no_dmabuf;
	buffer->addr = mmap(NULL, buffer->mapped, PROT_READ | PROT_WRITE, MAP_SHARED, buffer->fd, 0);
	if (buffer->addr == MAP_FAILED)
		goto no_mapping;
	return buffer;

no_mapping:
	close(buffer->fd);
no_dmabuf:
	free(buffer);
	return NULL;
}

static int pfn_memory_allocate_buffer(struct memory_ctx *base, int alignment, uint64_t size,
				      int *dmabuf_fd, uint64_t *dmabuf_offset, void **addr,
				      bool *can_init)
{
	struct pfn_memory_ctx *ctx = pfn_ctx(base);
	const struct pfn_parameters *pfn = &ctx->params->pfn;
	struct pfn_buffer *buffer = make_buffer(ctx, size);
	int error;

	if (!buffer) {
		fprintf(stderr, " %s: %" PRIu64 " bytes: %s\n", pfn->device, size, strerror(errno));
		return FAILURE;
	}
	*dmabuf_fd = fcntl(buffer->fd, F_DUPFD_CLOEXEC, 1);	/* 0 would be none at all */
	if (*dmabuf_fd < 0) {
		fprintf(stderr, " dup: %s\n", strerror(errno));
		goto no_descriptor;
	}

	pthread_mutex_lock(&ctx->lock);
	buffer->next = ctx->buffers;
	ctx->buffers = buffer;
	pthread_mutex_unlock(&ctx->lock);
	if (pfn->move_interval_ms && !buffer->next) {
		error = start_mover(ctx);
		if (error) {
			fprintf(stderr, " pthread_create: %s\n", strerror(error));
			goto no_mover;
		}
	}

	*dmabuf_offset = 0;
	*addr = buffer->addr;
	*can_init = true;
	return SUCCESS;

no_mover:
	ctx->buffers = NULL;	/* it is the first one */
	close(*dmabuf_fd);
no_descriptor:
	release_buffer(buffer);
	return FAILURE;
}

/* perftest has deregistered everything by now. */
static int pfn_memory_free_buffer(struct memory_ctx *base, int dmabuf_fd, void *addr, uint64_t size)
{
	struct pfn_memory_ctx *ctx = pfn_ctx(base);
	struct pfn_buffer **link = &ctx->buffers, *buffer;
	const bool moved = ctx->params->pfn.move_interval_ms;
	int result = SUCCESS;

	pthread_mutex_lock(&ctx->lock);
	while ((*link)->addr != addr)
		link = &(*link)->next;
	buffer = *link;
	*link = buffer->next;
	pthread_mutex_unlock(&ctx->lock);
	if (moved && !ctx->buffers) {
		stop_mover(ctx);
		result = report_moves(ctx);
	}
	release_buffer(buffer);
	return result;
}

struct memory_ctx *pfn_memory_create(struct perftest_parameters *params)
{
	struct pfn_memory_ctx *ctx;

	ALLOCATE(ctx, struct pfn_memory_ctx, 1);
	memset(ctx, 0, sizeof(*ctx));
	ctx->base.init = pfn_memory_init;
	ctx->base.destroy = pfn_memory_destroy;
	ctx->base.allocate_buffer = pfn_memory_allocate_buffer;
	ctx->base.free_buffer = pfn_memory_free_buffer;
	ctx->base.copy_host_to_buffer = memcpy;
	ctx->base.copy_buffer_to_host = memcpy;
	ctx->base.copy_buffer_to_buffer = memcpy;
	ctx->params = params;
	ctx->device = -1;
	pthread_mutex_init(&ctx->lock, NULL);
	pthread_cond_init(&ctx->stop, NULL);
	return &ctx->base;
}
