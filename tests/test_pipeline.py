"""The main job from end to end: reproduce, train, evaluate, translate."""

import json
import sys

import nbformat
import numpy as np
import pandas as pd
import pytest
from conftest import aggan
from PIL import Image

from aggan.reproduction import run_notebook

COLUMNS = ["method", "auc", "auc_low", "auc_high", "eer", "eer_low", "eer_high", "psnr", "ssim"]


def test_demo_writes_what_it_promises(workplace):
    demo = workplace / "runs" / "demo"
    table = pd.read_csv(demo / "table.csv")
    assert list(table.columns) == COLUMNS
    assert list(table["method"]) == [
        "thermal baseline",
        "AG-GAN",
        "AG-GAN+",
        "visible upper bound",
    ]
    assert (
        table[["auc", "auc_low", "auc_high", "eer"]]
        .apply(lambda c: c.between(0, 100))
        .all(axis=None)
    )
    assert ((table["auc_low"] <= table["auc"]) & (table["auc"] <= table["auc_high"])).all()
    assert table["psnr"][:3].notna().all() and table["psnr"][3:].isna().all()
    for name in ("roc", "grid", "attention"):
        with Image.open(demo / f"{name}.png") as picture:
            assert np.asarray(picture.convert("L")).std() > 5, f"{name}.png is blank"
        assert (demo / f"{name}.pdf").read_bytes().startswith(b"%PDF")


def test_run_folder_holds_its_record(run_folder):
    config = json.loads((run_folder / "config.json").read_text())
    assert (
        config["method"] == "ag-gan"
        and config["profile"]["steps"] == 6
        and set(config["data"]) == {"train", "val", "test"}
    )
    rows = [json.loads(line) for line in (run_folder / "metrics.jsonl").read_text().splitlines()]
    assert rows[-1]["step"] == 6 and {
        "pixel",
        "cam",
        "identity",
        "adversarial",
        "discriminator",
        "val_eer",
    } <= set(rows[-1])
    report = json.loads((run_folder / "report.json").read_text())
    assert report["checkpoint"] in (3, 6) and report["chosen_by"] == "validation EER"
    assert len(list((run_folder / "checkpoints").glob("*.safetensors"))) == 2
    assert len(list((run_folder / "samples").glob("*.png"))) == 2
    notebook = json.loads((run_folder / "train.ipynb").read_text())
    assert notebook["metadata"]["papermill"]["parameters"]["profile"] == "smoke"


def test_nothing_is_done_twice(workplace):
    before = {
        path: path.stat().st_mtime_ns for path in (workplace / "runs").rglob("*") if path.is_file()
    }
    aggan("reproduce", "demo", "--profile", "smoke", cwd=workplace)
    assert before == {
        path: path.stat().st_mtime_ns for path in (workplace / "runs").rglob("*") if path.is_file()
    }


@pytest.mark.parametrize(
    "target, rows", [("table1", 7), ("table2", 9), ("table3", 4), ("table4", 3)]
)
def test_tables_stand_beside_the_papers_numbers(workplace, target, rows):
    aggan("reproduce", target, "--profile", "smoke", "--jobs", 2, cwd=workplace)
    table = pd.read_csv(workplace / "runs" / target / "table.csv")
    assert len(table) == rows + 2  # and the two reference rows
    assert (table["status"] == "run").all() and table["auc"].between(0, 100).all()
    assert table["paper_auc"].notna().sum() == rows
    text = (workplace / "runs" / target / "table.md").read_text()
    assert "AUC (paper)" in text and "not run" not in text
    if target in ("table1", "table2"):
        assert (
            table["parameters"].notna() & (table["step_seconds"] > 0) & (table["steps"] == 6)
        ).sum() == rows


def test_figures_have_verdicts_on_the_papers_claims(workplace):
    targets = [f"figure{number}" for number in range(2, 10)]
    aggan("reproduce", *targets, "--profile", "smoke", "--jobs", 2, cwd=workplace)
    for target in targets:
        folder = workplace / "runs" / target
        claims = pd.read_csv(folder / "table.csv")
        assert (
            len(claims) > 1
            and set(claims["verdict"]) <= {"supported", "not supported", "inconclusive"}
            and claims["data"].str.startswith("synthetic faces").all()
        )
        assert claims["value"].notna().any() and "verdict" in (folder / "table.md").read_text()
        with Image.open(next(folder.glob("*.png"))) as picture:
            assert np.asarray(picture.convert("L")).std() > 5, f"{target} is blank"
    report = json.loads(
        next(
            (workplace / "runs" / "synthetic-arl" / "ag-gan").glob("*/explanation.json")
        ).read_text()
    )
    assert (
        report["maps"]["uniform"]["gini"]["value"] < 1e-9
        and report["matcher"] == "synthetic-matcher"
    )


def test_explain_measures_the_maps(workplace, run_folder, tmp_path):
    said = aggan(
        "explain",
        "--weights",
        run_folder,
        "--profile",
        "smoke",
        "--output",
        tmp_path / "out",
        cwd=workplace,
    ).stdout
    report = json.loads((tmp_path / "out" / "explanation.json").read_text())
    assert (
        set(report["maps"]) == {"generator", "discriminator", "edges", "uniform"}
        and report["subjects"] == 6
    )
    assert "region skin" in said and (tmp_path / "out" / "overlays.png").stat().st_size > 5000


