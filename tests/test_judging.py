"""Files of an evaluation, searches in a gallery, and recognisers that cannot judge."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import aggan
from aggan.experiments.judging import write_judgement
from aggan.experiments.matching import gallery_people, match_probes
from aggan.recognition import Embedder, embed_faces, load_embedder
from aggan.recognition.comparison import FaceEmbeddings, read_faces, scores_of
from aggan.recognition.formats import FaceInput
from aggan.recognition.thresholds import choose_threshold
from aggan.reproduction.pictures import EVALUATION, write_evaluation
from aggan.runtime.files import read_json


@pytest.fixture
def here(workplace, monkeypatch):
    """The folder of the smoke runs as the current one."""
    monkeypatch.chdir(workplace)


def test_files_of_an_evaluation(here, run_folder, tmp_path):
    out = tmp_path / "out"
    report = write_evaluation(run_folder, out, profile="smoke")
    kept = read_json(run_folder / "report.json")
    assert {name: report[name] for name in ("auc", "eer", "psnr", "ssim", "matcher")} == {
        name: kept[name] for name in ("auc", "eer", "psnr", "ssim", "matcher")
    }
    faces = read_faces(out / "embeddings.safetensors")
    rows = list(csv.DictReader((out / "scores.csv").open()))
    assert list(rows[0]) == ["probe", "gallery", "subject", "score", "genuine"]
    scores = scores_of(faces)
    assert len(rows) == scores.values.size
    assert sum(int(row["genuine"]) for row in rows) == len(scores.genuine)
    # six pairs of three validation people choose no threshold, which is said
    assert report["thresholds"] == [] and "too few for a FAR of 1 %" in report["judging_notes"][0]
    assert 0 <= report["rank_1"] <= report["rank_5"] <= 1
    page = (out / "failures.html").read_text()
    assert page.count("<img") > 8 and 'src="http' not in page
    assert {path.name for path in out.iterdir()} == {*EVALUATION}


def test_more_scores_than_memory_holds_are_not_judged(tmp_path):
    vectors, names = torch.zeros(20_000, 1), ["somebody"] * 20_000
    faces = FaceEmbeddings(vectors, vectors, names, names, names, names, "dlib")
    judged = write_judgement(tmp_path, faces, None, None, None)
    assert judged["judging_notes"] and not judged["thresholds"] and not [*tmp_path.iterdir()]
    with pytest.raises(ValueError, match="400,000,000 scores of 20,000 probes"):
        choose_threshold(faces)


@pytest.fixture
def search(tmp_path):
    """Four thermal probes, and two photographs of each of two people, of noise."""
    rng = np.random.default_rng(0)
    for side, shape in (("thermal", (48, 48)), ("visible", (48, 48, 3))):
        (tmp_path / side).mkdir()
        for name in ("ann_0", "ann_1", "bob_0", "bob_1"):
            pixels = rng.integers(0, 255, shape, np.uint8)
            Image.fromarray(pixels).save(tmp_path / side / f"{name}.png")
    return tmp_path


def test_search_in_a_gallery(here, run_folder, search):
    places = search / "thermal", search / "visible", search / "out"
    found = match_probes(run_folder, *places, threshold=-1.0, aligned=True)
    assert list(found.table["person"].unique()) and len(found.table) == 4 * 2
    assert found.table["accepted"].all()
    listed = list(csv.DictReader((search / "out" / "matches.csv").open()))
    assert len(listed) == 8 and {row["person"] for row in listed} == {"ann", "bob"}
    page = (search / "out" / "matches.html").read_text()
    assert page.count("<img") == 4 * 4 and "compared by dlib" in page
    nobody = match_probes(run_folder, *places, threshold=1.0, aligned=True)
    assert not nobody.table["accepted"].any()
    assert (search / "out" / "matches.html").read_text().count("<b>nobody</b>") == 4


@pytest.mark.parametrize(
    "change, words",
    [
        ({"gallery": "nowhere"}, "nowhere"),
        ({"probes": "nowhere"}, "nowhere"),
        ({}, "no photograph that can be used"),  # noise has no face
        ({"threshold": None}, "too few for a FAR of 1 %"),
        ({"matcher": "mobilefacenet"}, "cannot judge it"),
        ({"top": 0}, "top must be"),
        *(({"far": far}, "far must be") for far in (-1.0, 0.0, 1.0, 100.0)),
    ],
)
def test_searches_that_are_refused(here, run_folder, search, change, words):
    given = {"probes": search / "thermal", "gallery": search / "visible", "threshold": 0.5} | change
    with pytest.raises((ValueError, FileNotFoundError)) as refused:
        match_probes(run_folder, output=search / "out", **given)
    assert words in str(refused.value)
    assert not (search / "out" / "matches.csv").exists()


def test_a_gallery_that_does_not_say_who_is_who(tmp_path):
    for number in range(3):
        (tmp_path / f"IMG_{number:04}.png").touch()
    with pytest.raises(ValueError, match=r"show one person \(IMG\); put the photographs of each"):
        gallery_people(tmp_path)
    people = [record.subject for record in gallery_people(tmp_path, "(.*)")]
    assert sorted(people) == [f"IMG_{number:04}" for number in range(3)]


class Pixels(torch.nn.Module):
    """A recogniser of a few lines."""

    def forward(self, faces):
        return torch.nn.functional.avg_pool2d(faces, 14).flatten(1)


def test_recognisers_of_other_kinds(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    frames = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1
    own = embed_faces(Embedder(Pixels(), template=FaceInput().landmarks), frames)
    assert own.norm(dim=1) == pytest.approx([1.0, 1.0], abs=1e-5)
    torch.jit.trace(Pixels(), torch.zeros(1, 3, 112, 112)).save("pixels.pt")
    (tmp_path / "pixels_of_own.py").write_text(
        "import torch\nclass Pixels(torch.nn.Module):\n    def forward(self, faces):\n"
        "        return torch.nn.functional.avg_pool2d(faces, 14).flatten(1)\n"
    )
    (tmp_path / "own.json").write_text('{"network": "pixels.pt", "colours": "bgr"}')
    for name in ("pixels.pt", "pixels_of_own:Pixels"):
        assert torch.allclose(embed_faces(load_embedder(name), frames), own, atol=1e-5)
    turned = embed_faces(load_embedder("own.json"), frames.flip(1))
    assert torch.allclose(turned, own, atol=1e-5)


@pytest.mark.parametrize(
    "content, words",
    [
        ("no JSON", "is not JSON"),
        ("[]", 'it needs "network"'),
        ('{"network": "gone.onnx"}', "gone.onnx"),
        ('{"network": "torch.nn:Identity"}', "names the Python module"),
        ('{"network": "same.pt"}', "not two embeddings"),
        ('{"network": "same.pt", "sise": 3}', "did you mean 'size'"),
        ('{"network": "same.pt", "size": 0}', "size must be"),
        ('{"network": "same.pt", "colours": "grb"}', "'rgb' or 'bgr'"),
        ('{"network": "damaged.onnx"}', "damaged.onnx"),
    ],
)
def test_descriptions_that_are_refused(tmp_path, content, words):
    (tmp_path / "damaged.onnx").write_bytes(b"no graph")
    torch.jit.trace(torch.nn.Identity(), torch.zeros(1)).save(tmp_path / "same.pt")
    path = tmp_path / "recogniser.json"
    path.write_text(content)
    with pytest.raises((ValueError, FileNotFoundError)) as refused:
        load_embedder(path)
    assert words in str(refused.value) and "\n" not in str(refused.value)


def test_a_module_that_is_not_there_is_named():
    with pytest.raises(ValueError, match="nowhere_at_all:Net cannot be imported"):
        load_embedder("nowhere_at_all:Net")


def test_description_decides_the_identity_of_a_run(tmp_path):
    from aggan.experiments import weights_hash

    description, graph = tmp_path / "own.json", tmp_path / "net.onnx"
    description.write_text(json.dumps({"network": "net.onnx"}))
    graph.write_bytes(b"one")
    before = weights_hash(str(description))
    graph.write_bytes(b"other")
    assert weights_hash(str(description)) != before


def test_a_teacher_in_a_description_does_not_judge(tmp_path):
    from aggan.experiments import Experiment

    teacher = Path(aggan.__file__).parent / "weights" / "mobilefacenet.safetensors"
    description = tmp_path / "own.json"
    description.write_text(json.dumps({"network": str(teacher)}))
    with pytest.raises(ValueError, match="trains the method .* and cannot judge it"):
        Experiment("ag-gan+", matcher=str(description))
