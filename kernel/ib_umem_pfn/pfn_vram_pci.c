// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * pfn_vram: VRAM that is a PCI BAR, namely the shared memory of QEMU's ivshmem,
 * which is what the memory BAR of a GPU looks like from the outside: 64-bit,
 * prefetchable, write-combining, no struct page.
 *
 * Everything about the PCI device is devres-managed: it goes away right after
 * remove(), so remove() returns only when nobody uses the BAR any more.
 *
 * There is no MODULE_DEVICE_TABLE on purpose: a virtual machine may have an
 * ivshmem for another reason, so taking it is for the administrator to decide
 * by loading this module.
 */
#include <linux/io.h>
#include <linux/mm.h>
#include <linux/pci-p2pdma.h>
#include <linux/pci.h>

#include "pfn_vram_priv.h"

#define PFN_VRAM_BAR	2

static atomic_t nr_bound;

/* Who else may reach the BAR directly; not having this is no failure. */
static struct p2pdma_provider *get_provider(struct pci_dev *pdev)
{
	if (pcim_p2pdma_init(pdev)) {
		pci_info(pdev, "no peer-to-peer DMA: for pfn importers only\n");
		return NULL;
	}
	return pcim_p2pdma_provider(pdev, PFN_VRAM_BAR);
}

static void __iomem *map_bar(struct pci_dev *pdev)
{
	resource_size_t base = pci_resource_start(pdev, PFN_VRAM_BAR);
	resource_size_t size = pci_resource_len(pdev, PFN_VRAM_BAR);
	void __iomem *io;
	int err;

	err = pcim_request_region(pdev, PFN_VRAM_BAR, "pfn_vram");
	if (err)
		return IOMEM_ERR_PTR(err);

	/* Write-combining for everybody, us, mmap and importers alike. */
	err = devm_arch_io_reserve_memtype_wc(&pdev->dev, base, size);
	if (err)
		return IOMEM_ERR_PTR(err);
	err = devm_arch_phys_wc_add(&pdev->dev, base, size);
	if (err < 0)
		pci_dbg(pdev, "no MTRR: %d\n", err);

	io = devm_ioremap_wc(&pdev->dev, base, size);
	return io ?: IOMEM_ERR_PTR(-ENOMEM);
}

static bool bar_is_usable(struct pci_dev *pdev)
{
	return pci_resource_flags(pdev, PFN_VRAM_BAR) & IORESOURCE_MEM &&
	       PAGE_ALIGNED(pci_resource_start(pdev, PFN_VRAM_BAR)) &&
	       pci_resource_len(pdev, PFN_VRAM_BAR) >= PAGE_SIZE;
}

static int pfn_vram_pci_probe(struct pci_dev *pdev,
			      const struct pci_device_id *id)
{
	struct pfn_vram_dev *dev;
	void __iomem *io;
	int err;

	err = pcim_enable_device(pdev);
	if (err)
		return err;
	if (!bar_is_usable(pdev))
		return dev_err_probe(&pdev->dev, -ENODEV,
				     "BAR %d is not memory\n", PFN_VRAM_BAR);
	io = map_bar(pdev);
	if (IS_ERR(io))
		return dev_err_probe(&pdev->dev, PTR_ERR(io),
				     "cannot map BAR %d\n", PFN_VRAM_BAR);

	dev = pfn_vram_dev_create(PFN_VRAM_BACKEND_BAR, pci_name(pdev));
	if (IS_ERR(dev))
		return PTR_ERR(dev);
	dev->provider = get_provider(pdev);

	err = pfn_vram_pool_add_io(dev, io,
				   pci_resource_start(pdev, PFN_VRAM_BAR),
				   pci_resource_len(pdev, PFN_VRAM_BAR));
	if (!err)
		err = pfn_vram_dev_register(dev, &pdev->dev);
	if (err) {
		pfn_vram_dev_put(dev);
		return err;
	}

	pci_set_drvdata(pdev, dev);
	atomic_inc(&nr_bound);
	return 0;
}

static void pfn_vram_pci_remove(struct pci_dev *pdev)
{
	struct pfn_vram_dev *dev = pci_get_drvdata(pdev);

	atomic_dec(&nr_bound);
	pfn_vram_dev_unplug(dev);
	pfn_vram_dev_put(dev);
}

static const struct pci_device_id pfn_vram_pci_ids[] = {
	{ PCI_DEVICE(PCI_VENDOR_ID_REDHAT_QUMRANET, 0x1110) },
	{ }
};

static struct pci_driver pfn_vram_pci_driver = {
	.name = "pfn_vram",
	.id_table = pfn_vram_pci_ids,
	.probe = pfn_vram_pci_probe,
	.remove = pfn_vram_pci_remove,
	/* Loading the module wants to know how many there are. */
	.driver.probe_type = PROBE_FORCE_SYNCHRONOUS,
};

int pfn_vram_pci_init(void)
{
	return pci_register_driver(&pfn_vram_pci_driver);
}

void pfn_vram_pci_exit(void)
{
	pci_unregister_driver(&pfn_vram_pci_driver);
}

/* Number of PCI devices that are bound to this driver. */
unsigned int pfn_vram_pci_nr_bound(void)
{
	return atomic_read(&nr_bound);
}
