"""What weights come from: teachers, people and the run that they begin with."""

import json
import shutil
from contextlib import nullcontext

import numpy as np
import pytest
from PIL import Image

from aggan.commands.judging import run_flags
from aggan.data.pairs import rank_subjects
from aggan.experiments import (
    Experiment,
    evaluate_weights,
    experiment_with,
    seconds_per_step,
    weights_hash,
)
from aggan.experiments.experiment import check_unseen_people, known_people, run_training
from aggan.experiments.runs import experiment_of
from aggan.experiments.trained_people import first_pictures
from aggan.methods import create_method
from aggan.reproduction.maps import write_explanation
from aggan.reproduction.pictures import write_evaluation
from aggan.runtime.files import read_json, write_json
from aggan.runtime.run_folder import RunFolder
from aggan.training import network_tensors, save_checkpoint

OPTIONS = {"image_size": 32, "width": 8, "discriminator_width": 8}


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty folder as the current one."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def save(path, method="pix2pix", taught_by=None, options=OPTIONS, **header):
    """A checkpoint of an untrained method."""
    tensors = network_tensors(create_method(method, **options))
    header |= {"method": method, "method_kwargs": options, "taught_by": taught_by or {}, "step": 1}
    save_checkpoint(path, tensors, header)
    return path


def begun_run(folder):
    """A run folder after one step."""
    run = RunFolder(folder)
    save(run.checkpoint(1))
    shutil.copy(run.checkpoint(1), run.resume_file)
    run.metrics_file.write_text('{"step": 1}\n')
    return run


SMOKE = {"profile": "smoke", "name": "next", "cache": "faces"}


@pytest.mark.parametrize("option, wide", [("init", True), ("extend", True), ("extend", False)])
def test_a_beginning_that_does_not_fit_takes_no_name(here, option, wide):
    """A run with as many steps already, or of other widths, leaves nothing behind."""
    run = begun_run("first")
    kwargs = {"width": 16} if wide else {}
    given = {option: run.path, "overrides": {"steps": 1, "checkpoints": 1}, "method_kwargs": kwargs}
    experiment = Experiment("pix2pix", **SMOKE, **given)
    with pytest.raises(ValueError, match="does not fit the" if wide else "has 1 steps already"):
        run_training(experiment)
    assert not experiment.folder.exists()


def test_options_of_a_profile_are_not_laid_under_those_of_a_run(here):
    """`--profile paper --identity dlib --matcher mobilefacenet`, opened again without a profile."""
    kwargs = {"identity": "dlib"}
    trained = Experiment(
        "ag-gan+", profile="paper", method_kwargs=kwargs, matcher="mobilefacenet", cache="faces"
    )
    run = RunFolder("paper")
    write_json(run.config_file, trained.config)
    header = {"method": "ag-gan+", "method_kwargs": trained.resolved_method_kwargs}
    taught = {"taught_by": {"identity": ("dlib", weights_hash("dlib"))}}
    save_checkpoint(run.checkpoint(1), {}, header | taught)
    run.metrics_file.write_text('{"step": 1}\n')
    for again in (experiment_with(run.path, matcher="mobilefacenet"), experiment_of(run.path)):
        assert again.matcher == "mobilefacenet" and again.loss_networks == {"identity": "dlib"}


def test_time_of_a_step_belongs_to_its_data(here, monkeypatch):
    seconds = iter([0.5, 0.25])
    monkeypatch.setattr("aggan.experiments.experiment.step_seconds", lambda *a, **k: next(seconds))
    experiments = [Experiment("pix2pix", profile="smoke", seed=seed, cache="f") for seed in (0, 1)]
    for _ in range(2):
        assert [seconds_per_step(each) for each in experiments] == [0.5, 0.25]


def add_pairs(root, people):
    """Two pairs of noise of each person."""
    for person in people:
        rng = np.random.default_rng(list(person.encode()))
        for name in (f"{side}/{person}_{n}.png" for side in ("thermal", "visible") for n in "12"):
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(rng.integers(0, 255, (16, 16), np.uint8)).save(root / name)


@pytest.fixture
def grown(here):
    """A run on twelve people, and their folder after others have joined."""
    add_pairs(here / "pairs", [f"person{n}" for n in range(12)])
    run, data = begun_run("run"), {"dataset": "folder", "root": "pairs", "profile": "smoke"}
    write_json(run.people_file, known_people(Experiment("pix2pix", **data)))
    before = here / "before"
    shutil.copytree(here / "pairs", before)
    add_pairs(here / "pairs", rank_subjects([f"guest{n}" for n in range(100)])[-28:])
    return data


