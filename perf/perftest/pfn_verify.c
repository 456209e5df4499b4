/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * perftest's buffer, as far as this has to know it:
 *
 *   | area of QP 0 | area of QP 1 | ... | area of QP 0 | area of QP 1 | ... |
 *   |<-- requester's half ------------->|<-- responder's half ------------->|
 *
 * Small messages take a slot of their area each, by turns. What is requested
 * by a READ goes from the right to the left, all else from the left to the
 * right; but who only receives SENDs does so on the left, and who has an MR for
 * each QP receives them where it sends from.
 */
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "perftest_parameters.h"
#include "perftest_resources.h"
#include "pfn_verify.h"

struct span {
	size_t begin, end;
};

static bool is_ping_pong(const struct perftest_parameters *params)
{
	return params->tst == LAT && params->verb != READ && params->verb != ATOMIC;
}

static bool requests(const struct perftest_parameters *params)
{
	return params->machine == CLIENT || params->duplex || is_ping_pong(params);
}

static bool responds(const struct perftest_parameters *params)
{
	return params->machine == SERVER || params->duplex || is_ping_pong(params);
}

static size_t area_size(const struct perftest_parameters *params)
{
	return BUFF_SIZE(params->size, (uint64_t)params->cycle_buffer);
}

static size_t areas(const struct perftest_parameters *params)
{
	return params->mr_per_qp ? 1 : params->num_of_qps;
}

static size_t slot_size(const struct perftest_parameters *params)
{
	if (params->size > (uint64_t)params->cycle_buffer / 2)
		return area_size(params);
	return INC(params->size, (uint64_t)params->cache_line_size);
}

static size_t half(const struct perftest_parameters *params)
{
	return areas(params) * area_size(params);
}

/* Where messages leave from; empty if this side sends none. */
static struct span sent(const struct perftest_parameters *params)
{
	size_t middle = half(params);

	if (params->verb == ATOMIC)
		return (struct span){ 0, 0 };
	if (params->verb == READ)
		return responds(params) ? (struct span){ middle, 2 * middle } : (struct span){ 0, 0 };
	return requests(params) ? (struct span){ 0, middle } : (struct span){ 0, 0 };
}

/* Where messages arrive, and nothing else is; empty if none do. */
static struct span received(const struct perftest_parameters *params, size_t size)
{
	if (params->verb == READ)
		return requests(params) ? (struct span){ 0, half(params) } : (struct span){ 0, 0 };
	if (!responds(params))
		return (struct span){ 0, 0 };
	return (struct span){ requests(params) ? half(params) : 0, size };
}

/* Byte @place of every message, never 0. */
static uint8_t pattern(uint64_t place)
{
	uint8_t byte = place * 0x9e3779b97f4a7c15u >> 56;

	return byte ? byte : 1;
}

/* The last byte of a WRITE whose latency is measured is a counter that the other side waits for. */
static size_t patterned(const struct perftest_parameters *params)
{
	return params->size - (params->verb == WRITE && params->tst == LAT);
}

int pfn_verify_check(const struct perftest_parameters *params)
{
	const char *why = NULL;

	if (params->memory_type != MEMORY_HOST && params->memory_type != MEMORY_MMAP &&
	    params->memory_type != MEMORY_PFN)
		why = "is for memory that the CPU can access";
	else if (params->connection_type != RC && params->connection_type != UC)
		why = "is for the connection types RC and UC";
	else if (params->test_method == RUN_ALL)
		why = "is for one message size";
	else if (params->flows != 1)
		why = "is for one flow";
	else if (params->has_payload_modification)
		why = "has a payload of its own";
	else if (params->verb == SEND && params->mr_per_qp && params->duplex)
		why = "can't tell what was sent from what has arrived";
	else if (params->verb == ATOMIC && params->atomicType != FETCH_AND_ADD)
		why = "is for FETCH_AND_ADD only";
	else if (patterned(params) == 0)
		why = "needs messages of two bytes or more here";
	if (!why)
		return SUCCESS;
	fprintf(stderr, " --verify_buffer %s\n", why);
	return FAILURE;
}

void pfn_verify_fill(const struct perftest_parameters *params, void *buffer, size_t size)
{
	const struct span span = sent(params);
	const size_t area = area_size(params), slot = slot_size(params);
	uint8_t *bytes = buffer;
	size_t in_area, place;

	memset(buffer, 0, size);
	/* Never straddle two areas: the next one's first slot begins anew. */
	for (size_t start = span.begin; start < span.end; start += area)
		for (in_area = 0; in_area + params->size <= area; in_area += slot)
			for (place = 0; place < params->size; place++)
				bytes[start + in_area + place] = pattern(place);
	/* A counter that is waited for begins at 0. */
	if (params->verb == WRITE && params->tst == LAT && requests(params))
		bytes[span.begin + params->size - 1] = 0;
}

/* The sum of all counters is the number of requests. */
static int verify_sum(const struct perftest_parameters *params, const void *buffer, size_t size)
{
	const uint64_t *word = buffer;
	const uint64_t expected = params->iters * areas(params) * ATOMIC_ADD_VALUE;
	const bool known = params->test_type == ITERATIONS && !params->perform_warm_up;
	uint64_t sum = 0;

	if (!responds(params))
		return SUCCESS;
	for (size_t i = half(params) / sizeof(*word); i < size / sizeof(*word); i++)
		sum += word[i];
	if (known ? sum != expected : sum == 0) {
		fprintf(stderr, " verify_buffer: the counters' sum is %lu, not %lu\n", sum, expected);
		return FAILURE;
	}
	printf(" verify_buffer: the counters' sum is %lu, as it should be\n", sum);
	return SUCCESS;
}

/* The place of the first byte of the message at @bytes that is wrong; if none, @size. */
static size_t first_wrong(const uint8_t *bytes, size_t size)
{
	size_t place = 0;

	while (place < size && bytes[place] == pattern(place))
		place++;
	return place;
}

int pfn_verify(const struct perftest_parameters *params, const void *buffer, size_t size)
{
	const struct span span = received(params, size);
	const size_t message = patterned(params);
	const uint8_t *bytes = buffer;
	uint64_t found = 0;
	size_t at, wrong;

	if (params->verb == ATOMIC)
		return verify_sum(params, buffer, size);
	for (at = span.begin; at + params->size <= span.end; at += bytes[at] ? params->size : 1) {
		if (!bytes[at])
			continue;
		wrong = first_wrong(bytes + at, message);
		if (wrong < message) {
			fprintf(stderr, " verify_buffer: byte %zu of the message at offset %zu is 0x%02x, not 0x%02x\n",
				wrong, at, bytes[at + wrong], pattern(wrong));
			return FAILURE;
		}
		found++;
	}
	if (span.begin == span.end)
		return SUCCESS;
	if (found < areas(params)) {
		fprintf(stderr, " verify_buffer: %lu messages have arrived for %zu QPs\n", found,
			areas(params));
		return FAILURE;
	}
	printf(" verify_buffer: %lu messages in the buffer, all as sent\n", found);
	return SUCCESS;
}
