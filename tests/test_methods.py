"""What every method keeps to, whichever it is."""

import json

import pytest
import torch
from safetensors.torch import load_file

from aggan.experiments import Experiment, load_method, run_training
from aggan.methods import create_method, list_methods
from aggan.recognition import load_embedder
from aggan.reproduction.targets import equal_time
from aggan.training import checkpoint_path
from aggan.runtime.run_folder import best_step

TEN = [
    "ag-gan",
    "ag-gan+",
    "attentiongan",
    "axial-gan",
    "cut",
    "cyclegan",
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


@pytest.fixture(scope="module", params=TEN)
def trained(request, folder):
    """A smoke experiment of each method, trained."""
    run_training(experiment(request.param, folder))
    return experiment(request.param, folder)


def test_there_are_ten():
    assert list_methods() == TEN


def test_translates_alone_as_in_company(trained):
    method, test = load_method(trained.folder), trained.pairs("test")
    thermal = torch.stack([test[index].thermal for index in range(4)])
    together = method.train().translate(thermal)  # the mode that it is in makes no difference
    assert (
        together.shape == (4, 3, 32, 32)
        and together.abs().max() <= 1
        and not together.requires_grad
    )
    torch.testing.assert_close(method.translate(thermal[2:3]), together[2:3], rtol=1e-4, atol=1e-5)
    assert torch.equal(method.translate(thermal), together)
    maps = method.explain(thermal)
    assert bool(maps) == (trained.method in WITH_MAPS)
    for heatmap in maps.values():
        assert (
            heatmap.shape[:2] == (4, 1) and heatmap.isfinite().all() and not heatmap.requires_grad
        )


def test_stopped_and_resumed_is_bit_identical(trained, tmp_path, monkeypatch):
    again = experiment(trained.method, tmp_path)
    kind, calls = type(create_method(again.method, **again.resolved_method_kwargs)), []
    step = kind.training_step

    def failing(self, *args):
        calls.append(1)
        if len(calls) == 7:
            raise KeyboardInterrupt
        return step(self, *args)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(kind, "training_step", failing)
        run_training(again)
    assert (
        not checkpoint_path(again.folder, 8).exists() and checkpoint_path(again.folder, 6).exists()
    )
    run_training(again)
    one, other = (load_file(checkpoint_path(run.folder, 8)) for run in (trained, again))
    assert one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_losses_are_recorded_and_the_judge_is_in_none(trained):
    rows = [
        json.loads(line) for line in (trained.folder / "metrics.jsonl").read_text().splitlines()
    ]
    assert rows[-1]["step"] == 8 and best_step(trained.folder) in (2, 4, 6, 8)
    assert all(isinstance(value, (int, float)) for row in rows for value in row.values())
    judge = {
        tuple(weight.flatten()[:8].tolist())
        for weight in load_embedder("synthetic-matcher").parameters()
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
    assert [row.resolved_profile.steps for row in equal_time(rows, rows["ag-gan"]).values()] == [
        8,
        16,
        4,
    ]
