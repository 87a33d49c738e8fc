"""Options are checked before data are opened, each by one sentence; sizes and channels fit."""

import pytest
import torch

from aggan.data import Batch
from aggan.experiments import Experiment, run_experiment, run_training
from aggan.experiments.profiles import SMOKE
from aggan.methods import create_method, inference_kwargs, list_methods
from aggan.runtime.run_folder import RunFolder

WRONG = [  # option, its value, what the sentence must hold
    ("overrides", {"steps": 2.5}, "steps must be a whole number ≥ 1, not 2.5"),
    ("overrides", {"steps": "5"}, "steps must be a whole number ≥ 1, not '5'"),
    ("overrides", {"steps": 0}, "steps must be a whole number ≥ 1, not 0"),
    ("overrides", {"steps": -5}, "steps must be a whole number ≥ 1, not -5"),
    ("overrides", {"steps": None}, "steps must be a whole number ≥ 1, not None"),
    ("overrides", {"checkpoints": 0}, "checkpoints must be a whole number ≥ 1, not 0"),
    ("overrides", {"batch_size": 0}, "batch_size must be a whole number ≥ 1, not 0"),
    ("overrides", {"workers": -1}, "workers must be a whole number ≥ 0, not -1"),
    ("overrides", {"precision": 32}, "precision must be text, not 32"),
    ("overrides", {"subjects": 5}, "subjects must be a mapping from names"),
    ("overrides", {"subjects": {"train": "6"}}, "each to a whole number ≥ 0 or None, not {'tr"),
    ("overrides", {"stepz": 5}, "no option of the profile 'stepz'; there are 'image_size'"),
    ("overrides", {"stepz": 5}, "did you mean 'steps'?"),
    ("overrides", {"steps": 5, "epochs": 2}, "give one of them"),
    ("overrides", {"load_size": 30}, "load_size must be at least image_size, 32 pixels, not 30"),
    ("overrides", {"method_kwargs": {"ag-gan": 5}}, "method_kwargs must be a mapping"),
    ("method_kwargs", {"lr": 0.1}, "no option of ag-gan 'lr'; there are 'attention', 'width'"),
    ("method_kwargs", {"lr": 0.1}, "did you mean 'learning_rate'?"),
    ("method_kwargs", {"learning_rate": 0}, "learning_rate must be a number > 0, not 0"),
    ("method_kwargs", {"learning_rate": "1e-4"}, "learning_rate must be a number > 0, not '1e-4'"),
    ("method_kwargs", {"learning_rate": float("nan")}, "learning_rate must be a number > 0, not"),
    ("method_kwargs", {"lambda_l1": -1}, "lambda_l1 must be a number ≥ 0, not -1"),
    ("method_kwargs", {"width": 0}, "width must be a whole number ≥ 1, not 0"),
    ("method_kwargs", {"blocks": True}, "blocks must be a whole number ≥ 1, not True"),
    ("method_kwargs", {"gcam": 1}, "gcam must be true or false, not 1"),
    ("method_kwargs", {"discriminator_layers": 4}, "discriminator_layers must be a list, each of"),
    ("method_kwargs", {"discriminator_layers": []}, "discriminator_layers must be a list, each"),
    ("method_kwargs", {"discriminator_layers": [3, 9]}, "needs images of at least 384 pixels"),
    ("method_kwargs", {"discriminator_layers": [2]}, "needs 3 layers or more, got 2"),
    ("method_kwargs", {"channels": 2}, "channels must be 1 or 3, not 2"),
    ("method_kwargs", {"attention": "cams"}, "cams"),
    ("method_kwargs", {"head": "lite"}, "unknown head 'lite'"),
    ("method_kwargs", {"identity": 3}, "identity must be text, not 3"),
    ("method_kwargs", {"identity_reference": "both"}, "must be 'visible' or 'thermal', not 'b"),
    ("method_kwargs", {"image_size": 64}, "image_size is 64 and the profile's 32"),
    ("dataset_kwargs", {"channels": 1}, "channels is 1 in dataset_kwargs and 3 in method_kwargs"),
    ("seed", -1, "seed must be a whole number ≥ 0, not -1"),
    ("name", "a/b", "name is the name of a run folder, without a path, and without a space or"),
    ("name", "n\nl", "not 'n\\nl'"),
    ("name", "tr. ", "not 'tr. '"),
    ("name", "..", "not '..'"),
]


