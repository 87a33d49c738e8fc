"""The documentation site from the notebooks and figures as they are. `make docs`.

Nothing is executed and nothing is fetched. `_proc/pages` gets what Sphinx reads: `nbs/` is its
root, so that a notebook's address is its path; folders that other pages link to (`figures/`,
`data/`, …) stand beside. Relative links are turned from the project's layout to the site's.
"""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

from nbformat.v4 import new_markdown_cell

sys.path.insert(0, str(Path(__file__).parent))
import api

PROJECT = Path(__file__).resolve().parents[1]
NBS, FIGURES = PROJECT / "nbs", PROJECT / "figures"
WORK, SITE = PROJECT / "_proc", PROJECT / "_docs"
PAGES = WORK / "pages"
PAGES_OF = {  # Markdown files that are pages of their own
    "README.md": "/index.ipynb",
    "docs/benchmarks.md": "/benchmarks.md",
    "docs/glossary.md": "/glossary.md",
    "CONTRIBUTING.md": "/contributing.md",
}
SECTIONS = {
    "tutorials": ("Tutorials", "To walk through in JupyterLab: `make lab`."),
    "core": (
        "The paper, module by module",
        "Eleven notebooks in the paper's order, each with equations, code, pictures and tests.",
    ),
    "data": ("Data", "Reading, aligning and storing thermal-visible pairs; each data set."),
    "synthetic": ("Synthetic faces", "The renderer of registered thermal-visible pairs."),
    "recognition": ("Face recognition", "Alignment, embedders, verification, face parsing."),
    "methods": ("Methods", "One notebook for each method that is compared, and what they share."),
    "experiments": ("Experiments", "Sizes, run folders, inference, figures, the explorer."),
    "reproduction": ("Reproduction", "From runs to the paper's tables, figures and claims."),
    "runtime": ("Runtime", "Files, memory, CUDA graphs, several processes."),
    "paper": (
        "Tables and figures as notebooks",
        "Templates that `aggan reproduce` runs, with the outputs of the run that is kept.",
    ),
}


def notebooks(section: str) -> list[Path]:
    """The notebooks of a section in order; the core ones are those of `nbs/` itself."""
    found = NBS.glob("[0-9]*.ipynb") if section == "core" else (NBS / section).glob("*.ipynb")
    return sorted(found, key=lambda path: (not re.match(r"\d|the-paper", path.stem), path.stem))


def text_of(cell: dict) -> str:
    return "".join(cell["source"])


def heading(path: Path) -> tuple[str, str]:
    """A notebook's title, and the line under it that says what it is about."""
    text = next(
        text_of(cell)
        for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]
        if cell["cell_type"] == "markdown"
    )
    about = re.search(r"^> (.+?)\n(?!>)", text + "\n\n", re.M | re.S)
    return re.search(r"^# (.+)$", text, re.M)[1], about[1].replace("\n> ", " ") if about else ""


def address(target: Path) -> str:
    """Where a file of the project is on the site; one that is no page is copied."""
    inside = target.relative_to(PROJECT)
    if str(inside) in PAGES_OF:
        return PAGES_OF[str(inside)]
    if FIGURES in target.parents and target.suffix == ".md":
        return {"figures": "/gallery.md", "benchmarks": "/benchmarks.md"}.get(
            target.parent.name, f"/paper/{target.parent.name}.ipynb"
        )
    if NBS in target.parents:
        return f"/{target.relative_to(NBS)}"
    (PAGES / inside).parent.mkdir(parents=True, exist_ok=True)
    if not (PAGES / inside).exists():
        shutil.copy(target, PAGES / inside)
    return f"/{inside}"