KNOWN = "was trained on 4 of the 6 people of the test split"


def test_people_of_the_training_are_not_judged(grown):
    for judge in (write_evaluation, write_explanation):
        with pytest.raises(ValueError, match=f"run {KNOWN}"):
            judge("run", "judged", **grown)
    for option in ("init", "extend"):
        experiment = Experiment("pix2pix", name="next", **{option: "run"}, **grown)
        with pytest.raises(ValueError, match=KNOWN):
            run_training(experiment)
        assert not experiment.folder.exists()


def test_who_may_be_judged(here, grown):
    """The run's own data, people who are named, and anybody where it is not known."""
    check_unseen_people(experiment_with("run", **grown | {"root": "before"}), "val", "test")
    whole = experiment_with("run", dataset_kwargs={"split": "all"}, **grown)
    check_unseen_people(whole, "val", "test")
    check_unseen_people(experiment_with("run", **grown), "train")
    with pytest.raises(ValueError, match="run was trained on 8 of the 40 people of the data"):
        evaluate_weights("run", "all", **grown)
    run = RunFolder("run")  # as if it was trained on all of them, which it says
    write_json(run.config_file, {"dataset_kwargs": {"split": "all"}})
    write_json(run.people_file, first_pictures(whole.pairs("test")))
    check_unseen_people(experiment_with("run", **grown), "all")
    add_pairs(here / "others", ["ann", "bob"])
    check_unseen_people(experiment_with("run", **grown | {"root": "others"}), "all")
    begun = Experiment("pix2pix", init="run/checkpoints/step_0000001.safetensors", **grown)
    own = set(begun.pairs("train").subjects)
    assert set(known_people(begun)) == own | set(read_json(run.people_file))
    run.people_file.unlink()  # of a run that was trained before there was the file
    check_unseen_people(experiment_with("run", **grown), "val", "test")
    assert known_people(Experiment("pix2pix", profile="smoke", cache="faces")) == {}


@pytest.mark.parametrize("paired", [True, False])
def test_people_of_an_unpaired_training_are_recorded(here, paired):
    add_pairs(here / "pairs", [f"person{n}" for n in range(12)])
    if not paired:  # nobody has a partner
        for path in (here / "pairs" / "visible").iterdir():
            path.rename(path.with_name(f"other-{path.name}"))
    run = Experiment("cyclegan", dataset="folder", root="pairs", profile="smoke")
    known = known_people(run)
    assert set(run.pairs("train").subjects) <= set(known)
    assert paired or {f"person{n}" for n in range(12)} < set(known)
    write_json(begun_run("run").people_file, known)
    shutil.rmtree(here / "pairs")
    add_pairs(here / "pairs", [f"person{n}" for n in range(12)])
    again = Experiment("pix2pix", init="run", dataset="folder", root="pairs", profile="smoke")
    with nullcontext() if paired else pytest.raises(ValueError, match="was trained on"):
        check_unseen_people(again, "val", "test")


def test_another_session_of_the_same_names_is_said(grown, here):
    for path in [*(here / "pairs").rglob("*.png")]:
        path.rename(path.with_stem(path.stem + "0"))
    with pytest.warns(
        UserWarning, match="of the same names as 4 of the 6 people of the test split"
    ):
        check_unseen_people(experiment_with("run", **grown), "test")


@pytest.mark.parametrize("split", ["val", "test"])
@pytest.mark.parametrize("side", ["thermal", "visible"])
def test_a_damaged_image_is_found_before_the_training(here, split, side):
    add_pairs(here / "pairs", [f"person{n}" for n in range(12)])
    data = {"dataset": "folder", "root": "pairs", "profile": "smoke"}
    record = Experiment("pix2pix", **data).pairs(split).records[-1]
    path = getattr(record, side)
    path.write_bytes(path.read_bytes()[:-40])
    experiment = Experiment("pix2pix", name="damaged", **data)
    with pytest.raises(ValueError, match=path.name):
        run_training(experiment)
    assert not experiment.folder.exists()


def test_a_shared_folder_is_no_run(here):
    (here / "shared").mkdir()
    facts = {"header": {"method": "ag-gan+"}, "run": {"seed": 1}}
    (here / "shared" / "config.json").write_text(json.dumps(facts))
    assert run_flags("shared", {"seed": 3}) == {"seed": 3}
    (here / "config.yaml").write_text("method: cut\nseed: 5\nroot: elsewhere\n")
    save(here / "bare.safetensors")
    for weights in ("ag-gan+", "bare.safetensors"):
        assert run_flags(weights, {}) == {}
