// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/* Complains on purpose, so that the lab's tests see it noticed. */
#include <linux/module.h>
#include <linux/refcount.h>

static char *what = "warn";
module_param(what, charp, 0444);
MODULE_PARM_DESC(what, "warn, refcount or oops");

static int __init splat_init(void)
{
	refcount_t ref = REFCOUNT_INIT(1);

	if (sysfs_streq(what, "warn"))
		WARN(1, "planted by the lab's tests\n");
	else if (sysfs_streq(what, "refcount"))
		refcount_dec(&ref);
	else if (sysfs_streq(what, "oops"))
		*(volatile int *)8 = 1;
	else
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
