"""The command line from end to end: reproduce, train, evaluate, explain, translate."""

import json
import os
import signal
import subprocess
import sys

import nbformat
import numpy as np
import pandas as pd
import pytest
from conftest import AGGAN, PROJECT, aggan
from PIL import Image

from aggan.evaluation import REFERENCES
from aggan.reproduction import notebooks
from aggan.reproduction.notebooks import run_notebook
from aggan.reproduction.printed import RATES
from aggan.reproduction.targets import target_experiments

COLUMNS = ["method", *RATES, "psnr", "ssim"]
TABLES = {"table1": 7, "table2": 9, "table3": 4, "table4": 3}  # rows of the paper
SWITCHES = {  # of AG-GAN in the ablations: G-CAM, D-CAM, teacher
    "table3": {(g, d, "mobilefacenet") for g in (True, False) for d in (True, False)},
    "table4": {(True, True, name) for name in ("none", "synthetic-arcface", "mobilefacenet")},
}


def first(quick, *others):
    """Parameters of a test, of which all but the first are slow proofs."""
    return [quick, *(pytest.param(other, marks=pytest.mark.soak) for other in others)]


def read_json(path):
    return json.loads(path.read_text())


def assert_not_blank(path):
    with Image.open(path) as picture:
        assert np.asarray(picture.convert("L")).std() > 5, f"{path} is blank"


def assert_scores_are_those_of_the_reports(table, runs):
    """Every AUC and EER, in percent, is that of a report in a run folder."""
    reports = [read_json(path) for path in runs.glob("*/*/*/report.json")]
    known = np.array([[100 * report["auc"], 100 * report["eer"]] for report in reports])
    for row in table[["auc", "eer"]].to_numpy():
        assert np.abs(known - row).max(1).min() < 0.01, f"{row} is in no report"


def test_demo_writes_table_and_figures(workplace):
    demo, references = workplace / "runs" / "demo", list(REFERENCES)
    table = pd.read_csv(demo / "table.csv")
    assert list(table.columns) == COLUMNS
    assert list(table["method"]) == [references[0], "AG-GAN", "AG-GAN+", references[1]]
    assert_scores_are_those_of_the_reports(table, workplace / "runs")
    assert table["auc"][0] < table["auc"][3]  # matching thermal images, and the true visible ones
    for judge in ("", "synthetic_"):
        low, auc, high = (table[f"{judge}auc{end}"] for end in ("_low", "", "_high"))
        assert ((low <= auc) & (auc <= high)).all()
    assert not np.allclose(table["auc"], table["synthetic_auc"])
    assert table["psnr"][:3].notna().all() and table["psnr"][3:].isna().all()
    for name in ("roc", "grid", "attention"):
        assert_not_blank(demo / f"{name}.png")
        assert (demo / f"{name}.pdf").read_bytes().startswith(b"%PDF")


def test_run_folder_holds_its_record(run_folder):
    config = read_json(run_folder / "config.json")
    assert config["method"] == "ag-gan" and config["profile"]["steps"] == 6
    assert set(config["data"]) == {"train", "val", "test"}
    last = json.loads((run_folder / "metrics.jsonl").read_text().splitlines()[-1])
    losses = {"pixel", "cam", "identity", "adversarial", "discriminator"}
    assert last["step"] == 6 and losses | {"val_eer"} <= set(last)
    report = read_json(run_folder / "report.json")
    assert report["checkpoint"] in (3, 6) and report["chosen_by"] == "validation EER"
    assert len(list((run_folder / "checkpoints").glob("*.safetensors"))) == 2
    assert len(list((run_folder / "samples").glob("*.png"))) == 2
    parameters = read_json(run_folder / "train.ipynb")["metadata"]["papermill"]["parameters"]
    assert parameters["profile"] == "smoke"


def test_nothing_is_done_twice(workplace):
    def times():
        files = (path for path in (workplace / "runs").rglob("*") if path.is_file())
        return {path: path.stat().st_mtime_ns for path in files}

    before = times()
    aggan("reproduce", "demo", "--profile", "smoke", cwd=workplace)
    assert times() == before


def reproduce_again(workplace, **hook):
    """Execute the notebook of the demonstration again while its writes are disturbed."""
    (workplace / "runs" / "demo" / "made_from.json").unlink()
    paths = f"{PROJECT / 'tests' / 'killed_in_write'}{os.pathsep}{PROJECT}"
    environment = os.environ | {"PYTHONPATH": paths} | hook
    command = [AGGAN, "reproduce", "demo", "--profile", "smoke"]
    return subprocess.run(command, cwd=workplace, env=environment, capture_output=True, text=True)


