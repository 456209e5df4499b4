#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
"""pfn-buf: every command, what it refuses, and who may."""

import errno
import os
import signal
import subprocess
import tempfile
import unittest

from support import ToolTest, run

SIZE = 65536


class Buf(ToolTest):
    TOOL = "pfn-buf"

    def alloc(self, *arguments):
        """A buffer that is gone after the test. Returns its name."""
        name = self.fine("alloc", "--background", "--size", "64KiB", *arguments).strip()
        self.assertRegex(name, r"^[0-9]+:[0-9]+$")
        # Not with "free": under emulation each program that is started takes a while.
        self.addCleanup(os.kill, int(name.split(":")[0]), signal.SIGTERM)
        return name

    def info(self, name):
        ended = self.tool("info", name, "--json")
        self.assertEqual((0, ""), (ended.status, ended.err), ended)
        return self.document(ended)

    def bytes_of(self, name, *arguments):
        ended = self.tool("dump", name, "--raw", *arguments, text=False)
        self.assertEqual((0, b""), (ended.status, ended.err))
        return ended.out


class Life(Buf):
    def test_background(self):
        ended = self.tool("alloc", "--background", "--size", "1MiB", "--json")
        document = self.document(ended)
        name = document["buffer"]
        try:
            self.assertEqual(f"{document['pid']}:{document['fd']}", name)
            self.assertEqual((1 << 20, "vram", "/dev/pfn_vram0"),
                             tuple(document[k] for k in ("size", "placement", "device")))
            self.assertEqual(1 << 20, self.info(document["path"])["size"])
        finally:
            self.assertEqual("", self.fine("free", name))
        self.refused(1, "there is no process", "info", name)
        self.refused(1, "there is no process", "free", name)

    def test_foreground(self):
        with subprocess.Popen([self.TOOL, "alloc", "--size", "64KiB"], text=True,
                              stdout=subprocess.PIPE) as process:
            name = process.stdout.readline().strip()
            self.assertEqual(f"{process.pid}:", name[:name.find(":") + 1])
            self.assertEqual(SIZE, self.info(name)["size"])
            self.refused(1, "no such descriptor", "free", f"{process.pid}:99")
            process.send_signal(signal.SIGINT)
            self.assertEqual(0, process.wait(60))

    def test_of_a_command(self):
        script = 'echo $PFN_BUF_FD $0; pfn-buf info $PFN_BUF_FD; exit 7'
        ended = self.tool("alloc", "--size", "64KiB", "--", "sh", "-c", script, "{}")
        self.assertEqual(7, ended.status, ended)
        number, again = ended.out.split()[:2]
        self.assertEqual(number, again)
        self.assertIn(f"{number}: 64.0 KiB of /dev/pfn_vram0, in vram", ended.out)

    def test_run(self):
        name = self.alloc()
        ended = self.tool("run", name, "--", "pfn-buf", "fill", "{}", "--byte", "7")
        self.assertEqual(0, ended.status, ended)
        self.assertEqual(b"\7" * SIZE, self.bytes_of(name))
        self.refused(2, "No such file", "run", name, "--", "/no/such/program")

    def test_cannot_be_opened_by_its_path(self):
        # What the manual page says of dma-bufs, and why a buffer is called PID:FD.
        pid, number = self.alloc().split(":")
        with self.assertRaises(OSError) as raised:
            os.open(f"/proc/{pid}/fd/{number}", os.O_RDWR)
        self.assertEqual(errno.ENXIO, raised.exception.errno)

    def test_list(self):
        first, second = self.alloc(), self.alloc("--placement", "system")
        ended = self.tool("list", "--json")
        found = {b["buffer"]: b for b in self.document(ended)["buffers"]}
        self.assertEqual((SIZE, "pfn-buf"), (found[first]["size"], found[first]["program"]))
        self.assertNotEqual(found[first]["inode"], found[second]["inode"])
        self.assertIn(first, self.fine("list"))

    def test_free_ends_nobody_else(self):
        self.refused(1, "it is not pfn-buf that has it", "free", f"{os.getpid()}:0")


class What(Buf):
    def test_options_of_alloc(self):
        info = self.info(self.alloc("--chunk", "4KiB", "--placement", "system", "--caps",
                                    "move,revoke", "--device", "/dev/pfn_vram0"))
        self.assertEqual((16, "system", ["move", "revoke"]),
                         (info["ranges"], info["placement"], info["caps"]))
        self.assertEqual([], self.info(self.alloc("--caps", "none"))["caps"])

    def test_move(self):
        name = self.alloc()
        self.fine("fill", name, "--seed", "3")
        before = self.bytes_of(name)
        self.assertEqual("", self.fine("move", name, "system", "--chunk", "4KiB"))
        info = self.info(name)
        self.assertEqual(("system", 16, 1, ["pin", "move", "revoke"]),
                         tuple(info[k] for k in ("placement", "ranges", "generation", "caps")))
        moved = self.document(self.tool("move", name, "vram", "--json"))
        self.assertEqual(("vram", 2), (moved["placement"], moved["generation"]))
        self.assertGreater(moved["copy_ns"], 0)
        self.fine("move", name, "system", "--async")
        self.assertEqual(before, self.bytes_of(name))

    def test_revoke_and_restore(self):
        name = self.alloc()
        self.fine("fill", name, "--byte", "255")
        self.refused(1, "only what is revoked can be restored", "restore", name)
        revoked = self.document(self.tool("revoke", name, "--json"))
        self.assertEqual((True, None), (revoked["revoked"], revoked["placement"]))
        self.assertIn("revoked", self.fine("info", name))
        for command in (["dump"], ["fill", "--byte", "1"], ["move", "system"], ["revoke"]):
            self.refused(1, "revoked", command[0], name, *command[1:])
        self.fine("restore", name, "system")
        self.assertEqual("system", self.info(name)["placement"])
        self.assertEqual(b"\0" * SIZE, self.bytes_of(name))

    def test_refused_by_the_kernel(self):
        still = self.alloc("--caps", "none")
        self.refused(1, "it was allocated without --caps move", "move", still, "system")
        self.refused(1, "it was allocated without --caps revoke", "revoke", still)
        self.refused(1, "not enough free VRAM", "alloc", "--size", "1TiB")
        self.refused(1, "--size is a multiple of the page size", "alloc", "--size", "1000")
        self.refused(1, "--chunk a power of two", "alloc", "--size", "64KiB", "--chunk", "5000")


