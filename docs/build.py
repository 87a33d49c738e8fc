"""Builds the documentation site from the notebooks and figures. `make docs`.

Nothing is executed or downloaded. Sphinx reads `_proc/pages`: its root is `nbs/`, so that the
address of a notebook is its path; files of other folders (`figures/`, `data/`, …) that pages link
to are copied beside. Relative links are rewritten from the project's layout to the site's.
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
import options

PROJECT = Path(__file__).resolve().parents[1]
NBS, FIGURES = PROJECT / "nbs", PROJECT / "figures"
WORK, SITE = PROJECT / "_proc", PROJECT / "_docs"
PAGES = WORK / "pages"
PAGES_OF = {  # Markdown files that are pages of their own
    "README.md": "/index.ipynb",
    "docs/benchmarks.md": "/benchmarks.md",
    "docs/glossary.md": "/glossary.md",
    "docs/gpu.md": "/gpu.md",
    "docs/install.md": "/install.md",
    "docs/judge.md": "/judge.md",
    "docs/licences.md": "/licences.md",
    "docs/robustness.md": "/robustness.md",
    "CONTRIBUTING.md": "/contributing.md",
}
SECTIONS = {
    "tutorials": ("Tutorials", "Interactive notebooks for JupyterLab: `make lab`."),
    "core": (
        "The paper, module by module",
        "Eleven notebooks in the paper's order, each with equations, code, pictures and tests.",
    ),
    "data": ("Data", "Reading, aligning and storing thermal-visible pairs; each data set."),
    "synthetic": ("Synthetic faces", "The renderer of registered thermal-visible pairs."),
    "recognition": ("Face recognition", "Alignment, embedders, verification, face parsing."),
    "methods": ("Methods", "One notebook for each method that is compared, and what they share."),
    "commands": ("Command line", "Flags from signatures, and what each command does."),
    "experiments": ("Experiments", "Sizes, run folders, inference, figures, the explorer."),
    "reproduction": ("Reproduction", "From runs to the paper's tables, figures and claims."),
    "runtime": ("Runtime", "Files, memory, CUDA graphs, several processes."),
    "paper": (
        "Tables and figures as notebooks",
        "Templates that `aggan reproduce` executes, with the outputs of the kept run.",
    ),
}


def notebooks(section: str) -> list[Path]:
    """The notebooks of a section in order; the core ones are those of `nbs/` itself."""
    found = NBS.glob("[0-9]*.ipynb") if section == "core" else (NBS / section).glob("*.ipynb")
    return sorted(
        found, key=lambda path: (not re.match(r"\d|the-paper|results", path.stem), path.stem)
    )


def text_of(cell: dict) -> str:
    return "".join(cell["source"])


def heading(path: Path) -> tuple[str, str]:
    """Title and one-line summary of a notebook."""
    text = next(
        text_of(cell)
        for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]
        if cell["cell_type"] == "markdown"
    )
    about = re.search(r"^> (.+?)\n(?!>)", text + "\n\n", re.M | re.S)
    return re.search(r"^# (.+)$", text, re.M)[1], about[1].replace("\n> ", " ") if about else ""


def address(target: Path) -> str:
    """Address of a project file on the site; a file without a page of its own is copied."""
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
    """Markdown of a project file with its relative links rewritten for the site.

    Raises FileNotFoundError for a link to a folder or a missing file.
    """

    def link(match):
        target, _, anchor = match[1].partition("#")
        if not target or re.match(r"\w+:|/", target):
            return match[0]
        place = (origin.parent / target).resolve()
        # results of benchmarks are linked before they are measured
        if not place.is_file() and place.parent != FIGURES / "benchmarks":
            raise FileNotFoundError(
                f"{origin.relative_to(PROJECT)} links to {target}, which is not a file"
            )
        return f"]({address(place)}{'#' * bool(anchor)}{anchor})"

    return re.sub(r"\]\(([^)\s]+)\)", link, text)


def shown(cell: dict, origin: Path) -> dict | None:
    """A notebook cell without nbdev's directives, folded if hidden; None for nbdev's own cells."""
    if cell["cell_type"] == "markdown":
        return cell | {"source": relinked(text_of(cell), origin)}
    source = text_of(cell)
    if source.startswith("#| default_exp") or "nbdev_export()" in source:
        return None
    tags = cell["metadata"].get("tags", []) + ["hide-cell"] * ("jupyter" in cell["metadata"])
    outputs = [output for output in cell["outputs"] if output.get("name") != "stderr"]
    for output in outputs:
        if table := output.get("data", {}).get("text/markdown"):
            output["data"]["text/markdown"] = unbroken("".join(table))
    return cell | {
        "source": re.sub(r"^#\|.*\n?", "", source, flags=re.M),
        "metadata": {"tags": tags},
        "outputs": outputs,
    }


def kept(name: str) -> str:
    """Links to the files of a kept result, with its provenance."""
    folder = FIGURES / name
    if not folder.is_dir():
        return ""
    files = [
        f"[{path.name}]({address(path)})"
        for path in sorted(folder.iterdir())
        if path.suffix in (".pdf", ".png", ".csv")
    ]
    return f"## Files of this run\n\n{', '.join(files)}\n\n{provenance(folder)}"


def unbroken(table: str) -> str:
    """A Markdown table with no line break inside an interval."""
    return re.sub(r"\[(\S+), (\S+)\]", "[\\1,\u00a0\\2]", table)


def provenance(folder: Path) -> str:
    """Data, profile, commit and machine in one line."""
    record = json.loads((folder / "provenance.json").read_text())
    facts = record["data"], f"profile {record['profile']}", f"commit {record['commit']}"
    return f"*{'; '.join((*facts, record['machine']))}.*"


def write(place: str, text: str) -> None:
    path = PAGES / place
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def write_notebook(path: Path, *added: str) -> None:
    """Write the page of a notebook, with Markdown cells added at its end."""
    notebook = json.loads(path.read_text(encoding="utf-8"))
    cells = [made for cell in notebook["cells"] if (made := shown(cell, path))]
    notebook["cells"] = cells + [new_markdown_cell(text) for text in added if text]
    notebook["metadata"] = {
        "kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"},
        "language_info": {"name": "python", "pygments_lexer": "ipython3"},
    }
    write(str(path.relative_to(NBS)), json.dumps(notebook))


def contents(entries: list[str], caption: str = "", depth: int = 1, hidden: bool = True) -> str:
    """A toctree, which appears in the sidebar."""
    options = [
        f":maxdepth: {depth}",
        *[":hidden:"] * hidden,
        *[f":caption: {caption}"] * bool(caption),
    ]
    return "\n".join(["```{toctree}", *options, "", *entries, "```"])


def write_section(name: str) -> None:
    """Write the pages of a section's notebooks, and an index page with their summaries."""
    rows = []
    for path in notebooks(name):
        write_notebook(path, kept(path.stem) if name == "paper" else "")
        title, about = heading(path)
        rows.append(f"| [{title}](/{path.relative_to(NBS)}) | {about} |")
    title, about = SECTIONS[name]
    entries = [f"/{path.relative_to(NBS).with_suffix('')}" for path in notebooks(name)]
    head = f"# {title}\n\n{about}\n\n| notebook | |\n|---|---|"
    write(f"{name}/index.md", "\n".join([head, *rows, "", contents(entries)]))


