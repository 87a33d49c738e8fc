"""Trees in the layouts of the real data sets: rendered faces in frames of the cameras' sizes."""

import csv
import io
import zipfile

import numpy as np
from PIL import Image

from aggan.data.colormap import iron_palette
from aggan.synthetic.rendering import FaceKey, render

SIDE = 220  # pixels of a rendered face within a camera's frame


def framed(face, width, height, left, top, dtype=np.uint8):
    """A rendered face (C, SIDE, SIDE) in [0, 1] at a position of a camera's frame."""
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


def write_csv(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", newline="") as file:
        csv.writer(file).writerows(rows)


def speakingfaces(root, subjects=(*range(1, 9), *range(101, 107)), positions=(1, 5), frames=(300,)):
    """The download of SpeakingFaces: a zip per subject with both trials, and subjects.csv."""
    (root / "image_only").mkdir(parents=True)
    for subject in subjects:
        keys = [
            FaceKey(subject, session=session, pose=position, frame=number)
            for session in (0, 1)
            for position in positions
            for number in frames
        ]
        speakingfaces_zip(root / "image_only" / f"sub_{subject}_io.zip", subject, keys)
    header = ["Sub_ID", "Split", "Age", "Gender", "Ethnicity", "Acc_Trial_1", "Acc_Trial_2"]
    rows = [speakingfaces_row(subject) for subject in subjects]
    write_csv(root / "metadata" / "subjects.csv", [header, *rows])
    return root


def speakingfaces_zip(path, subject, keys):
    """Thermal frames in the iron palette and visible frames of one subject."""
    faces = render(keys, size=SIDE)
    with zipfile.ZipFile(path, "w") as archive:
        for key, thermal, visible in zip(keys, iron_palette(faces.thermal), faces.visible):
            trial = key.session + 1
            for stream, folder, image in (
                (1, "thr_image", thermal),
                (3, "rgb_image_aligned", visible),
            ):
                name = f"{subject}_{trial}_1_{key.pose}_{key.frame}_{stream}.png"
                pixels = png(framed(image, 464, 348, 120, 60))
                archive.writestr(f"sub_{subject}_io/trial_{trial}/{folder}/{name}", pixels)


def speakingfaces_row(subject):
    """A row of subjects.csv."""
    split = "Train" if subject < 101 else "Valid" if subject < 121 else "Test"
    gender = "Male" if subject % 2 else "Female"
    glasses = "Glasses" if subject % 3 else "None"
    return [subject, split, 30, gender, "Asian", "None", glasses]


ARL_HEADER = ["", "timestamp", "camera", "condition", "eyewear", "subid", "filepath"]
ARL_HEADER += ["top_leftX", "top_leftY", "bottom_rightX", "bottom_rightY"]
ARL_CAMERAS = {  # name: position of the face, size of the frame, type of the pixels
    "FLIR_USB": ((200, 150), (640, 512), np.uint16),
    "BAS_RGB2": ((220, 120), (658, 492), np.uint8),
}


def arl_vtf(root, dev=6, test=6):
    """ARL-VTF: metadata.csv, frames of two cameras that are not registered, and the lists."""
    subjects = [("dev", n) for n in range(dev)] + [("test", n + 300) for n in range(test)]
    rows, lists = [], {"gallery_0010": [], "probes_0010_baseline": [], "probes_0010_expression": []}
    for part, number in subjects:
        for condition, frame in (("baseline", 0), ("baseline", 1), ("expression", 2)):
            key = FaceKey(number, session=int(frame > 0), frame=frame, glasses=False)
            face = render([key], size=SIDE)
            for camera, image in zip(ARL_CAMERAS, (face.thermal[0], face.visible[0])):
                name = arl_list(condition, frame, camera) if part == "test" else None
                if name:
                    lists[name].append(len(rows))
                row = arl_frame(root, part, number, condition, frame, camera, image)
                rows.append([len(rows), *row])
    write_csv(root / "metadata.csv", [ARL_HEADER, *rows])
    for part in ("dev", "test"):
        (root / "splits" / part).mkdir(parents=True)
    names = [f"{n + 1:04}" for n in range(dev)]
    (root / "splits/dev/train0.txt").write_text("\n".join(names[:-2]))
    (root / "splits/dev/val0.txt").write_text("\n".join(names[-2:]))
    for name, numbers in lists.items():
        (root / f"splits/test/{name}.txt").write_text("\n".join(map(str, numbers)))
    return root


def arl_list(condition, frame, camera):
    """The list of a test frame: the first visible one is gallery, later thermal ones are probes."""
    if camera == "BAS_RGB2":
        return "gallery_0010" if frame == 0 else None
    return f"probes_0010_{condition}" if frame else None


def arl_frame(root, part, number, condition, frame, camera, image):
    """Write one frame; its row of metadata.csv without the index."""
    (left, top), size, dtype = ARL_CAMERAS[camera]
    subject = f"{number + 1:04}"
    path = f"{part}/{subject}/{condition}/{camera}_{frame:06}.png"
    (root / "images" / path).parent.mkdir(parents=True, exist_ok=True)
    (root / "images" / path).write_bytes(png(framed(image, *size, left, top, dtype)))
    box = [left + 0.22 * SIDE, top + 0.18 * SIDE, left + 0.77 * SIDE, top + 0.92 * SIDE]
    eyewear = "none" if number % 2 else "off"
    time = "2019-10-08 10:00:00"
    return [time, camera, condition, eyewear, subject, path, *map(round, box)]
