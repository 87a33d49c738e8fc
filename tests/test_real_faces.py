"""The shipped recognisers of real faces on AT&T's photographs, where these are at hand"""

import os
from pathlib import Path

import pytest
import torch
from PIL import Image
from torchvision.transforms.v2.functional import pil_to_tensor, resize

from aggan.recognition import embed_faces, load_embedder
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