def assert_goes_on(workplace, expected):
    aggan("reproduce", "demo", "--profile", "smoke", cwd=workplace)
    assert tables_of_the_demonstration(workplace) == expected
    assert not list((workplace / "runs").rglob(".*.tmp"))


def tables_of_the_demonstration(workplace):
    made = workplace / "runs" / "demo"
    return (made / "table.csv").read_bytes(), (made / "table.md").read_bytes()


def test_a_reproduction_that_is_killed_in_a_write_goes_on(workplace):
    expected = tables_of_the_demonstration(workplace)
    killed = reproduce_again(workplace, KILLED_IN_WRITE="0")
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert_goes_on(workplace, expected)


@pytest.mark.soak
def test_a_full_disk_stops_a_reproduction_in_one_sentence(workplace):
    expected = tables_of_the_demonstration(workplace)
    stopped = reproduce_again(workplace, FULL_DISK="1")
    said = stopped.stderr.strip().splitlines()[-1]
    assert stopped.returncode == 1 and "No space left on device" in said, stopped.stderr
    assert_goes_on(workplace, expected)


def reproduce_table(target, workplace):
    aggan("reproduce", target, "--profile", "smoke", "--jobs", 2, cwd=workplace)
    runs = workplace / "runs"
    table, rows = pd.read_csv(runs / target / "table.csv"), TABLES[target]
    own = target in ("table1", "table2")  # flow matching follows the paper's rows
    assert len(table) == rows + own + 2  # and the two reference rows
    assert (table["status"] == "run").all() and table["paper_auc"].notna().sum() == rows
    assert_scores_are_those_of_the_reports(table, runs)
    text = (runs / target / "table.md").read_text()
    assert "AUC (paper)" in text and "not run" not in text
    assert "| *not in the paper's table:*" in text
    assert "Distinguishable" in (runs / target / "statistics.md").read_text()
    if own:
        trained = table.dropna(subset="parameters")
        assert len(trained) == rows + 1 and (trained["steps"] == 6).all()
        assert "| 16 steps" in text
        assert trained["step_seconds"].between(1e-4, 60).all()


@pytest.mark.timeout(900)
@pytest.mark.parametrize("target", first("table1", "table2"))
def test_tables_of_methods_show_the_papers_numbers_too(workplace, target):
    reproduce_table(target, workplace)


def switches(options):
    """G-CAM, D-CAM and teacher of an AG-GAN with some options."""
    defaults = {"gcam": True, "dcam": True, "identity": "mobilefacenet"}
    return tuple(options.get(name, default) for name, default in defaults.items())


@pytest.mark.parametrize("target", SWITCHES)
def test_rows_of_ablations_are_different_settings(target):
    experiments = target_experiments(target, profile="smoke").values()
    assert len(experiments) == len(SWITCHES[target])
    assert {switches(each.resolved_method_kwargs) for each in experiments} == SWITCHES[target]
    assert len({each.folder for each in experiments}) == len(experiments)


@pytest.mark.soak
@pytest.mark.timeout(600)
@pytest.mark.parametrize("target", SWITCHES)
def test_ablations_are_different_runs(workplace, target):
    """At `make test` `test_real_layouts.py` has the notebook of one of them."""
    reproduce_table(target, workplace)
    paths = (workplace / "runs" / "synthetic-arl" / "ag-gan").glob("*/config.json")
    configs = [read_json(path)["method_kwargs"] for path in paths]
    assert SWITCHES[target] <= {switches(config) for config in configs}


@pytest.mark.timeout(900)
@pytest.mark.parametrize("numbers", first((2, 6), (3, 4, 5, 7, 8, 9)), ids=str)
def test_figures_judge_the_papers_claims(workplace, numbers):
    figures = [f"figure{number}" for number in numbers]
    seeds = 2 if 6 in numbers else 1
    command = ("reproduce", *figures, "--profile", "smoke", "--jobs", 2, "--seeds", seeds)
    aggan(*command, cwd=workplace)
    runs = workplace / "runs"
    for target in figures:
        claims = pd.read_csv(runs / target / "table.csv")
        assert len(claims) > 1 and claims["value"].notna().any()
        assert set(claims["verdict"]) <= {"supported", "not supported", "inconclusive"}
        assert claims["data"].str.startswith("synthetic faces").all()
        assert "verdict" in (runs / target / "table.md").read_text()
        assert_not_blank(next((runs / target).glob("*.png")))
        assert read_json(runs / target / "provenance.json")["seeds"] == seeds
    reports = [read_json(path) for path in runs.glob("*/ag-gan/*/explanation.json")]
    assert reports
    for report in reports:
        assert report["maps"]["uniform"]["gini"]["value"] < 1e-9
        assert report["matcher"] == "dlib"


