#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
"""pfn-sanity: it passes where all is well, leaves nothing, and can fail."""

import json
import unittest

from support import ToolTest, run, without

STEPS = ["allocate", "register", "connect", "write", "read", "atomic", "move",
         "move under traffic", "pin", "plain verb", "revoke", "nothing left"]


def traces():
    """What a run could leave behind: buffers, MRs, RDMA devices."""
    buffers = json.loads(run("pfn-info", "--json").out)["exporters"][0]["buffers"]
    return buffers, run("rdma", "resource", "show", "mr").out, run("rdma", "link").out


class Sanity(ToolTest):
    TOOL = "pfn-sanity"

    # Once for all of them: under emulation to start a program takes longer than to run it.
    @classmethod
    def setUpClass(cls):
        cls.before = traces()

    @classmethod
    def tearDownClass(cls):
        if traces() != cls.before:
            raise AssertionError(f"before: {cls.before}, left behind: {traces()}")

    def test_passes(self):
        out = self.fine()
        self.assertEqual(STEPS, [line[6:24].strip() for line in out.splitlines()[1:-2]])
        self.assertRegex(out, r"\nPASS: 12 steps passed, 0 failed, 0 skipped, [0-9.]+ s\n$")

    def test_json_and_chosen_devices(self):
        ended = self.tool("--json", "--rdma", "rxe_peer", "--vram", "/dev/pfn_vram0",
                          "--size", "64KiB")
        self.assertEqual((0, ""), (ended.status, ended.err), ended)
        document = self.document(ended)
        self.assertEqual(["tool", "version", "verdict", "rdma_device", "own_device", "exporter",
                          "seconds", "steps"], list(document))
        self.assertEqual(("PASS", "rxe_peer", False),
                         tuple(document[k] for k in ("verdict", "rdma_device", "own_device")))
        self.assertEqual(STEPS, [step["step"] for step in document["steps"]])
        self.assertEqual({"PASS"}, {step["result"] for step in document["steps"]})

    def test_device_of_its_own(self):
        out = self.fine("--own-device", "--size", "64KiB")
        self.assertRegex(out, r"^RDMA device pfn_sanity_[0-9]+ \(made for this\)")
        self.assertIn("\nPASS: ", out)

    def test_stock_provider(self):
        out = self.fine("--size", "64KiB", env=without("IBV_DRIVERS"))
        self.assertRegex(out, r"SKIP +plain verb +the distribution's librxe")
        self.assertIn("11 steps passed, 0 failed, 1 skipped", out)

    def test_can_fail(self):
        # Half of the memory is taken, so it cannot have all of it.
        vram = json.loads(run("pfn-info", "--json").out)["exporters"][0]
        half = str(min(vram["bytes"], 64 << 20) // 2)
        taken = run("pfn-buf", "alloc", "--background", "--size", half)
        self.assertEqual(0, taken.status, taken)
        try:
            ended = self.tool("--size", str(2 * int(half)))
        finally:
            run("pfn-buf", "free", taken.out.strip())
        self.assertEqual(1, ended.status, ended)
        self.assertRegex(ended.out, r"FAIL +allocate +PFN_VRAM_IOC_ALLOC .*No space left")
        self.assertRegex(ended.out, r"SKIP +write +because of the failure of: allocate")
        self.assertIn("\nFAIL: 1 steps passed, 1 failed, 10 skipped", ended.out)

    def test_nothing_to_try_it_with(self):
        self.refused(3, "no such device", "--vram", "/dev/pfn_vram77")
        self.refused(3, "no such RDMA device", "--rdma", "rxe_of_nobody")

    def test_wrong_arguments(self):
        self.refused(2, "--frobnicate", "--frobnicate")
        self.refused(2, "--size must be", "--size", "1")
        self.refused(2, "--size", "--size", "four")
        self.refused(2, "exclude", "--own-device", "--rdma", "rxe_gpu")
        self.refused(2, "not a device of pfn_vram", "--vram", "/dev/null")


if __name__ == "__main__":
    unittest.main()
