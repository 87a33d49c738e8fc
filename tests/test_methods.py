"""Properties that every method has."""

import shutil

import pytest
import torch
from safetensors.torch import load_file

from aggan.experiments import Experiment, load_method, run_training
from aggan.methods import create_method, list_methods
from aggan.recognition import load_embedder
from aggan.reproduction.targets import equal_time
from aggan.runtime.run_folder import RunFolder
from aggan.training import save_state

METHODS = [
    "ag-gan",
    "ag-gan+",
    "attentiongan",
    "axial-gan",
    "cut",
    "cyclegan",
    "flow-matching",
    "lg-gan",
    "pix2pix",
    "sg-gan",
    "u-gat-it",
]
WITH_MAPS = {"ag-gan", "ag-gan+", "attentiongan", "axial-gan", "lg-gan", "u-gat-it"}


def experiment(name, folder):
    return Experiment(
        name,
        profile="smoke",
        overrides={"steps": 8, "checkpoints": 4},
        runs=str(folder),
        cache=str(folder / "faces"),
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("methods")


@pytest.fixture(scope="module", params=METHODS)
def trained(request, folder):
    """A smoke experiment of each method, trained; its run folder after step 6 is copied."""
    done, killed = (experiment(request.param, place) for place in (folder, folder / "killed"))

    def save_and_copy(run, method, optimizers, state):
        saved = save_state(run, method, optimizers, state)
        if state.step == 6:
            shutil.copytree(run, killed.folder)
        return saved

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("aggan.training.save_state", save_and_copy)
        run_training(done)
    return done


def test_methods_are_listed():
    assert list_methods() == METHODS


def test_a_translation_does_not_depend_on_the_batch(trained):
    method, test = load_method(trained.folder), trained.pairs("test")
    thermal = torch.stack([test[index].thermal for index in range(4)])
    together = method.train().translate(thermal)
    assert (
        together.shape == (4, 3, 32, 32)
        and together.abs().max() <= 1
        and not together.requires_grad
    )
    torch.testing.assert_close(method.translate(thermal[2:3]), together[2:3], rtol=1e-4, atol=1e-5)
    assert torch.equal(method.eval().translate(thermal), together)  # in either mode
    maps = method.explain(thermal)
    assert bool(maps) == (trained.method in WITH_MAPS)
    for heatmap in maps.values():
        assert (
            heatmap.shape[:2] == (4, 1) and heatmap.isfinite().all() and not heatmap.requires_grad
        )


def test_a_run_killed_after_step_6_resumes_to_the_same_bits(trained, folder):
    killed = experiment(trained.method, folder / "killed")
    run = RunFolder(killed.folder)
    # the row of step 6 is not written yet, but in the state
    assert list(run.checkpoints) == [2, 4] and run.checkpoint(6).exists()
    assert not run.checkpoint(8).exists()
    run_training(killed)
    assert list(run.checkpoints) == [2, 4, 6, 8]
    expected, resumed = (
        load_file(RunFolder(trained.folder).checkpoint(8)),
        load_file(run.checkpoint(8)),
    )
    assert expected.keys() == resumed.keys()
    assert all(torch.equal(expected[name], resumed[name]) for name in expected)


def test_losses_are_logged_and_the_matcher_is_in_none(trained):
    run = RunFolder(trained.folder)
    rows = run.metrics()
    assert [row["step"] for row in rows] == [2, 4, 6, 8]
    assert all(isinstance(value, (int, float)) for row in rows for value in row.values())
    errors = {row["step"]: row["val_eer"] for row in rows}
    assert errors[run.best_step] == min(errors.values())
    judge = {
        tuple(weight.flatten()[:8].tolist())
        for weight in load_embedder(trained.matcher).parameters()
        if weight.numel() >= 8 and weight.std() > 0
    }
    method = create_method(trained.method, **trained.resolved_method_kwargs)
    assert not judge & {
        tuple(weight.flatten()[:8].tolist())
        for weight in method.parameters()
        if weight.numel() >= 8
    }


def test_equal_time_gives_the_slower_fewer_steps(folder, monkeypatch):
    seconds = {"ag-gan": 0.2, "pix2pix": 0.1, "cyclegan": 0.4}
    monkeypatch.setattr(
        "aggan.reproduction.targets.seconds_per_step", lambda experiment: seconds[experiment.method]
    )
    rows = {name: experiment(name, folder) for name in seconds}
    equal = equal_time(rows, rows["ag-gan"])
    assert [row.resolved_profile.steps for row in equal.values()] == [8, 16, 4]
