"""Writes docs/licences.md, the licences of the packages that constraints.txt pins. `make lock`."""

from importlib.metadata import metadata
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]
HEAD = """# Licences of the dependencies

What each package that is installed by `make` says of its own licence, in the versions of
`constraints.txt`. The licences of pretrained weights are printed by `aggan weights list`.

| package | version | licence |
|---|---|---|
"""


def licence(package: str) -> str:
    """What the metadata of a package say: an expression, classifiers, or the first line of text."""
    facts = metadata(package)
    classifiers = [
        line.split(" :: ")[-1]
        for line in facts.get_all("Classifier") or []
        if line.startswith("License ::")
    ]
    first_line = (facts.get("License") or "").strip().partition("\n")[0]
    return facts.get("License-Expression") or ", ".join(classifiers) or first_line or "not stated"


def table() -> str:
    """The page in Markdown."""
    lines = (PROJECT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = sorted(
        (line.split("==") for line in lines if "==" in line), key=lambda pin: pin[0].lower()
    )
    rows = (f"| {name} | {version} | {licence(name)} |\n" for name, version in pins)
    return HEAD + "".join(rows)


if __name__ == "__main__":
    (PROJECT / "docs" / "licences.md").write_text(table(), encoding="utf-8")
