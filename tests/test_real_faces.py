"""The shipped recognisers of real faces on AT&T's photographs, where these are at hand"""

import os
from pathlib import Path

import pytest
import torch
from PIL import Image
from torchvision.transforms.v2.functional import pil_to_tensor, resize

from aggan.data import collate, open_pairs
from aggan.data.prepare import prepare
from aggan.recognition import embed_faces, known_landmarks, load_embedder
from aggan.recognition.alignment import align, detect_face
from aggan.recognition.verification import verification


def att_faces():
    "Folder of the 400 photographs (s1/1.pgm … s40/10.pgm), or None"
    named = os.environ.get("AGGAN_ATT_FACES")
    folders = [up / "shared/data/att_faces" for up in Path(__file__).resolve().parents]
    places = [Path(named)] if named else folders
    return next((place for place in places if place.is_dir()), None)


def aligned(path):
    "A photograph, enlarged for the detector, as an aligned frame (3, 256, 256) in [-1, 1]"
    photo = pil_to_tensor(Image.open(path)) / 255
    photo = resize(photo, [487, 400], antialias=True).clamp(0, 1)
    return align(photo.expand(3, -1, -1) * 2 - 1, detect_face(photo).landmarks, 256)


@pytest.mark.soak
@pytest.mark.skipif(att_faces() is None, reason="AT&T's photographs were not found")
def test_att_photographs():
    "400 photographs of 40 people, every pair but a photograph with itself"
    paths = sorted(att_faces().glob("s*/*.pgm"))
    frames = torch.stack([aligned(path) for path in paths])
    subjects, names = [path.parent.name for path in paths], [str(path) for path in paths]
    for judge in ("dlib", "mobilefacenet"):
        embedder = load_embedder(judge)
        with torch.no_grad():
            vectors = torch.cat([embed_faces(embedder, part) for part in frames.split(50)])
        result = verification(vectors, subjects, vectors, subjects, 0, 0, names, names)
        print(f"{judge}: AUC {100 * result.auc:.2f} %, EER {100 * result.eer:.2f} %")
        assert result.auc >= 0.999 and result.eer <= 0.015


@pytest.mark.soak
@pytest.mark.skipif(att_faces() is None, reason="AT&T's photographs were not found")
def test_att_photographs_through_a_store(tmp_path):
    """The photographs as a folder of a folder for each person, as `aggan prepare` reads them."""
    for side in ("thermal", "visible"):  # there is no thermal camera: the photographs are both
        for path in att_faces().glob("s*/*.pgm"):
            copy = tmp_path / "own" / side / path.parent.name / f"{path.stem}.png"
            copy.parent.mkdir(parents=True, exist_ok=True)
            Image.open(path).save(copy)
    options = {"detect": True, "subject_pattern": "(s[0-9]+)/"}
    report = prepare(tmp_path / "own", tmp_path / "store", size=160, **options)
    assert report.written >= 399 and set(report.placed_by) <= {"detection", "several faces"}
    assert report.written + report.left_out.get("no face", 0) == 400
    pairs = open_pairs("store", tmp_path / "store", "all", image_size=160)
    assert len(set(pairs.subjects)) == 40
    embedder, vectors = load_embedder("dlib"), []
    for batch in torch.utils.data.DataLoader(pairs, 50, collate_fn=collate):
        with torch.no_grad():
            vectors.append(embed_faces(embedder, batch.visible, known_landmarks(batch)))
    vectors, names = torch.cat(vectors), [record.name for record in pairs.records]
    people = pairs.subjects
    result = verification(vectors, people, vectors, people, 0, 0, names, names)
    print(f"AUC {100 * result.auc:.2f} %, EER {100 * result.eer:.2f} %", *report.notes, sep="\n")
    assert result.auc >= 0.999 and result.eer <= 0.015