@pytest.mark.soak
@pytest.mark.timeout(900)
def test_verdicts_of_larger_and_longer_trained_networks(workplace):
    aggan("reproduce", "verdicts", "--profile", "smoke", cwd=workplace)
    claims = pd.read_csv(workplace / "runs" / "verdicts" / "claims.csv")
    names = ["chosen checkpoint", "first checkpoint", "longer training", "other protocol"]
    names = [*(f"32 px, {name}" for name in names), "128 px, shipped model"]
    assert list(claims["network"].unique()) == names
    assert claims.groupby("network")["claim"].nunique().tolist() == [19] * 5
    values = claims.pivot(index="claim", columns="network", values="value")
    for one, after in zip(names, names[1:]):
        assert (values[one] != values[after]).sum() > 10
    made = workplace / "runs" / "verdicts"
    assert (made / "table.md").read_text().count("of 19 verdicts change") == 4
    assert_not_blank(made / "attention-ag-gan+.png")


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_beyond_the_paper(workplace):
    command = ("reproduce", "table5", "figure10", "--profile", "smoke", "--seeds", 2, "--jobs", 2)
    aggan(*command, cwd=workplace)
    runs = workplace / "runs"
    statistics = pd.read_csv(runs / "table5" / "statistics.csv")
    assert len(statistics) == 6 and (statistics["seeds"] == 2).all()
    assert statistics["above_difference"].notna().sum() == 5
    for row in statistics.to_dict("records"):
        assert row["auc_low"] <= row["auc"] <= row["auc_high"]
    assert set(pd.read_csv(runs / "table5" / "maps.csv")["method"]) == set(statistics["method"])
    conditions = pd.read_csv(runs / "figure10" / "table.csv")
    assert conditions.groupby(["method", "trained_on"]).size().nunique() == 1
    assert conditions["method"].nunique() == 6 and conditions["auc"].between(0, 100).all()
    assert conditions["synthetic_auc"].between(0, 100).all()
    assert "other protocol" in set(conditions["change"])
    provenance = read_json(runs / "table5" / "provenance.json")
    assert (provenance["trainings"], provenance["seeds"]) == (12, 2)
    assert "Means over 2 trainings" in (runs / "figure10" / "table.md").read_text()
    assert len(list((runs / "figure10").glob("robustness-*.png"))) == 2


@pytest.mark.soak
def test_people_and_teachers(workplace):
    command = ("reproduce", "people", "teachers", "--profile", "smoke", "--seeds", 2, "--jobs", 2)
    aggan(*command, cwd=workplace)
    runs = workplace / "runs"
    people = pd.read_csv(runs / "people" / "table.csv")
    assert list(people["method"][1:-1]) == ["6"]  # at smoke all there are
    judges = pd.read_csv(runs / "teachers" / "table.csv", keep_default_na=False)
    partial = set(judges.loc[judges["partial"], ["row", "judge"]].itertuples(index=False))
    assert partial == {
        ("synthetic-arcface", "synthetic-matcher"),
        ("mobilefacenet", "mobilefacenet"),
        ("dlib", "dlib"),
    }
    assert (judges.loc[judges["row"] != "none", "seeds"] == 2).all()
    assert (judges["auc_difference"] != "").sum() == 3 * 3
    text = (runs / "teachers" / "table.md").read_text()
    assert text.count("*") == 2 * 2 * len(partial)  # among the rates and the differences
    assert "people and 2 seeds" in text
    assert_not_blank(runs / "people" / "people.png")
    assert_not_blank(runs / "teachers" / "grid.png")


def test_explain_measures_the_maps(workplace, run_folder, tmp_path):
    options = (run_folder, "--profile", "smoke", "--output", tmp_path / "out")
    output = aggan("explain", *options, cwd=workplace).stdout
    report = read_json(tmp_path / "out" / "explanation.json")
    assert set(report["maps"]) == {"generator", "discriminator", "edges", "uniform"}
    assert report["subjects"] == 6 and "region skin" in output
    assert_not_blank(tmp_path / "out" / "overlays.png")


def test_evaluate_gives_the_scores_of_the_report(workplace, run_folder, tmp_path):
    report = read_json(run_folder / "report.json")
    options = (run_folder, "--profile", "smoke", "--output", tmp_path / "out")
    output = aggan("evaluate", *options, cwd=workplace).stdout
    assert f"AUC {100 * report['auc']:.2f} %" in output
    assert f"PSNR {report['psnr']:.2f} dB" in output
    written = {path.name for path in (tmp_path / "out").iterdir()}
    assert {"report.json", "grid.png", "attention.png"} <= written


