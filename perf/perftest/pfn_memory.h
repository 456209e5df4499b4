/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * Memory of dma-bufs: device memory of pfn_vram, which can move while it is
 * used, a dma-buf heap's, or udmabuf's.
 */
#ifndef PFN_MEMORY_H
#define PFN_MEMORY_H

#include <stdbool.h>
#include <stdint.h>

#include "memory.h"

struct perftest_parameters;

enum pfn_exporter {
	PFN_NONE,	/* another memory type */
	PFN_VRAM,
	PFN_HEAP,
	PFN_UDMABUF,
};

/* What the command line says; part of struct perftest_parameters. */
struct pfn_parameters {
	enum pfn_exporter exporter;
	const char *device;	/* of the exporter: path */
	uint32_t placement;	/* enum pfn_vram_placement, 0 = not said */
	uint32_t caps;		/* enum pfn_vram_caps, 0 = not said */
	uint64_t chunk;		/* bytes of a range, 0 = as long as possible */
	int move_interval_ms;	/* 0 = don't move */
	bool verify;		/* see pfn_verify.h; whatever the memory type */
};

/* Long options, and what pfn_memory_option() is told. */
enum pfn_option {
	PFN_OPTION_NONE,
	PFN_OPTION_USE_VRAM,
	PFN_OPTION_USE_HEAP,
	PFN_OPTION_USE_UDMABUF,
	PFN_OPTION_PLACEMENT,
	PFN_OPTION_CHUNK,
	PFN_OPTION_MODE,
	PFN_OPTION_MOVE_INTERVAL,
	PFN_OPTION_VERIFY,
};

/* For getopt_long()'s table; has_arg is 0: no, 1: yes, 2: may be. */
#define PFN_MEMORY_OPTIONS(option)								\
	{ .name = "use_pfn_vram", .has_arg = 2, .flag = option, .val = PFN_OPTION_USE_VRAM },		\
	{ .name = "use_dmabuf_heap", .has_arg = 2, .flag = option, .val = PFN_OPTION_USE_HEAP },	\
	{ .name = "use_udmabuf", .has_arg = 0, .flag = option, .val = PFN_OPTION_USE_UDMABUF },		\
	{ .name = "pfn_placement", .has_arg = 1, .flag = option, .val = PFN_OPTION_PLACEMENT },		\
	{ .name = "pfn_chunk", .has_arg = 1, .flag = option, .val = PFN_OPTION_CHUNK },			\
	{ .name = "pfn_mode", .has_arg = 1, .flag = option, .val = PFN_OPTION_MODE },			\
	{ .name = "move_interval_ms", .has_arg = 1, .flag = option, .val = PFN_OPTION_MOVE_INTERVAL },	\
	{ .name = "verify_buffer", .has_arg = 0, .flag = option, .val = PFN_OPTION_VERIFY }

/* Print what --help says. */
void pfn_memory_usage(void);

/* Take an option and its argument, NULL if it has none. Both of these return
 * SUCCESS, or FAILURE after a line on stderr.
 */
int pfn_memory_option(struct perftest_parameters *params, int option, const char *argument);

/* Do the options, all of which are known now, fit together, and is the exporter there? */
int pfn_memory_check(struct perftest_parameters *params);

/* The memory type. */
struct memory_ctx *pfn_memory_create(struct perftest_parameters *params);

#endif /* PFN_MEMORY_H */
