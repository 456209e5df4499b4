// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/* Complains on purpose, so that the lab's tests see it noticed. */
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/refcount.h>
#include <linux/slab.h>

static char *what = "warn";
module_param(what, charp, 0444);
MODULE_PARM_DESC(what, "warn, refcount, oops, leak or deadlock");

static DEFINE_MUTEX(lock_a);
static DEFINE_MUTEX(lock_b);

/* What could be one if somebody else did it the other way round. */
static void deadlock(struct mutex *first, struct mutex *second)
{
	mutex_lock(first);
	mutex_lock(second);
	mutex_unlock(second);
	mutex_unlock(first);
}

/*
 * Many, as the addresses of those that come out of a CPU's sheaf (a list of free
 * objects) stay in it until it is filled again, where kmemleak finds them.
 */
static void leak(void)
{
	for (int i = 0; i < 512; i++)
		if (!kmalloc(777, GFP_KERNEL))
			return;
}

static int __init splat_init(void)
{
	refcount_t ref = REFCOUNT_INIT(1);

	if (sysfs_streq(what, "warn"))
		WARN(1, "planted by the lab's tests\n");
	else if (sysfs_streq(what, "refcount"))
		refcount_dec(&ref);
	else if (sysfs_streq(what, "oops"))
		*(volatile int *)8 = 1;
	else if (sysfs_streq(what, "leak"))
		leak();
	else if (sysfs_streq(what, "deadlock")) {
		deadlock(&lock_a, &lock_b);
		deadlock(&lock_b, &lock_a);
	} else
		return -EINVAL;
	return 0;
}

static void __exit splat_exit(void)
{
}

module_init(splat_init);
module_exit(splat_exit);
MODULE_DESCRIPTION("Complains on purpose");
MODULE_LICENSE("Dual BSD/GPL");