class Contents(Buf):
    def test_fill_and_dump(self):
        name = self.alloc()
        self.fine("fill", name, "--byte", "65", "--offset", "8", "--length", "9")
        self.assertEqual("00000000  00 00 00 00 00 00 00 00  41 41 41 41 41 41 41 41  "
                         "|........AAAAAAAA|\n"
                         "00000010  41 00                                             |A.|\n",
                         self.fine("dump", name, "--length", "18"))
        self.assertEqual(b"A\0", self.bytes_of(name, "--offset", "16", "--length", "2"))
        self.assertEqual(SIZE, len(self.bytes_of(name)))

    def test_fill_from_a_file(self):
        name = self.alloc()
        self.assertEqual("", self.fine("fill", name, "--from", "-", stdin="from stdin"))
        self.assertEqual(b"from stdin\0", self.bytes_of(name, "--length", "11"))
        with tempfile.NamedTemporaryFile() as file:
            data = os.urandom(SIZE + 10)
            file.write(data)
            file.flush()
            ended = self.tool("fill", name, "--from", file.name, "--json")
        self.assertEqual(SIZE, self.document(ended)["written"])
        self.assertEqual(data[:SIZE], self.bytes_of(name))
        self.refused(1, "/no/such/file: No such file", "fill", name, "--from", "/no/such/file")

    def test_dump_json(self):
        name = self.alloc()
        self.fine("fill", name, "--from", "-", stdin="abc")
        document = self.document(self.tool("dump", name, "--length", "3", "--json"))
        # FNV-1a of "abc", as published.
        self.assertEqual((0, 3, "616263", "e71fa2190541574b"),
                         tuple(document[k] for k in ("offset", "length", "hex", "checksum")))

    def test_beyond_the_end(self):
        name = self.alloc()
        self.refused(2, "beyond its end", "dump", name, "--offset", "64KiB")
        self.refused(2, "beyond its end", "dump", name, "--offset", "65535", "--length", "2")
        self.refused(2, "beyond its end", "fill", name, "--byte", "1", "--length", "65537")

    def test_read_only(self):
        name = self.alloc("--read-only")
        self.refused(1, "allocated with --read-only", "fill", name, "--byte", "1")
        self.assertEqual(b"\0" * SIZE, self.bytes_of(name))

    def test_full_disk(self):
        ended = run("sh", "-c", f"pfn-buf dump {self.alloc()} >/dev/full")
        self.assertEqual((1, "pfn-buf: writing to stdout: No space left on device\n"),
                         (ended.status, ended.err))


class Refused(Buf):
    def test_wrong_arguments(self):
        self.refused(2, "a command is required")
        self.refused(2, "frobnicate", "frobnicate")
        self.refused(2, "--size is required", "alloc")
        self.refused(2, "--size", "alloc", "--size", "four")
        self.refused(2, "gpu", "alloc", "--size", "4K", "--placement", "gpu")
        self.refused(2, "fly", "alloc", "--size", "4K", "--caps", "move,fly")
        self.refused(2, "exclude", "alloc", "--size", "4K", "--background", "--", "true")
        self.refused(2, "PLACEMENT", "move", "1:2")
        for name in ("nonsense", "1:", "/proc/1/fd/x", "1:2:3"):
            self.refused(2, "names no buffer", "info", name)

    def test_fill_takes_one_thing(self):
        name = self.alloc()
        self.refused(2, "is required", "fill", name)
        self.refused(2, "--seed", "fill", name, "--byte", "1", "--seed", "1")
        self.refused(2, "--byte", "fill", name, "--byte", "256")

    def test_no_such_thing(self):
        self.refused(1, "there is no process", "info", "4194304:3")
        self.refused(1, "no such descriptor", "info", f"{os.getpid()}:999")
        self.refused(1, "not a buffer of pfn_vram", "info", f"{os.getpid()}:0")
        self.refused(1, "no such descriptor", "info", "999")
        self.refused(3, "no such device", "alloc", "--size", "4K", "--device", "/dev/pfn_vram77")


if __name__ == "__main__":
    unittest.main()
