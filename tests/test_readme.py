"""The README shows what is in the repository, and names commands that there are."""
import re

from conftest import PROJECT

from aggan.cli import parser

README = (PROJECT / "README.md").read_text(encoding="utf-8")


def test_table_is_the_committed_one():
    assert (PROJECT / "figures" / "demo" / "table.md").read_text(encoding="utf-8").strip() in README


def test_linked_files_exist():
    for target in re.findall(r"\]\(([^)#:]+)\)", README):
        assert (PROJECT / target).exists(), target


def test_make_targets_and_commands_exist():
    makefile = (PROJECT / "Makefile").read_text()
    for target in re.findall(r"make (\w+)", README):
        assert re.search(rf"^{target}:", makefile, re.M), target
    for line in re.findall(r"^aggan (.+?)(?:\s+#.*)?$", README, re.M):
        parser().parse_args(line.split())
