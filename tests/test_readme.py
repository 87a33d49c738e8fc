"""The README shows what is in the repository, and names commands that there are."""

import json
import re
import runpy
import shlex

import pytest
from conftest import PROJECT

from aggan.commands.parsing import parse
from aggan.reproduction.command_line import COMMANDS, groups_of

README = (PROJECT / "README.md").read_text(encoding="utf-8")


def test_table_is_the_committed_one():
    assert (PROJECT / "figures" / "demo" / "table.md").read_text(encoding="utf-8").strip() in README


def test_difference_is_the_committed_one():
    statistics = (PROJECT / "figures" / "table1" / "statistics.md").read_text(encoding="utf-8")
    rows = [list(map(str.strip, line.split("|"))) for line in statistics.splitlines()]
    cells = {row[1]: row for row in rows if len(row) > 3}
    to_above, p = cells["AG-GAN+"][-5], float(cells["AG-GAN"][-2])
    sentence = f"AUC of AG-GAN+ differs from AG-GAN's by {to_above} points, p {p:.2f}:"
    assert cells["AG-GAN+"][2] == "3" and sentence in " ".join(README.split())


def test_it_is_short():
    assert len(README.split()) <= 1200


MAP = README[README.index("## From the paper to code") :].split("\n## ")[0]
ROWS = [line for line in MAP.splitlines() if line.startswith("| ")][1:]  # below the heads


def numbers(kind):
    """The numbers of equations, tables or figures that the rows name; ranges are filled."""
    found = set()
    for row in ROWS:
        for named in re.findall(rf"{kind} ([\d, -]+)", row.split("|")[1]):
            for part in re.findall(r"(\d+)(?:-(\d+))?", named):
                first, last = int(part[0]), int(part[1] or part[0])
                found |= set(range(first, last + 1))
    return found


def test_map_has_every_equation_table_and_figure():
    assert numbers("Eq\\.") == set(range(1, 15))
    assert numbers("Table") == set(range(1, 5))
    assert numbers("Figure") == set(range(1, 10))
    assert README.index("## From the paper to code") < len(README) / 2


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.split("|")[1].strip())
def test_row_leads_to_a_notebook_with_a_picture(row):
    paths = re.findall(r"\]\((nbs/[^)]+\.ipynb)\)", row)
    assert paths
    cells = json.loads((PROJECT / paths[0]).read_text())["cells"]
    kinds = {
        kind
        for cell in cells
        for output in cell.get("outputs", [])
        for kind in output.get("data", {})
    }
    assert kinds & {"image/png", "image/jpeg", "image/svg+xml"}, paths[0]


def test_linked_files_exist():
    targets = re.findall(r"\]\(([^)#:]+)\)", README)
    assert len(targets) >= len(ROWS)
    for target in targets:
        assert (PROJECT / target).is_file(), f"{target}: JupyterLab cannot open a folder by a link"


def test_make_targets_and_commands_exist():
    makefile = (PROJECT / "Makefile").read_text()
    targets = re.findall(r"(?:^|`)make (\w+)", README, re.M)  # as a command, not in prose
    commands = re.findall(r"^aggan (.+)$", README.replace("\\\n", " "), re.M)
    assert len(targets) >= 2 and len(commands) >= 4
    for target in targets:
        assert re.search(rf"^{target}:", makefile, re.M), target
    for line in commands:
        name, *arguments = shlex.split(line, comments=True)
        method = arguments.pop(0) if name == "train" else None
        parse(groups_of(COMMANDS[name], arguments, method), arguments, f"aggan {name}")


def test_it_is_made_from_the_front_page():
    made = runpy.run_path(str(PROJECT / "docs" / "readme.py"))["readme"]()
    assert README == made, (
        "README.md and nbs/index.ipynb differ: change the notebook, then `make readme`"
    )
