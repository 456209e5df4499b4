# SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
"""What the checks of manual pages share."""

import shutil
import subprocess


def check_rendering(directory):
    """What groff has to say about the pages in a directory; not every machine has it."""
    complaints = []
    for file in sorted(directory.iterdir()):
        if file.read_text().startswith(".so ") or not shutil.which("groff"):
            continue
        result = subprocess.run(["groff", "-man", "-t", "-Tutf8", "-ww", file],
                                capture_output=True, text=True, check=False)
        if result.stderr:
            complaints.append(result.stderr)
    return complaints
