// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
//
// LD_PRELOAD: large aligned allocations of a program that has never heard of device
// memory come out of /dev/pfn_vram0. It is how such programs (ucx_perftest, fi_pingpong)
// get buffers in VRAM: they ask for them with memalign() and its kin.
//
//   VRAM_MALLOC_MIN    allocations of at least so many bytes, default 4096
//   VRAM_MALLOC_SYSTEM if set: placement system, pages apart from each other
//
// What was handed out is said once per process, at its end, on stderr.
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <linux/pfn_vram.h>

// glibc's own, which need no dlsym() and so work from the first instruction on.
extern void* __libc_memalign(size_t alignment, size_t size);
extern void __libc_free(void* address);

enum { REGIONS = 1024, PAGE = 4096 };

static struct {
    pthread_mutex_t lock;
    struct region {
        void* address;
        size_t size;
    } regions[REGIONS];
    unsigned long allocations;
    unsigned long bytes;
} state = {.lock = PTHREAD_MUTEX_INITIALIZER};

static size_t smallest(void) {
    const char* text = getenv("VRAM_MALLOC_MIN");
    return text ? strtoul(text, NULL, 0) : PAGE;
}

static void* map_vram(size_t size) {
    const bool system = getenv("VRAM_MALLOC_SYSTEM") != NULL;
    struct pfn_vram_alloc alloc = {
        .size = size,
        .chunk = system ? PAGE : 0,
        .placement = system ? PFN_VRAM_PLACEMENT_SYSTEM : PFN_VRAM_PLACEMENT_VRAM,
        .caps = PFN_VRAM_CAP_ALL,
        .fd_flags = O_CLOEXEC | O_RDWR,
    };
    const int device = open("/dev/pfn_vram0", O_RDWR | O_CLOEXEC);
    if (device < 0)
        return NULL;
    const bool allocated = ioctl(device, PFN_VRAM_IOC_ALLOC, &alloc) == 0;
    close(device);
    if (!allocated)
        return NULL;
    void* address = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, alloc.fd, 0);
    close(alloc.fd);
    return address == MAP_FAILED ? NULL : address;
}

/// Device memory, or NULL where it is not wanted or cannot be had.
static void* device_memory(size_t alignment, size_t size) {
    if (size < smallest() || alignment > PAGE || size > SIZE_MAX - PAGE)
        return NULL;
    size = (size + PAGE - 1) & ~(size_t)(PAGE - 1);
    void* address = map_vram(size);
    if (!address)
        return NULL;
    bool kept = false;
    pthread_mutex_lock(&state.lock);
    for (struct region* region = state.regions; !kept && region < state.regions + REGIONS; ++region)
        if (!region->address) {
            *region = (struct region){address, size};
            state.allocations += 1;
            state.bytes += size;
            kept = true;
        }
    pthread_mutex_unlock(&state.lock);
    if (!kept) {
        munmap(address, size);
        return NULL;
    }
    return address;
}

void* memalign(size_t alignment, size_t size) {
    void* address = device_memory(alignment, size);
    return address ? address : __libc_memalign(alignment, size);
}

void* aligned_alloc(size_t alignment, size_t size) {
    return memalign(alignment, size);
}

int posix_memalign(void** address, size_t alignment, size_t size) {
    if (alignment % sizeof(void*) || alignment & (alignment - 1) || !alignment)
        return EINVAL;
    void* memory = memalign(alignment, size);
    if (!memory)
        return ENOMEM;
    *address = memory;
    return 0;
}

void free(void* address) {
    size_t size = 0;
    if (((uintptr_t)address & (PAGE - 1)) == 0 && address) { // ours are pages
        pthread_mutex_lock(&state.lock);
        for (struct region* region = state.regions; region < state.regions + REGIONS; ++region)
            if (region->address == address) {
                size = region->size;
                region->address = NULL;
                break;
            }
        pthread_mutex_unlock(&state.lock);
    }
    if (size)
        munmap(address, size);
    else
        __libc_free(address);
}

__attribute__((destructor)) static void say(void) {
    if (state.allocations)
        fprintf(stderr, "vram_malloc: %lu allocations, %lu bytes\n", state.allocations,
                state.bytes);
}