def write_results() -> None:
    """Write the gallery of figures and the page of tables, with captions and provenance."""
    for page, title, pattern in (("gallery", "Figures", "figure*"), ("tables", "Tables", "table*")):
        parts = [
            f"# {title}",
            "Regenerated by the notebooks under [Tables and figures](/paper/index.md). "
            "Everything here comes from **synthetic** faces unless its last line says otherwise.",
        ]
        for folder in sorted(FIGURES.glob(pattern)):
            name, about = heading(NBS / "paper" / f"{folder.name}.ipynb")
            notebook = f"/paper/{folder.name}.ipynb"
            pictures = sorted(folder.glob("*.png")) if page == "gallery" else []
            parts += [f"## {name}", about]
            parts += [f"[![{name}]({address(path)})]({notebook})" for path in pictures]
            texts = [folder / name for name in ("table.md", "statistics.md")]
            parts += [unbroken(text.read_text(encoding="utf-8")) for text in texts if text.exists()]
            parts.append(f"{provenance(folder)} [Notebook]({notebook})")
        write(f"{page}.md", "\n\n".join(parts))


def write_benchmarks() -> None:
    """Write `docs/benchmarks.md`, followed by every kept result with its machine."""
    prose = PROJECT / "docs" / "benchmarks.md"
    parts = [relinked(prose.read_text(encoding="utf-8"), prose)]
    for path in sorted((FIGURES / "benchmarks").glob("*.md")):
        pictures = [
            f"![{path.stem}]({address(picture)})"
            for picture in sorted((FIGURES / "benchmarks").glob(f"{path.stem}*.png"))
        ]
        parts += [f"## {path.stem}", path.read_text(encoding="utf-8"), *pictures]
        if (record := path.with_suffix(".json")).exists():
            machine = json.loads(record.read_text())["machine"]
            facts = [f"{key} {value}" for key, value in machine.items()]
            parts.append(f"*{', '.join(facts)}.*")
    write("benchmarks.md", "\n\n".join(parts))


