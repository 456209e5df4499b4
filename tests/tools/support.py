# SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
"""What the tests of the tools share. They run as root in the lab's guest, with the
tools in PATH and the sources of their manual pages in UMEM_PFN_TOOLS."""

import json
import os
import pathlib
import re
import subprocess
import unittest

SOURCES = pathlib.Path(os.environ["UMEM_PFN_TOOLS"])


class Ended:
    """How a command has ended."""

    def __init__(self, result):
        self.status = result.returncode
        self.out = result.stdout
        self.err = result.stderr

    def __repr__(self):
        return f"status {self.status}\n{self.out}{self.err}"


def run(*command, env=None, stdin=None, text=True, **identity):
    """Run a command to its end. identity: user, group, extra_groups."""
    return Ended(subprocess.run(command, capture_output=True, check=False, text=text, input=stdin,
                                env=env, **identity))


def without(variable):
    """The environment without a variable."""
    return {name: value for name, value in os.environ.items() if name != variable}


def elsewhere(mounts, *command):
    """Run a command where empty directories are mounted over those of mounts."""
    script = "".join(f"mount -t tmpfs none {directory} && " for directory in mounts)
    return run("unshare", "--mount", "sh", "-c", script + 'exec "$@"', "sh", *command)


def man_page(tool):
    """The text of a manual page, without what only says how it looks."""
    source = (SOURCES / "man" / f"{tool}.1").read_text()
    source = re.sub(r"\\f[A-Z]|\\f\[[A-Z]*\]", "", source).replace("\\-", "-")
    return re.sub(r"^\.[A-Z]+ ", "", source, flags=re.M)


def keys(document):
    """All keys in a JSON document."""
    if isinstance(document, list):
        return set().union(*map(keys, document))
    if isinstance(document, dict):
        return set(document).union(*map(keys, document.values()))
    return set()


class ToolTest(unittest.TestCase):
    """Tests of one tool, whose name is in TOOL."""

    TOOL = ""

    def tool(self, *arguments, **options):
        return run(self.TOOL, *arguments, **options)

    def fine(self, *arguments, **options):
        """It works, and complains of nothing. Returns its output."""
        ended = self.tool(*arguments, **options)
        self.assertEqual((0, ""), (ended.status, ended.err), ended)
        return ended.out

    def document(self, ended):
        """What a tool says in JSON, and nothing that its manual page does not have."""
        document = json.loads(ended.out)
        page = man_page(self.TOOL)
        for key in keys(document):
            self.assertRegex(page, rf"\b{key}\b", "undocumented")
        return document

    def refused(self, status, sentence, *arguments, **options):
        """It ends with this status and a line that has this in it, on stderr only."""
        ended = self.tool(*arguments, **options)
        self.assertEqual(status, ended.status, ended)
        self.assertIn(sentence, ended.err)
        self.assertTrue(ended.err.startswith(f"{self.TOOL}: "), ended)
        self.assertEqual(1, ended.err.count("\n"), ended)
        self.assertEqual("", ended.out)
