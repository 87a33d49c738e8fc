"""Faces in thermal images alone: rendered people, empty images, whole frames, real people."""

import numpy as np
import pytest
import torch
from conftest import REAL_PAIRS
from test_real_faces import att_faces
from torch.nn import functional as F
from torchvision.transforms.v2.functional import resize, to_pil_image

from aggan.data.colormap import iron_palette
from aggan.data.images import read_image
from aggan.data.prepare import prepare
from aggan.data.thermal_points import CONFIDENT, locate_thermal_faces, temperature
from aggan.data.thermal_training import point_distances
from aggan.recognition.alignment import detect_face
from aggan.synthetic.rendering import FaceKey, render

SUBJECTS = range(5_000_000, 5_000_004)  # in no protocol and no training


@pytest.fixture(scope="module")
def faces():
    """36 rendered people in nine poses, with glasses as worn."""
    return render([FaceKey(n, n % 2, pose) for n in SUBJECTS for pose in range(1, 10)], size=128)


def test_points_of_rendered_people(faces):
    points, confidence = locate_thermal_faces(faces.thermal)
    distances = point_distances(points, faces.landmarks)
    assert distances.median() <= 0.06
    right = distances < 0.15
    assert right.float().mean() >= 0.95 and (confidence[right] >= CONFIDENT).float().mean() > 0.9


@pytest.mark.parametrize("how", ["inverted", "iron", "faded iron", "bytes"])
def test_points_do_not_depend_on_how_temperature_is_shown(faces, how):
    frontal = faces.thermal[::9]
    shown = {
        "inverted": lambda: 1 - frontal,
        "iron": lambda: (iron_palette(frontal) * 255).round().to(torch.uint8),
        "faded iron": lambda: 0.9 * iron_palette(frontal) + 0.05,
        "bytes": lambda: (frontal * 255).round().to(torch.uint8),
    }[how]()
    points, confidence = locate_thermal_faces(shown)
    assert point_distances(points, faces.landmarks[::9]).median() <= 0.08
    assert confidence.median() >= CONFIDENT