@pytest.fixture
def thermal_images(tmp_path):
    """Grey, colour and 16-bit images of 40 x 40 pixels, two folders deep."""
    folder, rng = tmp_path / "thermal" / "deep", np.random.default_rng(0)
    folder.mkdir(parents=True)
    grey = Image.fromarray(rng.integers(0, 255, (40, 40), np.uint8))
    grey.save(folder / "a.png")
    grey.convert("RGB").save(folder / "b.png")
    Image.fromarray(rng.integers(0, 60000, (40, 40), np.uint16)).save(folder / "c.png")
    return tmp_path / "thermal"


def test_translate_needs_no_visible_partners(workplace, run_folder, thermal_images, tmp_path):
    output = tmp_path / "out"
    command = ("translate", run_folder, "--input", thermal_images, "--output", output)
    assert "3 images" in aggan(*command, cwd=workplace).stdout
    faces = sorted((output / "deep").glob("*.png"))
    assert [face.name for face in faces] == ["a.png", "b.png", "c.png"]
    with Image.open(faces[0]) as face:
        assert face.size == (32, 32) and face.mode == "RGB"
    faces[1].unlink()
    assert "1 images" in aggan(*command, cwd=workplace).stdout  # resumes
    refused = aggan(*command, "--precision", "bf16-mixed", cwd=workplace, check=False)
    assert refused.returncode == 1 and "another precision" in refused.stderr


def test_translate_names_a_broken_image_at_the_end(workplace, run_folder, thermal_images, tmp_path):
    whole = (thermal_images / "deep" / "a.png").read_bytes()
    (thermal_images / "deep" / "d.png").write_bytes(whole[:-200])
    command = ("translate", run_folder, "--input", thermal_images)

    def faces(output, *options):
        done = aggan(*command, "--output", output, *options, cwd=workplace, check=False)
        assert done.returncode == 1 and "d.png is truncated" in done.stderr
        assert "Traceback" not in done.stderr
        paths = sorted((output / "deep").glob("*.png"))
        assert [path.name for path in paths] == ["a.png", "b.png", "c.png"]
        return np.stack([np.asarray(Image.open(path), dtype=int) for path in paths])

    single = faces(tmp_path / "single")
    half = faces(tmp_path / "half", "--precision", "bf16-mixed")
    assert 0 < np.abs(single - half).max() < 32  # levels of 255


def notebook(path, *sources):
    """Write a notebook of code cells, the first of them tagged `parameters`."""
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


def test_paper_notebooks_refuse_unknown_parameters_under_plain_papermill(tmp_path):
    template = PROJECT / "nbs" / "paper" / "demo.ipynb"
    command = [sys.executable, "-m", "papermill", template, "out.ipynb", "-k", "python3"]
    command += ["-p", "profil", "smoke"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode and "there is no parameter 'profil'; did you mean 'prof" in done.stderr
    assert not list(tmp_path.glob("runs/*"))


@pytest.mark.parametrize(
    "source, message",
    [
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "kernel of .* died"),
        ("raise ValueError('no such thing')", "no such thing"),
    ],
)
def test_runner_reports_failures_and_dead_kernels(tmp_path, source, message):
    template = notebook(tmp_path / "t.ipynb", "seed: int = 0", source)
    with pytest.raises(RuntimeError, match=message):
        run_notebook(template, tmp_path / "o.ipynb", {})


FAILS_ONCE = """
import os, sys
started = {started!r}
first = not os.path.exists(started)
open(started, "w").close()
if first:
    sys.exit(1)
os.execv(sys.executable, [sys.executable, "-m", "ipykernel_launcher", "-f", sys.argv[1]])
"""


def test_runner_restarts_a_kernel_that_died_at_its_start(tmp_path, monkeypatch):
    kernel = tmp_path / "kernels" / "python3"
    kernel.mkdir(parents=True)
    start = FAILS_ONCE.format(started=str(tmp_path / "started"))
    argv = [sys.executable, "-c", start, "{connection_file}"]
    spec = {"argv": argv, "display_name": "Python 3", "language": "python"}
    (kernel / "kernel.json").write_text(json.dumps(spec))
    place = {"JUPYTER_PATH": str(tmp_path)}
    monkeypatch.setattr(notebooks, "kernel_environment", lambda environment: environment | place)
    source = f"open('{tmp_path}/seen', 'w').write(str(seed))"
    template = notebook(tmp_path / "t.ipynb", "seed: int = 0", source)
    run_notebook(template, tmp_path / "out.ipynb", {"seed": 3})
    assert (tmp_path / "started").exists() and (tmp_path / "seen").read_text() == "3"
