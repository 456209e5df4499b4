/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * Structures that grow at their end. A caller may have been compiled with an older,
 * shorter one or with a newer, longer one than this library.
 */
#ifndef PFNDV_EXTENSIBLE_H
#define PFNDV_EXTENSIBLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* Size of the version of a structure that ended in @last. */
#define SIZE_UP_TO(type, last) \
	((uint32_t)(offsetof(type, last) + sizeof(((type *)NULL)->last)))

/* Give the caller as much as it has room for; what it knows and we don't is 0. */
static inline void extensible_copy_out(void *theirs, uint32_t their_size, const void *ours,
				       size_t our_size)
{
	size_t both = their_size < our_size ? their_size : our_size;

	memcpy(theirs, ours, both);
	memset((char *)theirs + both, 0, their_size - both);
}

/*
 * Take what the caller has; what we know and it doesn't is 0. False if it asks, beyond
 * our end, for something that we do not know.
 */
static inline bool extensible_copy_in(void *ours, size_t our_size, const void *theirs,
				      uint32_t their_size)
{
	size_t both = their_size < our_size ? their_size : our_size;
	size_t i;

	memset(ours, 0, our_size);
	memcpy(ours, theirs, both);
	for (i = both; i < their_size; i++)
		if (((const char *)theirs)[i])
			return false;
	return true;
}

#endif /* PFNDV_EXTENSIBLE_H */