def empty_images():
    """Images that show no face."""
    noise = torch.Generator().manual_seed(0)
    yield torch.full((1, 90, 120), 0.4)
    yield torch.zeros(1, 8, 8)
    yield torch.rand(1, 120, 160, generator=noise)
    yield F.interpolate(torch.rand(1, 1, 7, 9, generator=noise), (140, 180), mode="bilinear")[0]
    yield torch.linspace(0, 1, 200).expand(1, 150, 200)
    checks = (torch.arange(160)[:, None] // 20 + torch.arange(160) // 20) % 2
    yield checks[None].float()


def test_images_without_a_face_have_low_confidence():
    confidence = locate_thermal_faces(list(empty_images()))[1]
    assert (confidence < CONFIDENT).all(), confidence


@pytest.mark.parametrize(("size", "left", "top"), [(90, 20, 90), (140, 250, 20), (200, 150, 30)])
def test_a_face_is_found_in_a_whole_frame(faces, size, left, top):
    face = F.interpolate(faces.thermal[:1], size=size, mode="bilinear", antialias=True)[0]
    frame = torch.full((1, 240, 400), 0.05)
    frame[:, top : top + size, left : left + size] = face
    points, confidence = locate_thermal_faces([frame])
    truth = faces.landmarks[:1] * size / 128 + torch.tensor([left, top])
    assert point_distances(points, truth) < 0.15 and confidence >= CONFIDENT


def test_prepare_locates_thermal_images_alone(faces, tmp_path):
    """A thermal image with a face is aligned by it; one without is cropped, counted and named."""
    (tmp_path / "thermal").mkdir()
    for n in range(4):
        to_pil_image(faces.thermal[n * 9]).save(tmp_path / "thermal" / f"p{n}_0.png")
    to_pil_image(torch.full((1, 90, 120), 0.4)).save(tmp_path / "thermal" / "p4_0.png")
    report = prepare(tmp_path / "thermal", tmp_path / "store", "thermal", size=64, detect=True)
    assert report.placed_by == {"thermal points": 4, "centre": 1}
    assert any("no face was found" in note and "p4_0" in note for note in report.notes)
    assert "No face found" in (tmp_path / "store" / "report.html").read_text()


@pytest.fixture(scope="module")
def real():
    """Names, thermal images, and MTCNN's points in the registered visible images."""
    if not REAL_PAIRS.is_dir():
        pytest.skip(f"needs the real pairs {REAL_PAIRS} (AGGAN_REAL_PAIRS)")
    paths = sorted((REAL_PAIRS / "thermal").glob("*.png"))
    visible = [detect_face(read_image(REAL_PAIRS / "visible" / path.name)) for path in paths]
    truth = torch.stack([face.landmarks for face in visible])
    return [path.stem for path in paths], [read_image(path) for path in paths], truth


def edges(image):
    """Logarithm of the gradient's length, of a grey image (H, W) in [0, 1]."""
    return np.log1p(255 * np.hypot(*np.gradient(image)))


def mutual_information(one, other):
    """Normalised mutual information, without the corner where a digit is printed."""
    chosen = np.ones(one.shape, bool)
    chosen[:50, :50] = False
    joint = np.histogram2d(one[chosen], other[chosen], 24)[0] / chosen.sum()

    def entropy(shares):
        return -np.sum(shares[shares > 0] * np.log(shares[shares > 0]))

    return (entropy(joint.sum(0)) + entropy(joint.sum(1))) / entropy(joint)


def remaining_shift(thermal, visible):
    """Shift of a thermal image against its visible partner, by their edges (x, y in pixels)."""
    height, width = visible.shape
    rows, columns = np.arange(24, height - 24), np.arange(16, width - 16)
    fixed = edges(visible[np.ix_(rows, columns)])
    shifts = [(x, y) for y in range(-24, 25, 2) for x in range(-16, 17, 2)]
    scores = [
        mutual_information(edges(thermal[np.ix_(rows + y, columns + x)]), fixed) for x, y in shifts
    ]
    return torch.tensor(shifts[int(np.argmax(scores))], dtype=torch.float32)


FRONTAL = ("ninepos_p1", "ninepos_p2", "ninepos_p3", "session1_full")
# Shift of the thermal against the visible image (x, y in pixels), read by eye from brows, eyes,
# glasses, nostrils and mouth, which both images of a pair show.
SHIFT = {
    "ninepos_p1": (1, 0),
    "ninepos_p2": (0, -11),
    "ninepos_p3": (0, -16),
    "ninepos_p4": (1, -7),
    "ninepos_p5": (-4, -5),
    "ninepos_p6": (7, -5),
    "ninepos_p7": (0, -15),
    "ninepos_p8": (-7, -18),
    "ninepos_p9": (10, -8),
    "session1_full": (7.5, -3),
}


def test_points_of_real_faces(real):
    """Points as the pairs are registered, and with the shift of each pair that was read by eye;
    the second comparison was chosen after the first one's result was known."""
    names, images, truth = real
    points, confidence = locate_thermal_faces(images)
    distances = point_distances(points, truth)
    assert distances.median() < 0.17 and distances.max() < 0.3, distances
    shift = torch.tensor([SHIFT[name] for name in names])
    distances = point_distances(points, truth + shift[:, None])
    near = dict(zip(names, (distances < 0.15).tolist()))
    assert sum(near.values()) >= 8 and all(near[name] for name in FRONTAL), (near, distances)
    assert distances.median() < 0.13 and distances.max() < 0.2, distances
    assert confidence[distances >= 0.15].max() < confidence[distances < 0.15].median()
    boards = sorted((REAL_PAIRS / "calibration").glob("*_0.png"))
    assert (locate_thermal_faces([read_image(path) for path in boards])[1] < CONFIDENT).all()


@pytest.mark.soak
def test_pairs_are_shifted_as_was_read(real):
    """The edges of the images of a pair confirm the shift that was read by eye; in some pairs it is
    larger than the error that is asked for."""
    names, images, truth = real
    read = torch.tensor([SHIFT[name] for name in names])
    eye_distance = (truth[:, 1] - truth[:, 0]).norm(dim=-1)
    assert (read.norm(dim=-1) / eye_distance > 0.15).sum() >= 4
    apart = []
    for name, image, own in zip(names, images, read):
        visible = read_image(REAL_PAIRS / "visible" / f"{name}.png").float().mean(0) / 255
        shown = remaining_shift(temperature(image)[0].numpy(), visible.numpy())
        apart.append((shown - own).norm().item())
    assert sum(distance < 6 for distance in apart) >= 8, dict(zip(names, apart))


@pytest.mark.skipif(att_faces() is None, reason="AT&T's photographs were not found")
def test_points_of_photographs():
    """Real faces in visible light, of which training has seen none, against MTCNN's points."""
    photos = [read_image(path) for path in sorted(att_faces().glob("s*/1.pgm"))[::2]]
    photos = [resize(photo, [224, 184], antialias=True) for photo in photos]
    truth = torch.stack([detect_face(photo.expand(3, -1, -1)).landmarks for photo in photos])
    points, confidence = locate_thermal_faces(photos)
    distances = point_distances(points, truth)
    assert distances.median() < 0.1 and (distances < 0.15).float().mean() >= 0.85, distances
    assert (confidence >= CONFIDENT).float().mean() >= 0.9
    offset = (points - truth) / (truth[:, 1] - truth[:, 0]).norm(dim=-1)[:, None, None]
    assert offset.median(0).values.abs().max() < 0.09  # of each point: no constant error
