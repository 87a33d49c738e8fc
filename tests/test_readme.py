"""The README shows what is in the repository, and names commands that there are."""

import re
import runpy
import shlex

import pandas as pd
import pytest
from conftest import PROJECT

from aggan.reproduction.command_line import parser

README = (PROJECT / "README.md").read_text(encoding="utf-8")


def test_table_is_the_committed_one():
    assert (PROJECT / "figures" / "demo" / "table.md").read_text(encoding="utf-8").strip() in README


@pytest.mark.parametrize("number", [1, 2])
def test_ten_methods_have_the_committed_figures(number):
    committed = pd.read_csv(PROJECT / "figures" / f"table{number}" / "table.csv").set_index(
        "method"
    )["auc"]
    committed = committed.rename(
        {"thermal, untranslated": "untranslated", "visible, upper bound": "visible"}
    )
    head = next(line for line in README.splitlines() if line.startswith("| | untranslated"))
    line = next(line for line in README.splitlines() if line.startswith(f"| Table {number},"))
    shown = {
        name.strip(): float(value)
        for name, value in list(zip(head.split("|"), line.split("|")))[2:-1]
        if value.strip()
    }
    assert shown.keys() == set(committed.index)
    assert all(abs(shown[name] - committed[name]) < 0.0501 for name in shown)


def test_claims_are_the_committed_ones():
    rows = re.findall(
        r"^\| \[(\d)\]\(figures/figure\d/table.md\) \| .+? \| (\S+) \[(\S+), (\S+)\] \| \S+ \S+ \| (.+?) \|$",
        README,
        re.M,
    )
    assert len(rows) == 15
    for figure, *numbers, verdict in rows:
        claims = pd.read_csv(PROJECT / "figures" / f"figure{figure}" / "table.csv")
        found = claims[["value", "low", "high"]].map("{:.2f}".format).eq(numbers).all(axis=1) & (
            claims["verdict"] == verdict
        )
        assert found.any(), (figure, numbers, verdict)


def test_linked_files_exist():
    for target in re.findall(r"\]\(([^)#:]+)\)", README):
        assert (PROJECT / target).is_file(), f"{target}: JupyterLab cannot open a folder by a link"


def test_make_targets_and_commands_exist():
    makefile = (PROJECT / "Makefile").read_text()
    for target in re.findall(r"(?:^|`)make (\w+)", README, re.M):  # as a command, not in prose
        assert re.search(rf"^{target}:", makefile, re.M), target
    for line in re.findall(r"^aggan (.+)$", README.replace("\\\n", " "), re.M):
        parser().parse_args(shlex.split(line, comments=True))


def test_it_is_made_from_the_front_page():
    made = runpy.run_path(str(PROJECT / "docs" / "readme.py"))["readme"]()
    assert README == made, (
        "README.md and nbs/index.ipynb differ: change the notebook, then `make readme`"
    )
