"""The trained models that ship: they load by name, and their faces are faces."""

import pytest
import torch

from aggan.data import collate, open_pairs
from aggan.evaluation import embed
from aggan.experiments import load_method, profiles
from aggan.recognition import load_embedder
from aggan.recognition.alignment import detect_face
from aggan.runtime.run_folder import MODELS
from aggan.training import read_checkpoint

LARGEST = 8 * 2**20  # bytes of a file


def test_models_are_those_of_the_card():
    card = (MODELS / "README.md").read_text(encoding="utf-8")
    names = {path.stem for path in MODELS.glob("*.safetensors")}
    assert names == {"ag-gan", "ag-gan+"}
    for name in names:
        assert f"`{name}.safetensors`" in card
        assert (MODELS / f"{name}.safetensors").stat().st_size <= LARGEST


@pytest.mark.parametrize("name", ["ag-gan", "ag-gan+"])
def test_translated_people_are_found_and_like_themselves(name):
    _, header = read_checkpoint(MODELS / f"{name}.safetensors")
    options = profiles.PROFILES["shipped"].method_kwargs[name]
    assert {key: header["method_kwargs"][key] for key in ("width", "blocks")} == {
        key: options[key] for key in ("width", "blocks")
    }
    few = {"subjects": {"test": 4}, "images_per_subject": 2}
    pairs = open_pairs("synthetic-arl", split="test", image_size=128, **few)
    batch = collate(pair for pair in pairs if pair.meta["role"] == "probe")
    faces = load_method(name).cpu().translate(batch.thermal)
    assert all(detect_face(face / 2 + 0.5).probability > 0.9 for face in faces.clamp(-1, 1))
    translated, true = (embed(images, load_embedder("dlib")) for images in (faces, batch.visible))
    assert len(faces) == 4 and torch.equal((translated @ true.T).argmax(1), torch.arange(4))
