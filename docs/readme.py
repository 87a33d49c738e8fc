"""Writes README.md from nbs/index.ipynb, with links relative to the project. `make readme`."""

import json
import posixpath
import re
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]
NOTE = "<!-- Made from nbs/index.ipynb by `make readme`: change it there. -->"


def from_project(match: re.Match) -> str:
    """A link of a notebook in nbs/, rewritten relative to the project."""
    target = match[1]
    return (
        match[0]
        if re.match(r"\w+:|#", target)
        else f"]({posixpath.normpath(posixpath.join('nbs', target))})"
    )


def readme() -> str:
    """The text of README.md, without outputs and cells that begin with `#| hide`."""
    parts = [NOTE]
    for cell in json.loads((PROJECT / "nbs" / "index.ipynb").read_text(encoding="utf-8"))["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            parts.append(re.sub(r"\]\(([^)]+)\)", from_project, source))
        elif not source.startswith("#| hide"):
            parts.append(f"```python\n{source}\n```")
    return "\n\n".join(parts) + "\n"


if __name__ == "__main__":
    (PROJECT / "README.md").write_text(readme(), encoding="utf-8")