def test_ablations_are_different_runs(workplace):
    aggan("reproduce", "table3", "table4", "--profile", "smoke", cwd=workplace)
    configs = [
        json.loads(path.read_text())["method_kwargs"]
        for path in (workplace / "runs" / "synthetic-arl" / "ag-gan").glob("*/config.json")
    ]
    switches = {
        (c.get("gcam", True), c.get("dcam", True), c.get("identity", "synthetic-arcface"))
        for c in configs
    }
    assert switches == {
        (True, True, "synthetic-arcface"),
        (True, False, "synthetic-arcface"),
        (False, True, "synthetic-arcface"),
        (False, False, "synthetic-arcface"),
        (True, True, "none"),
        (True, True, "synthetic-mobilefacenet"),
    }


def test_translate_needs_no_partners(workplace, run_folder, tmp_path):
    thermal = tmp_path / "thermal" / "deep"
    thermal.mkdir(parents=True)
    for name, mode in (("a", "L"), ("b", "RGB")):
        Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 40), np.uint8)).convert(
            mode
        ).save(thermal / f"{name}.png")
    Image.fromarray(np.random.default_rng(0).integers(0, 60000, (40, 40), np.uint16)).save(
        thermal / "c.png"
    )
    command = (
        "translate",
        "--weights",
        run_folder,
        "--input",
        tmp_path / "thermal",
        "--output",
        tmp_path / "out",
    )
    assert "3 images" in aggan(*command, cwd=workplace).stdout
    faces = sorted((tmp_path / "out" / "deep").glob("*.png"))
    assert [face.name for face in faces] == ["a.png", "b.png", "c.png"]
    with Image.open(faces[0]) as face:
        assert face.size == (32, 32) and face.mode == "RGB"
    faces[1].unlink()
    assert "1 images" in aggan(*command, cwd=workplace).stdout  # goes on where it stopped
    said = aggan(*command, "--precision", "bf16-mixed", cwd=workplace, check=False)
    assert said.returncode == 1 and "another precision" in said.stderr
    (thermal / "d.png").write_bytes(
        (thermal / "a.png").read_bytes()[:-200]
    )  # broken: named after the others are done
    said = aggan(
        *command[:-1], tmp_path / "half", "--precision", "bf16-mixed", cwd=workplace, check=False
    )
    assert (
        said.returncode == 1
        and "d.png is truncated" in said.stderr
        and "Traceback" not in said.stderr
    )
    halves = [
        np.asarray(Image.open(tmp_path / "half" / "deep" / face.name), dtype=int) for face in faces
    ]
    assert (
        0
        < max(abs(half - np.asarray(Image.open(face))).max() for half, face in zip(halves, faces))
        < 32
    )


def test_evaluate_gives_the_figures_of_the_report(workplace, run_folder, tmp_path):
    report = json.loads((run_folder / "report.json").read_text())
    said = aggan(
        "evaluate",
        "--weights",
        run_folder,
        "--profile",
        "smoke",
        "--output",
        tmp_path / "out",
        cwd=workplace,
    ).stdout
    assert f"AUC {100 * report['auc']:.2f} %" in said and f"PSNR {report['psnr']:.2f} dB" in said
    assert {path.name for path in (tmp_path / "out").iterdir()} >= {
        "report.json",
        "grid.png",
        "attention.png",
    }


def notebook(path, *sources):
    """A notebook of code cells, the first of them its parameters."""
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    made = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_code_cell(source) for source in sources], metadata=kernel
    )
    made.cells[0].metadata["tags"] = ["parameters"]
    nbformat.write(made, path)
    return path


def test_runner_passes_parameters_and_refuses_unknown_ones(tmp_path):
    template = notebook(
        tmp_path / "t.ipynb", "seed: int = 0\nout: str = ''", "open(out, 'w').write(str(seed))"
    )
    with pytest.raises(ValueError, match="no parameter sead; it has seed, out"):
        run_notebook(template, tmp_path / "o.ipynb", {"sead": 9})
    assert not (tmp_path / "o.ipynb").exists()
    run_notebook(template, tmp_path / "o.ipynb", {"seed": 9, "out": str(tmp_path / "seed.txt")})
    assert (tmp_path / "seed.txt").read_text() == "9"


@pytest.mark.parametrize(
    "source, said",
    [
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "kernel of .* died"),
        ("raise ValueError('no such thing')", "no such thing"),
    ],
)
def test_runner_reports_failures_and_dead_kernels(tmp_path, source, said):
    with pytest.raises(RuntimeError, match=said):
        run_notebook(
            notebook(tmp_path / "t.ipynb", "seed: int = 0", source), tmp_path / "o.ipynb", {}
        )


def test_runner_starts_a_kernel_again_that_died_before_it_ran_anything(tmp_path, monkeypatch):
    kernel = tmp_path / "kernels" / "python3"
    kernel.mkdir(parents=True)
    start = (
        f"import os, sys; started = '{tmp_path}/started'; first = not os.path.exists(started); open(started, 'w'); first and sys.exit(1); "
        "os.execv(sys.executable, [sys.executable, '-m', 'ipykernel_launcher', '-f', sys.argv[1]])"
    )
    (kernel / "kernel.json").write_text(
        json.dumps(
            {
                "argv": [sys.executable, "-c", start, "{connection_file}"],
                "display_name": "Python 3",
                "language": "python",
            }
        )
    )
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path))
    run_notebook(
        notebook(
            tmp_path / "t.ipynb", "seed: int = 0", f"open('{tmp_path}/seen', 'w').write(str(seed))"
        ),
        tmp_path / "out.ipynb",
        {"seed": 3},
    )
    assert (tmp_path / "started").exists() and (tmp_path / "seen").read_text() == "3"