def write_api() -> None:
    """Write a page for each module."""
    for name, path in api.modules().items():
        write(f"api/{name}.md", api.page(name, path))
    write(
        "api/index.md",
        "# API\n\nEvery public name with its parameters, read from the exported modules.\n\n"
        + contents(list(api.modules()), hidden=False),
    )


def write_pages() -> None:
    """Write all pages that Sphinx reads."""
    shutil.rmtree(WORK, ignore_errors=True)
    PAGES.mkdir(parents=True)
    for page in (
        "data/README.md",
        "aggan/weights/README.md",
        "aggan/weights/models/README.md",
        "cluster/README.md",
        "docs/glossary.md",
        "docs/gpu.md",
        "docs/install.md",
        "docs/judge.md",
        "docs/robustness.md",
        "docs/licences.md",
        "CONTRIBUTING.md",
    ):
        text = relinked((PROJECT / page).read_text(encoding="utf-8"), PROJECT / page)
        write(address(PROJECT / page).lstrip("/"), text)
    for name in SECTIONS:
        write_section(name)
    write_results()
    write_benchmarks()
    write_api()
    write("options.md", options.page())
    write_notebook(
        NBS / "index.ipynb",
        contents(
            ["install", "Use a model <tutorials/use-a-model>", "judge", "options", "glossary"],
            "Use",
        ),
        contents(["tutorials/index", "core/index"], "Read"),
        contents(["gallery", "tables", "paper/index", "benchmarks"], "Results"),
        contents(
            [
                "data/index",
                "Data sets: availability <data/README>",
                "Weights in the package <aggan/weights/README>",
                "Model card of AG-GAN and AG-GAN+ <aggan/weights/models/README>",
                "synthetic/index",
                "recognition/index",
                "methods/index",
                "experiments/index",
                "commands/index",
                "reproduction/index",
                "runtime/index",
                "gpu",
                "Clusters <cluster/README>",
                "api/index",
                "Robustness <robustness>",
                "Licences of the dependencies <licences>",
                "contributing",
            ],
            "Reference",
        ),
    )


def build() -> None:
    """Write the pages and build them with Sphinx; a warning is an error."""
    write_pages()
    sphinx = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q"]
    folders = ["-c", PROJECT / "docs", "-d", WORK / "doctrees", PAGES, WORK / "site"]
    subprocess.run(sphinx + folders, check=True)
    shutil.rmtree(SITE, ignore_errors=True)
    (WORK / "site").rename(SITE)


if __name__ == "__main__":
    build()