@pytest.mark.parametrize("option, value, sentence", WRONG)
def test_options_are_checked_before_data_are_opened(option, value, sentence):
    with pytest.raises(ValueError) as error:
        Experiment("ag-gan", "folder", "smoke", root="nowhere", **{option: value})
    assert sentence in str(error.value) and "\n" not in str(error.value)


def test_epochs_and_image_size_take_along_what_depends_on_them():
    def profile(**overrides):
        return Experiment("ag-gan", profile="smoke", overrides=overrides).resolved_profile

    assert profile(epochs=3).total_steps(8) == 6  # in batches of 4
    assert profile(steps=9).total_steps(8) == 9
    assert (profile(image_size=64).image_size, profile(image_size=64).load_size) == (64, 72)
    assert profile(image_size=64, load_size=64).load_size == 64


SIZES = {  # method -> sizes that it takes, of those below
    "ag-gan": (12, 16, 20, 24, 30, 32, 33, 36, 40, 48, 64),
    "attentiongan": (24, 32, 36, 40, 48, 64),
    "axial-gan": (16, 24, 32, 40, 48, 64),
    "cut": (24, 32, 36, 40, 48, 64),
    "cyclegan": (24, 32, 36, 40, 48, 64),
    "flow-matching": (8, 12, 16, 20, 24, 32, 36, 40, 48, 64),
    "lg-gan": (32, 36, 40, 48, 64),
    "pix2pix": (32, 64),
    "sg-gan": (32, 64),
}
SIZES["ag-gan+"] = SIZES["u-gat-it"] = SIZES["ag-gan"]
ALL_SIZES = (8, 12, 16, 20, 24, 30, 32, 33, 36, 40, 48, 64)


def small(name, **options):
    return create_method(name, **SMOKE[name] | inference_kwargs(name) | options)


@pytest.mark.parametrize("name", sorted(SIZES))
def test_a_size_fits_or_is_refused_when_the_method_is_created(name):
    assert set(SIZES) == set(list_methods())
    accepted = []
    for size in ALL_SIZES:
        try:
            accepted.append((size, small(name, image_size=size)))
        except ValueError as error:
            assert str(size) in str(error)
            assert any(word in str(error) for word in ("divisible by", "power of two", "at least"))
    assert tuple(size for size, _ in accepted) == SIZES[name]
    for size, method in accepted[:1] + accepted[-1:]:
        thermal, visible = torch.zeros(2, 3, size, size), torch.rand(2, 3, size, size)
        losses = method.train().training_step(
            Batch(thermal, visible, ["a", "b"], [{}, {}]), method.optimizers()
        )
        assert all(loss.isfinite() for loss in losses.values())
        assert method.translate(thermal).shape == visible.shape


@pytest.mark.parametrize("name", sorted(SIZES))
def test_a_batch_is_translated_at_its_own_size_or_refused(name):
    method = small(name, image_size=32)
    for height, width in ((33, 33), (30, 30), (48, 32), (32, 32)):
        thermal = torch.zeros(1, 3, height, width)
        try:
            assert method.translate(thermal).shape == (1, 3, height, width)
        except ValueError as error:
            assert f"{height}×{width}" in str(error) and (height, width) != (32, 32)


@pytest.fixture(scope="module")
def faces(tmp_path_factory):
    return tmp_path_factory.mktemp("faces")


def one_channel(name, faces, tmp_path):
    options = {"channels": 1} | ({"identity_reference": "thermal"} if "ag-gan" in name else {})
    return Experiment(
        name,
        profile="smoke",
        overrides={"steps": 2, "checkpoints": 1},
        method_kwargs=options,
        runs=tmp_path,
        cache=faces,
    )


@pytest.mark.parametrize("name", sorted(SIZES))
def test_thermal_images_of_one_channel(name, faces, tmp_path):
    experiment = one_channel(name, faces, tmp_path)
    run_training(experiment)
    assert RunFolder(experiment.folder).steps_done == 2
    assert experiment.pairs("test")[0].thermal.shape == (1, 32, 32)


def test_one_channel_is_evaluated(faces, tmp_path):
    report = run_experiment(one_channel("ag-gan", faces, tmp_path))
    assert report["probes"] > 0