def relinked(text: str, origin: Path) -> str:
    """Markdown of a file of the project with the site's links.

    Raises FileNotFoundError for a link to a folder or to nothing.
    """

    def link(match):
        target, _, anchor = match[1].partition("#")
        if not target or re.match(r"\w+:|/", target):
            return match[0]
        place = (origin.parent / target).resolve()
        # the page of the benchmarks is there before their results are
        if not place.is_file() and place.parent != FIGURES / "benchmarks":
            raise FileNotFoundError(
                f"{origin.relative_to(PROJECT)} links to {target}, which is no file"
            )
        return f"]({address(place)}{'#' * bool(anchor)}{anchor})"

    return re.sub(r"\]\(([^)\s]+)\)", link, text)


def shown(cell: dict, origin: Path) -> dict | None:
    """A cell of a page without nbdev's directives, hidden cells folded; None for nbdev's own."""
    if cell["cell_type"] == "markdown":
        return cell | {"source": relinked(text_of(cell), origin)}
    source = text_of(cell)
    if source.startswith("#| default_exp") or "nbdev_export()" in source:
        return None
    tags = cell["metadata"].get("tags", []) + ["hide-cell"] * source.startswith("#| hide")
    outputs = [output for output in cell["outputs"] if output.get("name") != "stderr"]
    return cell | {
        "source": re.sub(r"^#\|.*\n?", "", source, flags=re.M),
        "metadata": {"tags": tags},
        "outputs": outputs,
    }


def kept(name: str) -> str:
    """Where the files of the run that is kept are, and what it was made with."""
    folder = FIGURES / name
    if not folder.is_dir():
        return ""
    files = [
        f"[{path.name}]({address(path)})"
        for path in sorted(folder.iterdir())
        if path.suffix in (".pdf", ".png", ".csv")
    ]
    return f"## Files of this run\n\n{', '.join(files)}\n\n{provenance(folder)}"


def kept_table(path: Path) -> str:
    """A kept table; an interval is not broken into two lines."""
    return re.sub(r"\[(\S+), (\S+)\]", "[\\1,\u00a0\\2]", path.read_text(encoding="utf-8"))


def provenance(folder: Path) -> str:
    """Data, profile, commit and machine, in a line."""
    record = json.loads((folder / "provenance.json").read_text())
    facts = record["data"], f"profile {record['profile']}", f"commit {record['commit']}"
    return f"*{'; '.join((*facts, record['machine']))}.*"


def write(place: str, text: str) -> None:
    path = PAGES / place
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def write_notebook(path: Path, *added: str) -> None:
    """The page of a notebook."""
    notebook = json.loads(path.read_text(encoding="utf-8"))
    cells = [made for cell in notebook["cells"] if (made := shown(cell, path))]
    notebook["cells"] = cells + [new_markdown_cell(text) for text in added if text]
    notebook["metadata"] = {
        "kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"},
        "language_info": {"name": "python", "pygments_lexer": "ipython3"},
    }
    write(str(path.relative_to(NBS)), json.dumps(notebook))


def contents(entries: list[str], caption: str = "", depth: int = 1, hidden: bool = True) -> str:
    """A table of contents that the sidebar shows."""
    options = [
        f":maxdepth: {depth}",
        *[":hidden:"] * hidden,
        *[f":caption: {caption}"] * bool(caption),
    ]
    return "\n".join(["```{toctree}", *options, "", *entries, "```"])


def write_section(name: str) -> None:
    """Pages of a section's notebooks, and one that lists them with what each is about."""
    rows = []
    for path in notebooks(name):
        write_notebook(path, kept(path.stem) if name == "paper" else "")
        title, about = heading(path)
        rows.append(f"| [{title}](/{path.relative_to(NBS)}) | {about} |")
    title, about = SECTIONS[name]
    entries = [f"/{path.relative_to(NBS).with_suffix('')}" for path in notebooks(name)]
    write(
        f"{name}/index.md",
        "\n".join(
            [
                f"# {title}",
                "",
                about,
                "",
                "| notebook | |",
                "|---|---|",
                *rows,
                "",
                contents(entries),
            ]
        ),
    )


