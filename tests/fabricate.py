"""Trees in the layouts of the real data sets, with rendered faces in frames of the real
cameras' sizes.
"""

import csv
import io
import zipfile

import numpy as np
from PIL import Image

from aggan.data.colormap import iron_palette
from aggan.synthetic.rendering import FaceKey, render

SIDE = 220  # pixels of a rendered face's frame within a camera's frame


def framed(face, width, height, left, top, dtype=np.uint8):
    """A rendered face (C, SIDE, SIDE) in [0, 1] somewhere in a camera's frame."""
    scale = 255 if dtype == np.uint8 else 3000
    pixels = (face.movedim(0, -1).numpy() * scale).astype(dtype).squeeze()
    frame = np.broadcast_to(pixels[0, 0], (height, width, *pixels.shape[2:])).copy()
    frame[top : top + SIDE, left : left + SIDE] = pixels
    return frame


def png(pixels):
    """The bytes of a PNG file."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def speakingfaces(root, subjects=(*range(1, 9), *range(101, 107)), positions=(1, 5), frames=(300,)):
    """The download's layout: a zip per subject with both trials, and subjects.csv."""
    people = [["Sub_ID", "Split", "Age", "Gender", "Ethnicity", "Acc_Trial_1", "Acc_Trial_2"]]
    (root / "image_only").mkdir(parents=True)
    for subject in subjects:
        keys = [
            FaceKey(subject, session=trial - 1, pose=position, frame=number)
            for trial in (1, 2)
            for position in positions
            for number in frames
        ]
        faces = render(keys, size=SIDE)
        with zipfile.ZipFile(root / "image_only" / f"sub_{subject}_io.zip", "w") as archive:
            for key, thermal, visible in zip(keys, iron_palette(faces.thermal), faces.visible):
                for stream, folder, image in (
                    (1, "thr_image", thermal),
                    (3, "rgb_image_aligned", visible),
                ):
                    name = f"{subject}_{key.session + 1}_1_{key.pose}_{key.frame}_{stream}.png"
                    archive.writestr(
                        f"sub_{subject}_io/trial_{key.session + 1}/{folder}/{name}",
                        png(framed(image, 464, 348, 120, 60)),
                    )
        people.append(
            [
                subject,
                "Train" if subject < 101 else "Valid" if subject < 121 else "Test",
                30,
                "Male" if subject % 2 else "Female",
                "Asian",
                "None",
                "Glasses" if subject % 3 else "None",
            ]
        )
    (root / "metadata").mkdir()
    with open(root / "metadata" / "subjects.csv", "w", newline="") as file:
        csv.writer(file).writerows(people)
    return root


def arl_vtf(root, dev=6, test=6):
    """metadata.csv, 16-bit thermal and 8-bit visible frames of two cameras that are not
    registered, and the lists.
    """
    rows, lists = [], {"gallery_0010": [], "probes_0010_baseline": [], "probes_0010_expression": []}
    people = [("dev", f"{n + 1:04}", n) for n in range(dev)] + [
        ("test", f"{n + 301:04}", n + 300) for n in range(test)
    ]
    for part, subject, number in people:
        for condition, frame in (("baseline", 0), ("baseline", 1), ("expression", 2)):
            face = render(
                [FaceKey(number, session=int(frame > 0), frame=frame, glasses=False)], size=SIDE
            )
            for camera, image, place, size, dtype in (
                ("FLIR_USB", face.thermal[0], (200, 150), (640, 512), np.uint16),
                ("BAS_RGB2", face.visible[0], (220, 120), (658, 492), np.uint8),
            ):
                path = f"{part}/{subject}/{condition}/{camera}_{frame:06}.png"
                (root / "images" / path).parent.mkdir(parents=True, exist_ok=True)
                (root / "images" / path).write_bytes(png(framed(image, *size, *place, dtype)))
                box = [
                    round(place[0] + 0.22 * SIDE),
                    round(place[1] + 0.18 * SIDE),
                    round(place[0] + 0.77 * SIDE),
                    round(place[1] + 0.92 * SIDE),
                ]
                if part == "test":
                    name = (
                        "gallery_0010"
                        if frame == 0 and camera == "BAS_RGB2"
                        else f"probes_0010_{condition}"
                        if frame and camera == "FLIR_USB"
                        else None
                    )
                    if name:
                        lists[name].append(len(rows))
                rows.append(
                    [
                        len(rows),
                        "2019-10-08 10:00:00",
                        camera,
                        condition,
                        "none" if number % 2 else "off",
                        subject,
                        path,
                        *box,
                    ]
                )
    with open(root / "metadata.csv", "w", newline="") as file:
        csv.writer(file).writerows(
            [
                [
                    "",
                    "timestamp",
                    "camera",
                    "condition",
                    "eyewear",
                    "subid",
                    "filepath",
                    "top_leftX",
                    "top_leftY",
                    "bottom_rightX",
                    "bottom_rightY",
                ],
                *rows,
            ]
        )
    for part in ("dev", "test"):
        (root / "splits" / part).mkdir(parents=True)
    own = [subject for part, subject, _ in people if part == "dev"]
    (root / "splits/dev/train0.txt").write_text("\n".join(own[:-2]))
    (root / "splits/dev/val0.txt").write_text("\n".join(own[-2:]))
    for name, numbers in lists.items():
        (root / f"splits/test/{name}.txt").write_text("\n".join(map(str, numbers)))
    return root
