"""The notebooks are the source: they keep to what tools and readers need."""

import ast
import graphlib
import json
import re
import subprocess
import sys

import pytest
from collapsed import COLLAPSED, is_collapsed
from conftest import PROJECT
from nbdev.config import get_config

NOTEBOOKS = sorted(
    path for path in (PROJECT / "nbs").rglob("*.ipynb") if ".ipynb_checkpoints" not in path.parts
)
PAPER = [path for path in NOTEBOOKS if path.parent.name == "paper"]


def cells(path, kind="code"):
    return [
        "".join(cell["source"])
        for cell in json.loads(path.read_text())["cells"]
        if cell["cell_type"] == kind
    ]


def name(path):
    return str(path.relative_to(PROJECT))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=name)
def test_notebook_is_small_and_has_the_portable_kernel(path):
    notebook = json.loads(path.read_text())
    assert path.stat().st_size < 200_000
    assert notebook["metadata"]["kernelspec"]["name"] == "python3"
    assert not any(
        output["output_type"] == "error"
        for cell in notebook["cells"]
        for output in cell.get("outputs", [])
    )


@pytest.mark.parametrize("path", PAPER, ids=name)
def test_paper_notebook_has_one_parameters_cell_of_plain_types(path):
    tagged = [
        cell
        for cell in json.loads(path.read_text())["cells"]
        if "parameters" in cell["metadata"].get("tags", [])
    ]
    assert len(tagged) == 1
    for line in ast.parse("".join(tagged[0]["source"])).body:
        assert isinstance(line, ast.AnnAssign) and line.annotation.id in (
            "str",
            "int",
            "float",
            "bool",
        )


CORE = (
    "01_data 02_layers 03_encoder 04_attention 05_decoder 06_generator 07_discriminator 08_losses "
    "09_training 10_evaluation 11_explanation"
).split()


def exported(path):
    return [source for source in cells(path) if source.startswith("#| export")]


def test_top_level_is_the_paper():
    top = {path.stem for path in NOTEBOOKS if path.parent.name == "nbs"}
    assert top == {"index", *CORE}


@pytest.mark.parametrize("stem", CORE)
def test_core_notebook_is_short(stem):
    path = PROJECT / "nbs" / f"{stem}.ipynb"
    assert len(json.loads(path.read_text())["cells"]) <= 45
    assert sum(len(source.splitlines()) for source in exported(path)) <= 220


@pytest.mark.parametrize("path", NOTEBOOKS, ids=name)
def test_export_cells_are_short_and_explained(path):
    before = 0  # lines of the export cells directly above
    for cell in json.loads(path.read_text())["cells"]:
        source = "".join(cell["source"])
        lines = len(source.splitlines())
        if cell["cell_type"] != "code" or not source.startswith("#| export"):
            before = 0
            continue
        assert lines <= 40, source.splitlines()[1]
        assert not before or before + lines <= 10, f"no sentence above {source.splitlines()[1]}"
        before += lines


BLOCKS = re.compile(r"^```.*?^```", re.M | re.S)  # commands, which a reader copies
DOCUMENTS = [
    *(PROJECT / f"{name}.md" for name in ("README", "CHANGELOG", "CONTRIBUTING")),
    *(PROJECT / f"{name}/README.md" for name in ("cluster", "data", "figures", "aggan/weights")),
    *(PROJECT / "docs").glob("*.md"),
]


def prose(path):
    "Lines of Markdown that could be broken: no tables, links, formulas or pictures."
    if path.suffix == ".ipynb":
        sources = cells(path, "markdown")
    else:
        sources = [BLOCKS.sub("", path.read_text(encoding="utf-8"))]
    for source in sources:
        for line in source.splitlines():
            if not line.startswith("|") and "](" not in line and "$" not in line:
                yield line


NAMES = re.compile(r"^__all__ = \[.*?\]$", re.M | re.S)  # as nbdev writes them


def test_lines_are_short():
    code = [
        path
        for folder in ("aggan", "tests", "benchmarks")
        for path in (PROJECT / folder).rglob("*.py")
    ]
    lines = [
        line
        for path in code
        if path.name != "_modidx.py"
        for line in NAMES.sub("", path.read_text()).splitlines()
    ]
    lines += [line for path in NOTEBOOKS for source in cells(path) for line in source.splitlines()]
    lengths = sorted(map(len, lines))
    assert lengths[-1] <= 100
    assert lengths[int(0.95 * len(lengths))] <= 96
    for path in NOTEBOOKS + DOCUMENTS:
        assert max(map(len, prose(path)), default=0) <= 100, path


def test_functions_are_short():
    modules = [path for path in (PROJECT / "aggan").rglob("*.py") if path.name != "_modidx.py"]
    found = [
        (node.end_lineno - node.lineno + 1, f"{path.name}: {node.name}")
        for path in modules
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef)
    ]
    longest = [function for function in found if function[0] > 40]
    assert not longest, longest


def imports_of(path, modules):
    """The modules of the package that a file's import statements name, also within functions."""
    package = path.relative_to(PROJECT).parent.parts
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in modules)
        if isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join([*above, *([node.module] if node.module else [])])
            for alias in node.names:
                whole = f"{module}.{alias.name}"
                yield from [target for target in (whole, module) if target in modules][:1]


def test_imports_run_one_way():
    """No module imports one that imports it, by however many steps."""
    modules = {
        ".".join(path.relative_to(PROJECT).with_suffix("").parts).removesuffix(".__init__"): path
        for path in (PROJECT / "aggan").rglob("*.py")
        if path.name != "_modidx.py"
    }
    del modules["aggan"]  # names the version only
    graph = {module: set(imports_of(path, modules)) for module, path in modules.items()}
    assert len(graph) > 50 and sum(map(len, graph.values())) > 100
    graphlib.TopologicalSorter(graph).prepare()  # raises CycleError


SLOW_IMPORTS = (
    "facenet_pytorch onnx onnxruntime matplotlib IPython captum torchmetrics lightning_fabric "
    "sklearn scipy pandas cv2"
).split()


def imported_by(module):
    """Which libraries importing a module brings."""
    code = f"import sys, {module}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_package_imports_without_the_slow_libraries():
    assert imported_by("aggan.experiments") & set(SLOW_IMPORTS) <= {"pandas"}
    # a mistyped option is answered at once
    assert not imported_by("aggan.reproduction.command_line") & {"torch", *SLOW_IMPORTS}


KEPT = get_config().allowed_cell_metadata_keys.split()


@pytest.mark.parametrize("path", NOTEBOOKS, ids=name)
def test_tests_and_imports_are_collapsed(path):
    for cell in json.loads(path.read_text())["cells"]:
        marked = cell["metadata"].get("jupyter")
        expected = COLLAPSED if is_collapsed(cell) else None
        assert marked == expected, "run python tests/collapsed.py"


def test_cleaning_changes_nothing(tmp_path):
    from execnb.nbio import read_nb
    from nbdev.clean import clean_nb

    for path in NOTEBOOKS:
        notebook = read_nb(path)
        before = json.dumps(notebook, sort_keys=True)
        clean_nb(notebook, allowed_cell_metadata_keys=KEPT)
        assert json.dumps(notebook, sort_keys=True) == before, f"run nbdev_clean on {name(path)}"