def write_results() -> None:
    """The gallery of figures and the page of tables, each entry with its caption and provenance."""
    for page, title, pattern in (("gallery", "Figures", "figure*"), ("tables", "Tables", "table*")):
        parts = [
            f"# {title}",
            "Regenerated by the notebooks under [Tables and figures](/paper/index.md). "
            "Everything here comes from **synthetic** faces unless its last line says otherwise.",
        ]
        for folder in sorted(FIGURES.glob(pattern)):
            name, about = heading(NBS / "paper" / f"{folder.name}.ipynb")
            shown = [
                f"[![{name}]({address(path)})](/paper/{folder.name}.ipynb)"
                for path in sorted(folder.glob("*.png"))
            ]
            if page == "tables":
                shown = []
            shown.append(kept_table(folder / "table.md"))
            parts += [
                f"## {name}",
                about,
                *shown,
                f"{provenance(folder)} [How it is made](/paper/{folder.name}.ipynb)",
            ]
        write(f"{page}.md", "\n\n".join(parts))


def write_benchmarks() -> None:
    """`docs/benchmarks.md`, and below it every kept result with its machine."""
    prose = PROJECT / "docs" / "benchmarks.md"
    parts = [relinked(prose.read_text(encoding="utf-8"), prose)]
    for path in sorted((FIGURES / "benchmarks").glob("*.md")):
        pictures = [
            f"![{path.stem}]({address(picture)})"
            for picture in sorted((FIGURES / "benchmarks").glob(f"{path.stem}*.png"))
        ]
        parts += [f"## {path.stem}", path.read_text(encoding="utf-8"), *pictures]
        if (record := path.with_suffix(".json")).exists():
            parts.append(
                "*"
                + ", ".join(
                    f"{key} {value}"
                    for key, value in json.loads(record.read_text())["machine"].items()
                )
                + ".*"
            )
    write("benchmarks.md", "\n\n".join(parts))


def write_api() -> None:
    """A page for each module."""
    for name, path in api.modules().items():
        write(f"api/{name}.md", api.page(name, path))
    write(
        "api/index.md",
        "# API\n\nEvery public name with its parameters, read from the exported modules.\n\n"
        + contents(list(api.modules()), hidden=False),
    )


def write_pages() -> None:
    """All pages that Sphinx reads."""
    shutil.rmtree(WORK, ignore_errors=True)
    PAGES.mkdir(parents=True)
    for page in ("data/README.md", "cluster/README.md", "docs/glossary.md", "CONTRIBUTING.md"):
        text = relinked((PROJECT / page).read_text(encoding="utf-8"), PROJECT / page)
        write(address(PROJECT / page).lstrip("/"), text)
    for name in SECTIONS:
        write_section(name)
    write_results()
    write_benchmarks()
    write_api()
    write_notebook(
        NBS / "index.ipynb",
        contents(["tutorials/index", "core/index"], "Read"),
        contents(["gallery", "tables", "paper/index", "benchmarks"], "Results"),
        contents(
            [
                "data/index",
                "Where data sets are <data/README>",
                "synthetic/index",
                "recognition/index",
                "methods/index",
                "experiments/index",
                "reproduction/index",
                "runtime/index",
                "Clusters <cluster/README>",
                "api/index",
                "glossary",
                "contributing",
            ],
            "Reference",
        ),
    )


def build() -> None:
    """Write the pages and have Sphinx build them; a warning is an error."""
    write_pages()
    subprocess.run(
        [
            sys.executable,
            "-m",
            "sphinx",
            "-W",
            "--keep-going",
            "-q",
            "-c",
            PROJECT / "docs",
            "-d",
            WORK / "doctrees",
            PAGES,
            WORK / "site",
        ],
        check=True,
    )
    shutil.rmtree(SITE, ignore_errors=True)
    (WORK / "site").rename(SITE)


if __name__ == "__main__":
    build()
