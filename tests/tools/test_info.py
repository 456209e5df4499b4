#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
"""pfn-info: what it says where all is well, and where something is missing."""

import os
import re
import unittest

from support import ToolTest, elsewhere, without


class Info(ToolTest):
    TOOL = "pfn-info"

    def look(self, ended):
        """The checks of a JSON report, by subject."""
        document = self.document(ended)
        self.assertEqual("bad" if ended.status else "ok", document["verdict"])
        return {check["subject"]: check for check in document["checks"]}

    def test_all_is_well(self):
        out = self.fine()
        self.assertRegex(out, r"ok +kernel +" + re.escape(os.uname().release))
        self.assertRegex(out, r"ok +module rdma_rxe +loaded, with pfn MRs")
        self.assertRegex(out, r"ok +device rxe_gpu +pfn MRs: pinned, revocable, dynamic; pfn")
        self.assertRegex(out, r"ok +provider of rxe_gpu +ibv_reg_dmabuf_mr\(\) works")
        self.assertRegex(out, r"ok +exporter /dev/pfn_vram0 +[0-9.]+ MiB of [0-9.]+ MiB free")
        self.assertNotIn("bad", out)

    def test_json(self):
        ended = self.tool("--json")
        self.assertEqual(0, ended.status, ended)
        document = self.document(ended)
        self.assertEqual(["tool", "version", "verdict", "checks", "devices", "exporters"],
                         list(document))
        for check in document["checks"]:
            self.assertEqual(["subject", "verdict", "text", "advice"], list(check))
        device = document["devices"][0]
        self.assertTrue(device["supported"] and device["port_active"])
        self.assertEqual(["pinned", "revocable", "dynamic"], device["modes"])
        vram = document["exporters"][0]
        self.assertEqual("/dev/pfn_vram0", vram["path"])
        self.assertIn(vram["backend"], ("bar", "ram"))
        self.assertEqual(vram["backend"] == "bar", vram["bus"] is not None)
        self.assertGreaterEqual(vram["bytes"], vram["free_bytes"])

    def test_stock_provider(self):
        checks = self.look(self.tool("--json", env=without("IBV_DRIVERS")))
        self.assertEqual("note", checks["provider of rxe_gpu"]["verdict"])
        self.assertIn("umem-pfn-provider", checks["provider of rxe_gpu"]["advice"])

    def test_nodes_are_missing(self):
        checks = self.look(elsewhere(["/dev/infiniband"], "pfn-info", "--json"))
        self.assertEqual("bad", checks["devices"]["verdict"])
        self.assertEqual("modprobe ib_uverbs", checks["devices"]["advice"])

    def test_there_is_no_device(self):
        hidden = ["/dev/infiniband", "/sys/class/infiniband"]
        check = self.look(elsewhere(hidden, "pfn-info", "--json"))["devices"]
        self.assertEqual(("bad", "no RDMA device"), (check["verdict"], check["text"]))
        self.assertIn("rdma link add", check["advice"])

    def test_module_is_not_loaded(self):
        checks = self.look(elsewhere(["/sys/module"], "pfn-info", "--json"))
        self.assertEqual("bad", checks["module rdma_rxe"]["verdict"])
        self.assertEqual("modprobe rdma_rxe", checks["module rdma_rxe"]["advice"])
        self.assertIn("updates/", checks["module rdma_rxe"]["text"])
        self.assertEqual("note", checks["module pfn_vram"]["verdict"])

    def test_stock_module(self):
        checks = self.look(elsewhere(["/sys/module/ib_umem_pfn/holders"], "pfn-info", "--json"))
        check = checks["module rdma_rxe"]
        self.assertEqual("bad", check["verdict"])
        self.assertIn("the stock one is loaded", check["text"])
        self.assertIn("modprobe -r rdma_rxe", check["advice"])

    def test_nothing_is_installed(self):
        hidden = ["/sys/module", f"/lib/modules/{os.uname().release}"]
        checks = self.look(elsewhere(hidden, "pfn-info", "--json"))
        for module in ("dma_buf_pfn", "ib_umem_pfn", "rdma_rxe"):
            self.assertEqual("bad", checks[f"module {module}"]["verdict"])
            self.assertIn("umem-pfn-dkms", checks[f"module {module}"]["advice"])

    def test_wrong_arguments(self):
        self.refused(2, "--frobnicate", "--frobnicate")
        self.refused(2, "surplus", "surplus")

    def test_report_that_cannot_be_written(self):
        ended = elsewhere([], "sh", "-c", "pfn-info >/dev/full")
        self.assertEqual(1, ended.status)
        self.assertIn("pfn-info: writing to stdout: No space left", ended.err)


if __name__ == "__main__":
    unittest.main()
