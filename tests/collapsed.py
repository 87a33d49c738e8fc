"""Which cells JupyterLab shows collapsed. `python tests/collapsed.py` marks them."""

import ast
import json
from pathlib import Path

NBS = Path(__file__).resolve().parents[1] / "nbs"
COLLAPSED = {"source_hidden": True}  # JupyterLab's metadata `jupyter` of a cell


def is_collapsed(cell):
    """Whether a cell is a hidden test, or a block of imports."""
    source = "".join(cell["source"])
    if cell["cell_type"] != "code" or not source.strip():
        return False
    return source.startswith("#| hide") or imports_only(source)


def imports_only(source):
    """Whether code does nothing but import names."""
    try:
        statements = ast.parse(source).body
    except SyntaxError:  # a magic of IPython
        return False
    others = [node for node in statements if not isinstance(node, (ast.Import, ast.ImportFrom))]
    return len(others) < len(statements) and all(map(names_exports, others))


def names_exports(node):
    """Whether a statement is `_all_ = [...]`, with which nbdev re-exports imported names."""
    return isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "_all_"


def notebooks():
    """All notebooks of the project."""
    return sorted(path for path in NBS.rglob("*.ipynb") if ".ipynb_checkpoints" not in path.parts)


def mark(path):
    """Mark the collapsed cells of a notebook, and no others."""
    notebook = json.loads(path.read_text(encoding="utf-8"))
    for cell in notebook["cells"]:
        cell["metadata"].pop("jupyter", None)
        if is_collapsed(cell):
            cell["metadata"]["jupyter"] = COLLAPSED
    text = json.dumps(notebook, indent=1, ensure_ascii=False, sort_keys=True) + "\n"
    path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    for path in notebooks():
        mark(path)
