"""Given locations of faces: what cannot be a face is named, and left out or refused."""

import contextlib
import io

import pytest
import torch
from torchvision.transforms.v2.functional import to_pil_image

from aggan.data.store import StoreFiles
from aggan.reproduction.command_line import main
from aggan.synthetic.rendering import FaceKey, render

PEOPLE, WIDTH, HEIGHT = 4, 240, 180  # pictures in which each face has 140 pixels
POINTS = "image," + ",".join(f"{axis}{n}" for n in range(1, 6) for axis in "xy")
BOXES = "image,left,top,right,bottom"


@pytest.fixture(scope="module")
def faces():
    return render([FaceKey(subject, pose=1 + subject) for subject in range(PEOPLE)], size=140)


@pytest.fixture
def folder(tmp_path, faces):
    """A folder `pairs` of registered pictures with a face right of the middle."""
    for number in range(PEOPLE):
        for side, images in (("thermal", faces.thermal), ("visible", faces.visible)):
            picture = torch.full((len(images[0]), HEIGHT, WIDTH), 0.3)
            picture[:, 20:160, 90:230] = images[number]
            path = tmp_path / "pairs" / side / f"{number}_0.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            to_pil_image(picture).save(path)
    return tmp_path


def run(folder, header, rows, *options):
    """Exit code and last words of `aggan prepare` with a file of locations."""
    lines = [f"{name},{','.join(map(str, numbers))}" for name, numbers in rows]
    (folder / "faces.csv").write_text("\n".join([header, *lines]))
    said, errors = io.StringIO(), io.StringIO()
    people = ("--subject-pattern", "one picture each")
    command = ("prepare", "--root", "pairs", "--output", "store", "--size", "64", *options)
    with (
        contextlib.chdir(folder),
        contextlib.redirect_stdout(said),
        contextlib.redirect_stderr(errors),
    ):
        code = main([*command, *people, "--faces", "faces.csv", "--workers", "0"])
    return code, said.getvalue() + errors.getvalue()


def landmarks(faces, number):
    return faces.landmarks[number] + torch.tensor([90.0, 20.0])


CHANGES = {  # what is done to the points, and what is said of them
    "fractions": (lambda p: p / torch.tensor([WIDTH, HEIGHT]), "span 0."),
    "outside": (lambda p: p + 300, "are outside the picture of 240 x 180 pixels"),
    "x and y": (lambda p: p.flip(1), "have the left eye right of the right one"),
    "left and right": (lambda p: p[[1, 0, 2, 4, 3]], "have the left eye right of the right one"),
    "up and down": (
        lambda p: torch.tensor([0.0, HEIGHT]) + p * torch.tensor([1.0, -1.0]),
        "have the eyes below the mouth",
    ),
    "corners of the mouth": (lambda p: p[[0, 1, 2, 4, 3]], "are 0.48 eye distances from"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_landmarks_of_no_face(folder, faces, change):
    changed, words = CHANGES[change]
    points = [landmarks(faces, number) for number in range(PEOPLE)]
    names = [f"pairs/thermal/{number}_0.png" for number in range(PEOPLE)]
    rows = list(zip(names, [changed(points[0]), *points[1:]]))
    code, said = run(folder, POINTS, [(name, p.flatten().tolist()) for name, p in rows])
    assert code == 0 and "3 pairs written, 0 kept, 1 left out" in said
    assert f"1 x wrong place: pairs/thermal/0_0.png: the face's landmarks {words}" in said
    rows = [(name, changed(p).flatten().tolist()) for name, p in zip(names, points)]
    code, said = run(folder, POINTS, rows, "--output", "none")
    assert code == 1 and "no pair is left" in said and words in said


BOX = (120, 50, 195, 150)


@pytest.mark.parametrize(
    "box, words",
    [
        ((0.5, 0.28, 0.81, 0.83), "boxes are in pixels, not in fractions"),
        ((300, 50, 375, 150), "is outside the picture of 240 x 180 pixels"),
        ((120, 50, 75, 100), "not a width and height"),
        ((20, 50, 220, 90), "200 pixels wide and 40 high"),
    ],
)
def test_boxes_of_no_face(folder, box, words):
    rows = [(f"pairs/thermal/{n}_0.png", box if n == 0 else BOX) for n in range(PEOPLE)]
    code, said = run(folder, BOXES, rows)
    assert code == 0 and "1 x wrong place: pairs/thermal/0_0.png: the face's box" in said
    assert words in said and "located by: box 3" in said


def test_rows_without_a_picture(folder):
    rows = [("pairs/thermal/0_0.png", BOX), ("pairs/thermal/9_0.png", BOX)]
    code, said = run(folder, BOXES, rows)
    assert code == 0 and "1 of 2 rows of faces.csv name no picture of the data" in said
    assert "9_0.png" in said and "box 1, whole 3" in said.replace(
        "whole 3, box 1", "box 1, whole 3"
    )
    page = (folder / "store" / "report.html").read_text()
    assert "1 of 2 rows" in page
    code, said = run(folder, BOXES, [(f"thermal/{n}_0.png", BOX) for n in range(PEOPLE)])
    assert code == 1 and "4 of 4 rows of faces.csv name no picture of the data" in said
    assert "e.g. pairs/thermal/0_0.png" in said


def test_boxes_with_x_and_y_swapped(folder):
    left, top, right, bottom = BOX
    swapped = (top, left, bottom, right)
    rows = [(f"pairs/thermal/{n}_0.png", swapped) for n in range(PEOPLE)]
    code, said = run(folder, BOXES, rows)
    assert code == 1 and "are x and y swapped?" in said
    assert not (folder / "store").exists()


def test_several_faces(folder, faces):
    """The large face near the centre is taken, and the picture is counted."""
    other = render([FaceKey(50)], size=70).visible[0]
    picture = torch.full((3, HEIGHT, WIDTH), 0.3)
    picture[:, 20:160, 90:230] = faces.visible[1]
    picture[:, 90:160, 10:80] = other
    to_pil_image(picture).save(folder / "pairs" / "visible" / "1_0.png")
    code, said = run(folder, BOXES, [("pairs/thermal/1_0.png", BOX)], "--detect")
    assert code == 0 and "pictures that show several faces: 1;" in said
    assert "detection 3, several faces 1" in said and "found a face in 4 of 4 pictures" in said
    files = StoreFiles(folder / "store")
    sql = "SELECT box FROM pairs WHERE placed_by = 'several faces'"
    left, _, right, _ = map(float, files.query(sql).fetchone()[0].split())
    assert 90 < (left + right) / 2 < 230
