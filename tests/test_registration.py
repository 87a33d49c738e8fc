"""Registration of two real cameras: by a marker board, and by real faces. Read from shared/data."""

import shutil

import numpy as np
import pytest
import torch
from conftest import REAL_PAIRS
from torchvision.transforms.v2.functional import to_pil_image

from aggan.data.images import read_image, to_unit
from aggan.data.pairs import FaceLocation, PairRecord, Source
from aggan.data.prepare import REGISTRATION, Options, find_registration
from aggan.data.registration import (
    Registration,
    board_match,
    fit_homography,
    read_grey,
    register_by_boards,
    register_by_faces,
    residuals,
)
from aggan.recognition.alignment import detect_face, transform_homography, warp_homography
from aggan.runtime.files import write_json

BOARDS = REAL_PAIRS / "calibration"
needs_pairs = pytest.mark.skipif(
    not BOARDS.is_dir(), reason=f"needs the real pairs {REAL_PAIRS} (AGGAN_REAL_PAIRS)"
)


@needs_pairs
def test_marker_board_of_speakingfaces(tmp_path):
    """Each picture fits a homography to a pixel; the set fits one up to the boards' distances."""
    for stream, side in (("0", "thermal"), ("1", "visible")):
        (tmp_path / side).mkdir()
        for path in BOARDS.glob(f"*_{stream}.png"):
            shutil.copy(path, tmp_path / side / f"{path.stem[0]}.png")
    for name in ("1", "3", "9"):
        pair = (read_grey(tmp_path / side / f"{name}.png") for side in ("thermal", "visible"))
        match = board_match(*pair, "DICT_ARUCO_ORIGINAL")
        matrix, inliers = fit_homography([match])
        assert len(match.thermal) >= 40 and inliers == 1
        assert np.median(residuals([match], matrix)) < 0.03  # sides of a marker
    found = register_by_boards(tmp_path)
    assert found.pictures == 3 and found.sizes == ((464, 348), (768, 512))
    assert found.inliers > 0.9 and found.residual < 0.25
    # the homography of the data set's own scripts, which add a shift for each person
    own = [0.610394, -0.035835, -18.5440, -0.044503, 0.636676, 0.496059, -2.10778e-4, -1.79487e-4]
    matrices = [torch.tensor(m).view(3, 3) for m in (found.homography, [*own, 1.0])]
    points = torch.tensor([[300.0, 150.0], [450.0, 150.0], [450.0, 350.0], [300.0, 350.0]])
    moved = [transform_homography(matrix.float(), points) for matrix in matrices]
    assert (moved[0] - moved[1]).norm(dim=1).mean() < 15  # pixels


@needs_pairs
def test_real_faces_register_two_cameras(tmp_path):
    """The visible images, seen by a second camera, come back to the thermal ones' pixels."""
    camera = torch.tensor([[0.6, -0.03, -10.0], [-0.02, 0.62, -5.0], [-1e-4, -5e-5, 1.0]])
    sources = []
    for path in sorted((REAL_PAIRS / "visible").glob("ninepos_*.png")):
        photo = to_unit(read_image(path))
        points = tuple(detect_face(photo).landmarks.flatten().tolist())
        seen = warp_homography(photo, torch.linalg.inv(camera), 480, 400)
        to_pil_image(seen.clamp(0, 1)).save(tmp_path / path.name)
        record = PairRecord(path.stem, path.stem, visible=tmp_path / path.name)
        record = PairRecord(
            path.stem, path.stem, thermal=REAL_PAIRS / "thermal" / path.name, visible=record.visible
        )
        sources.append(Source(record, FaceLocation(points)))

    def read(source):
        return [to_unit(read_image(p)) for p in (source.record.thermal, source.record.visible)]

    found = register_by_faces(sources, read)
    assert found.pictures == 9 and found.inliers > 0.9 and found.residual < 0.1
    matrix = torch.tensor(found.homography).view(3, 3)
    points = torch.tensor([[60.0, 100.0], [150.0, 100.0], [150.0, 200.0], [60.0, 200.0]])
    there = transform_homography(torch.linalg.inv(camera), points)
    assert (transform_homography(matrix, there) - points).norm(dim=1).max() < 5  # eyes: 50 apart


def test_a_store_registered_otherwise_is_refused(tmp_path):
    facts = ((1.0,) * 9, ((4, 3), (4, 3)), "faces", 6, 1.0, 0.1, 1.0)
    write_json(tmp_path / REGISTRATION, Registration(*facts)._asdict())
    grey = Options(64, "grey", "image", "left", detect=True)
    with pytest.raises(ValueError, match="is registered by faces: run the same aggan prepare"):
        find_registration([], grey, tmp_path, tmp_path)
    assert find_registration([], grey, None, tmp_path).points == "faces"
