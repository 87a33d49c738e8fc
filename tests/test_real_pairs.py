"""The main job on real faces, in small. Everything that is written stays in the test's
temporary folder.
"""

import json

import pytest
from conftest import REAL_PAIRS, REAL_WEIGHTS, aggan

from aggan.data import open_pairs
from aggan.recognition.alignment import frame_landmarks

MOBILEFACENET = REAL_WEIGHTS / "foamliu_mobilefacenet" / "mobilefacenet.pt"
pytestmark = pytest.mark.skipif(
    not (REAL_PAIRS.is_dir() and MOBILEFACENET.is_file()),
    reason=f"the real pairs are not at {REAL_PAIRS} or the real MobileFaceNet is not at "
    f"{MOBILEFACENET}: set AGGAN_REAL_PAIRS and "
    "AGGAN_REAL_WEIGHTS to where they are",
)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """A store of the real pairs: detected, aligned, their iron palette turned into grey."""
    folder = tmp_path_factory.mktemp("real")
    aggan(
        "prepare",
        "--root",
        REAL_PAIRS,
        "--output",
        "prepared",
        "--size",
        64,
        "--detect",
        "--dataset-kwargs",
        '{"subject_pattern": "(.*)"}',
        cwd=folder,
    )
    return folder


def test_every_real_face_is_found_and_aligned(prepared):
    pairs = open_pairs("store", prepared / "prepared", "all", image_size=64)
    assert len(pairs) == 10 and "Left out" in (prepared / "prepared" / "report.html").read_text()
    for pair in pairs:
        assert (
            pair.meta["landmarks"].sub(frame_landmarks(64)).norm(dim=1).mean() < 8
        )  # faces in nine positions
        assert pair.thermal.std() > 0.1 and pair.visible.std() > 0.1


@pytest.mark.parametrize("method", ["ag-gan", "ag-gan+"])
def test_real_pairs_train_evaluate_and_explain(prepared, method):
    options = {
        "identity": str(MOBILEFACENET),
        "width": 16,
        "discriminator_width": 16,
        "learning_rate": 1e-3,
    }
    said = aggan(
        "train",
        "--method",
        method,
        "--dataset",
        "store",
        "--root",
        "prepared",
        "--profile",
        "demo",
        "--overrides",
        '{"steps": 30, "checkpoints": 2, "resamples": 50}',
        "--method-kwargs",
        json.dumps(options),
        "--dataset-kwargs",
        '{"split": "all"}',
        cwd=prepared,
    ).stdout
    run = prepared / said.splitlines()[-1]
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert rows[-1]["pixel"] < rows[0]["pixel"] and rows[-1]["identity"] < rows[0]["identity"]
    report = json.loads((run / "report.json").read_text())
    assert report["subjects"] == 10 and report["probes"] == 10 and report["test_seen_in_training"]
    assert 8 < report["psnr"] < 60 and 0 < report["ssim"] < 1
    aggan(
        "evaluate",
        "--weights",
        run,
        "--dataset",
        "store",
        "--root",
        "prepared",
        "--split",
        "all",
        "--output",
        "shown",
        "--overrides",
        '{"resamples": 50}',
        cwd=prepared,
    )
    assert (prepared / "shown" / "attention.png").stat().st_size > 10_000
