"""The notebooks are the source: they keep to what tools and readers need."""

import ast
import json
import subprocess
import sys

import pytest
from conftest import PROJECT

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


@pytest.mark.parametrize("path", [path for path in NOTEBOOKS if path not in PAPER], ids=name)
def test_export_cells_are_short(path):
    for source in cells(path):
        if source.startswith("#| export"):
            assert source.count("\n") <= 60, source.splitlines()[1]


def test_modules_import_only_what_comes_before_them():
    order = (
        "files capture memory alignment layers heads palette synthetic images pairs folders store protocols data datasets prepare "
        "encoder attention decoder generator discriminator backbones pretrained recognition embedders losses methods "
        "verification evaluation training explain figures experiments reproduction cli explorer"
    ).split()
    for path in sorted((PROJECT / "aggan").rglob("*.py")):
        module = path.relative_to(PROJECT / "aggan").with_suffix("").parts[0]
        if module not in order:
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            for target in imported_modules(node, path.parent.name):
                assert target in order and order.index(target) <= order.index(module), (
                    f"{path.name} imports {target}"
                )


def imported_modules(node, folder):
    """The modules of the package that an import statement of a file in `folder` names."""
    if isinstance(node, ast.ImportFrom) and node.level == 1 and folder in ("methods", "datasets"):
        return [folder]  # a method builds on another one, or on its blocks
    if isinstance(node, ast.ImportFrom) and node.level:
        return [node.module.split(".")[0]] if node.module else []
    if isinstance(node, ast.ImportFrom) and node.module.startswith("aggan."):
        return [node.module.split(".")[1]]
    return []


def test_package_imports_without_the_slow_libraries():
    slow = (
        "facenet_pytorch",
        "onnx",
        "onnxruntime",
        "matplotlib",
        "IPython",
        "captum",
        "torchmetrics",
        "lightning_fabric",
        "sklearn",
        "scipy",
    )
    for module, allowed in (
        ("aggan.experiments", ("pandas",)),
        ("aggan.reproduction.command_line", ()),
    ):
        code = f"import sys, {module}; print([name for name in {(*slow, 'pandas')} if name in sys.modules and name not in {allowed}])"
        assert (
            subprocess.run(
                [sys.executable, "-c", code], capture_output=True, text=True, check=True
            ).stdout.strip()
            == "[]"
        )
    code = "import sys, aggan.reproduction.command_line; print('torch' in sys.modules)"  # so that a mistyped option is answered at once
    assert (
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        ).stdout.strip()
        == "False"
    )


def test_cleaning_changes_nothing(tmp_path):
    from execnb.nbio import read_nb
    from nbdev.clean import clean_nb

    for path in NOTEBOOKS:
        notebook = read_nb(path)
        before = json.dumps(notebook, sort_keys=True)
        clean_nb(notebook, allowed_cell_metadata_keys=["tags"])
        assert json.dumps(notebook, sort_keys=True) == before, f"run nbdev_clean on {name(path)}"
