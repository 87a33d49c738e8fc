"""Execute a notebook as nbdev_test does and compare the text that it prints with the saved text.

Numbers may differ by two percent, since other processors round differently. In a cell marked
`#| rounding` they may differ at will: what a training made of that rounding is no longer near.
Not compared are times, paths of temporary folders, progress bars, pictures, and cells that were
skipped for want of data.
"""

import copy
import math
import os
import re
from pathlib import Path

import pandas as pd
import torch
from execnb.shell import CaptureShell
from fastcore.xtras import working_directory
from nbdev.config import get_config
from nbdev.frontmatter import FrontmatterProc
from nbdev.process import NBProcessor

FRESH_SEED = 67_280_421_310_721  # of torch's generator in a process that has not seeded it
VARYING = re.compile(
    r"""/tmp/\S+ | 0x[0-9a-f]{6,}                        # temporary folders, addresses
    | \d[\d.,:]*\s*(?:s|ms|µs|us|ns|min|minutes|seconds|it/s|steps?/s|images?/s|MB|MiB|GiB)\b
    """,
    re.X,
)
SHOWN = "image/", "application/vnd.jupyter.widget-view"  # kinds of output that are no text
NUMBER = re.compile(r"[-+]?\d+(?:\.\d+)?(?:e[-+]?\d+)?")


def text_of(cell) -> str:
    """What a cell prints and shows as text; not widgets, nor what goes to standard error."""
    parts = []
    for output in cell.get("outputs", []):
        if output["output_type"] == "stream" and output["name"] == "stdout":
            parts.append("".join(output["text"]))
        elif "data" in output and not any(kind.startswith(SHOWN) for kind in output["data"]):
            parts.append("".join(output["data"].get("text/plain", "")))
    return VARYING.sub("…", "\n".join(parts)).replace("PosixPath(", "Path(")


def same(saved: str, made: str, rounding: bool = False) -> bool:
    """The same words, and numbers within two percent of each other or, if `rounding`, any."""
    if NUMBER.sub("#", saved).split() != NUMBER.sub("#", made).split():
        return False
    if rounding:
        return True
    pairs = zip(NUMBER.findall(saved), NUMBER.findall(made), strict=True)
    return all(math.isclose(float(a), float(b), rel_tol=0.02, abs_tol=0.011) for a, b in pairs)


def differences(path: Path) -> list[str]:
    """One entry for each cell whose saved text is not what it prints. Raises what a cell raises."""
    os.environ["IN_TEST"] = "1"
    notebook = NBProcessor(path, procs=FrontmatterProc, process=True).nb
    saved = [copy.deepcopy(cell) for cell in notebook.cells]

    flags = set(get_config().tst_flags.split())  # marks of cells that need a GPU, or long

    def skipped(cell):
        if cell.cell_type != "code" or "nbdev_export(" in cell.source:
            return True
        directives = getattr(cell, "directives_", None) or {}
        return bool(flags & directives.keys()) or directives.get("eval:") == ["false"]

    torch.manual_seed(FRESH_SEED)
    pd.set_option("display.max_columns", 20)  # as in a notebook, whatever the terminal's width
    with working_directory(path.parent):
        CaptureShell(path).run_all(notebook, exc_stop=True, preproc=skipped)
    found = []
    for before, after in zip(saved, notebook.cells, strict=True):
        if skipped(after):
            continue
        one, other = text_of(before), text_of(after)
        rounding = "rounding" in (getattr(after, "directives_", None) or {})
        if one and "skipped:" not in other and not same(one, other, rounding):
            found.append(f"saved:\n{one}\nnow:\n{other}\nof the cell:\n{after.source}\n")
    return found
