"""The text that is saved in the notebooks is what their code prints."""

import pytest
from conftest import PROJECT
from notebook_outputs import differences, same, text_of

# Notebooks that take longer than 20 seconds on one core.
SLOW = {
    *("07_discriminator", "08_losses", "09_training", "methods/u-gat-it", "synthetic/rendering"),
    *(f"experiments/{name}" for name in ("explorer", "inference", "map_report", "runs")),
    *("experiments/judging", "experiments/matching", "recognition/comparison"),
    *(f"recognition/{name}" for name in ("embedders", "pretrained", "synthetic_recognisers")),
    *(f"reproduction/{name}" for name in ("maps", "notebooks", "pictures", "tables")),
    *(f"tutorials/{path.stem}" for path in (PROJECT / "nbs" / "tutorials").glob("*.ipynb")),
}
NOTEBOOKS = sorted(
    path
    for path in (PROJECT / "nbs").rglob("*.ipynb")
    if ".ipynb_checkpoints" not in path.parts and path.parent.name != "paper"
)


def marked(path):
    name = path.relative_to(PROJECT / "nbs").with_suffix("").as_posix()
    return pytest.param(path, id=name, marks=[pytest.mark.soak] if name in SLOW else [])


@pytest.mark.parametrize("path", [marked(path) for path in NOTEBOOKS])
def test_saved_text_is_what_the_code_prints(path):
    stale = differences(path)
    assert not stale, "\n".join(stale)


def printed(text):
    return {"outputs": [{"output_type": "stream", "name": "stdout", "text": text}]}


@pytest.mark.parametrize(
    ("saved", "made", "alike"),
    [
        ("5 targets", "13 targets", False),
        ("AUC 96.4", "AUC 96.5", True),
        ("AUC 96.4", "AUC 81.2", False),
        ("took 3.1 s", "took 40 s", True),
        ("/tmp/a1 written", "/tmp/b2 written", True),
        ("rows: a b", "rows: a", False),
        ("a line", "", False),
    ],
)
def test_stale_text_is_found(saved, made, alike):
    assert same(text_of(printed(saved)), text_of(printed(made))) == alike


def test_numbers_of_a_cell_that_follows_rounding_may_differ_but_not_its_words():
    assert same("AUC 96.4", "AUC 81.2", rounding=True)
    assert not same("AUC 96.4", "EER 96.4", rounding=True)


if __name__ == "__main__":  # a pattern of the notebooks that are not executed here, for nbdev_test
    print("|".join(f"^{name.rpartition('/')[2]}\\.ipynb$" for name in sorted(SLOW)))
