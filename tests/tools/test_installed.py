#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
"""The tools as cmake installs them, run by an ordinary user."""

import os
import pathlib
import tempfile
import unittest

from support import ToolTest, run, without

NOBODY = {"user": 65534, "group": 65534, "extra_groups": []}
TOOLS = ("pfn-buf", "pfn-info", "pfn-sanity")
PREFIX = tempfile.TemporaryDirectory()


def setUpModule():
    os.chmod(PREFIX.name, 0o755)
    for component in ("tools", "libpfndv"):
        ended = run("cmake", "--install", os.environ["UMEM_PFN_BUILD"], "--prefix", PREFIX.name,
                    "--component", component)
        if ended.status:
            raise RuntimeError(repr(ended))


def tearDownModule():
    PREFIX.cleanup()


class Installed(unittest.TestCase):
    def test_what_the_component_has(self):
        root = pathlib.Path(PREFIX.name)
        files = {str(f.relative_to(root)) for f in root.rglob("*") if f.is_file()}
        wanted = {form.format(tool) for tool in TOOLS
                  for form in ("bin/{}", "share/man/man1/{}.1",
                               "share/bash-completion/completions/{}")}
        wanted |= {"bin/pfn_demo", "share/man/man1/pfn_demo.1",
                   "share/umem-pfn/umem-pfn-mpi.env"}
        self.assertEqual(wanted, {f for f in files if "libpfndv" not in f})


class Ordinary(ToolTest):
    def tool(self, *arguments, **options):
        prefix = pathlib.Path(PREFIX.name)
        library = next(prefix.rglob("libpfndv.so.1"))
        # The overlay is below a directory that is root's.
        env = without("IBV_DRIVERS") | {"LD_LIBRARY_PATH": str(library.parent)}
        return run(str(prefix / "bin" / self.TOOL), *arguments, env=env, **NOBODY, **options)

    def setUp(self):
        # One that belongs to root.
        self.buffer = run("pfn-buf", "alloc", "--background", "--size", "4K").out.strip()
        self.addCleanup(run, "pfn-buf", "free", self.buffer)


class Info(Ordinary):
    TOOL = "pfn-info"

    def test_says_what_is_missing(self):
        ended = self.tool("--json")
        self.assertEqual((1, ""), (ended.status, ended.err), ended)
        document = self.document(ended)
        checks = {check["subject"]: check for check in document["checks"]}
        check = checks["exporter /dev/pfn_vram0"]
        self.assertEqual(("bad", "no permission"), (check["verdict"], check["text"]))
        self.assertTrue(check["advice"].startswith("be root"))
        self.assertEqual("ok", checks["device rxe_gpu"]["verdict"])


class Sanity(Ordinary):
    TOOL = "pfn-sanity"

    def test_says_what_is_missing(self):
        self.refused(3, "/dev/pfn_vram0: no permission: be root")


class Buf(Ordinary):
    TOOL = "pfn-buf"

    def test_says_what_is_missing(self):
        self.refused(3, "/dev/pfn_vram0: no permission", "alloc", "--size", "4K")

    def test_buffers_of_others(self):
        self.refused(3, f"{self.buffer}: no permission", "info", self.buffer)
        self.refused(1, "no permission", "free", self.buffer)
        self.assertEqual("", self.fine("list"))


class Member(Ordinary):
    """With a udev rule that gives the device to a group, and a member of that."""

    TOOL = "pfn-buf"

    def setUp(self):
        super().setUp()
        node = os.stat("/dev/pfn_vram0")
        os.chown("/dev/pfn_vram0", 0, NOBODY["group"])
        self.addCleanup(os.chown, "/dev/pfn_vram0", node.st_uid, node.st_gid)

    def test_may(self):
        name = self.fine("alloc", "--size", "4K", "--background").strip()
        self.fine("move", name, "system")
        self.assertIn("in system", self.fine("info", name))
        self.assertIn(name, self.fine("list"))
        self.fine("free", name)

    def test_may_not_look_at_those_of_root(self):
        self.refused(3, f"{self.buffer}: no permission", "dump", self.buffer)


if __name__ == "__main__":
    unittest.main()
