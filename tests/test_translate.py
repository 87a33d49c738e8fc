"""A folder of faces holds what one network made of the thermal images as they are."""

import json
import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import numpy as np
import pytest
import torch
from filelock import FileLock
from PIL import Image

from aggan.data import StoredThermal
from aggan.data.prepare import prepare
from aggan.experiments import inference, translate_folder
from aggan.methods import create_method
from aggan.reproduction.command_line import main
from aggan.training import network_tensors, save_checkpoint

OPTIONS = {"image_size": 32, "width": 4, "discriminator_width": 4}


def image(seed, size=40):
    return Image.fromarray(np.random.default_rng(seed).integers(0, 255, (size, size), np.uint8))


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """Two checkpoints of untrained networks."""
    paths = [tmp_path_factory.mktemp("weights") / f"{name}.safetensors" for name in "ab"]
    for seed, path in enumerate(paths):
        torch.manual_seed(seed)
        method = create_method("pix2pix", **OPTIONS)
        header = {"method": "pix2pix", "method_kwargs": OPTIONS}
        save_checkpoint(path, network_tensors(method), header)
    return paths


@pytest.fixture
def thermal(tmp_path):
    """Four images, one of them in a subfolder."""
    folder = tmp_path / "thermal"
    (folder / "deep").mkdir(parents=True)
    for seed, name in enumerate(("a.png", "b.png", "c.png", "deep/d.png")):
        image(seed).save(folder / name)
    return folder


@pytest.fixture
def translate(weights, thermal, capsys):
    """Call `aggan translate`; its exit code and what it printed last."""

    def call(output, *options, source=thermal, by=weights[0]):
        places = (by, "--input", source, "--output", output)
        code = main(list(map(str, ("translate", *places, *options))))
        printed = capsys.readouterr()
        text = printed.err if code else printed.out
        assert "Traceback" not in printed.err
        return code, text[text.index("aggan: ") if code else 0 :]

    return call


def faces(folder):
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*.png")}


FOUR = {"a.png", "b.png", "c.png", "deep/d.png"}


def test_counts_of_what_was_done_and_what_was_there(translate, tmp_path):
    code, text = translate(tmp_path / "out")
    assert code == 0 and "4 images translated into" in text and "0 already there" in text
    code, text = translate(tmp_path / "out")
    assert code == 0 and "0 images translated into" in text and "4 already there" in text
    assert faces(tmp_path / "out") == FOUR


@pytest.mark.parametrize("output", ["thermal", ".", "thermal/deep/.."])
def test_output_that_contains_the_input(translate, thermal, tmp_path, output):
    before = {path: path.read_bytes() for path in thermal.rglob("*.png")}
    code, text = translate(tmp_path / output)
    assert code == 1 and "contains the thermal images" in text
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_output_inside_the_input_is_never_translated(translate, thermal, weights):
    for name, by, counts in (
        ("faces", weights[0], "4 images translated"),
        ("faces", weights[0], "4 already there"),
        ("others", weights[1], "4 images translated"),
        ("faces", weights[0], "4 already there"),
    ):
        code, text = translate(thermal / name, by=by)
        assert code == 0 and counts in text
        assert faces(thermal / name) == FOUR
    code, text = translate(thermal / "again", source=thermal / "faces")
    assert code == 1 and "holds faces that aggan translate made" in text


def test_changed_images_are_translated_again(translate, thermal, tmp_path):
    output = tmp_path / "out"
    translate(output)
    old = {name: (output / name).read_bytes() for name in FOUR}
    image(9).save(thermal / "b.png")
    (output / "c.png").unlink()
    code, text = translate(output)
    assert code == 0 and "2 images translated" in text and "2 already there" in text
    changed = {name for name in FOUR if (output / name).read_bytes() != old[name]}
    assert changed == {"b.png"}


def test_images_of_the_same_names_in_another_place_are_refused(translate, thermal, tmp_path):
    translate(tmp_path / "out")
    old = {name: (tmp_path / "out" / name).read_bytes() for name in FOUR}
    other = tmp_path / "other"
    other.mkdir()
    image(8).save(other / "b.png")
    image(8).save(other / "new.png")
    for source in (other, other / "b.png"):
        code, text = translate(tmp_path / "out", source=source)
        assert code == 1 and "was made from" in text and str(other / "b.png") in text
        assert {name: (tmp_path / "out" / name).read_bytes() for name in FOUR} == old
        assert faces(tmp_path / "out") == FOUR
    assert "4 already there" in translate(tmp_path / "out")[1]


@pytest.mark.parametrize("way", [shutil.copytree, shutil.move])
def test_a_source_that_was_copied_or_moved_is_the_same(translate, thermal, tmp_path, way):
    translate(tmp_path / "out")
    way(thermal, tmp_path / "elsewhere")
    if way == shutil.copytree:
        os.utime(tmp_path / "elsewhere" / "a.png")  # copied without its time
    for _ in range(2):
        code, text = translate(tmp_path / "out", source=tmp_path / "elsewhere")
        assert code == 0 and "4 already there" in text
    image(9).save(tmp_path / "elsewhere" / "a.png")
    code, text = translate(tmp_path / "out", source=tmp_path / "elsewhere")
    assert code == 0 and "1 images translated" in text


def test_notes_without_the_files_are_read(translate, thermal, tmp_path):
    note = tmp_path / "out" / "translation.json"
    translate(tmp_path / "out")
    before = json.loads(note.read_text())
    note.write_text(json.dumps({name: before[name] for name in ("weights", "sources")}))
    image(9).save(thermal / "b.png")
    code, text = translate(tmp_path / "out")
    assert code == 0 and "1 images translated" in text and "3 already there" in text
    assert json.loads(note.read_text())["files"] == before["files"]


def test_no_old_face_stands_for_a_changed_image_that_is_damaged(translate, thermal, tmp_path):
    translate(tmp_path / "out")
    (thermal / "b.png").write_bytes(b"")
    code, text = translate(tmp_path / "out")
    assert code == 1 and "b.png is not an image" in text
    image(9).save(thermal / "b.png")
    path = thermal / "b.png"
    path.write_bytes(path.read_bytes()[:-200])
    code, text = translate(tmp_path / "out")
    assert code == 1 and "b.png is truncated" in text
    assert faces(tmp_path / "out") == FOUR - {"b.png"}


def test_damaged_images_are_named_when_the_others_are_done(translate, thermal, tmp_path):
    (thermal / "empty.png").touch()
    (thermal / "text.png").write_text("no image")
    (thermal / "cut.png").write_bytes((thermal / "a.png").read_bytes()[:-200])
    image(7).save(thermal / "a.bmp")
    code, text = translate(tmp_path / "out")
    assert code == 1 and "4 images translated into" in text and "4 could not be read" in text
    for part in ("empty.png is", "text.png is", "cut.png is truncated", "two images of one name"):
        assert part in text
    assert faces(tmp_path / "out") == FOUR


def test_frames_that_rendered_faces_do_not_resemble_are_said(weights, tmp_path):
    wide, coloured = tmp_path / "wide", tmp_path / "coloured"
    for folder, mode in ((wide, "L"), (coloured, "RGB")):
        folder.mkdir()
        image(1).resize((60, 40) if mode == "L" else (40, 40)).convert(mode).save(folder / "a.png")
    with pytest.warns(UserWarning, match="not square, are taken whole: `--align auto`"):
        translate_folder(weights[0], wide, tmp_path / "faces")
    photograph = np.random.default_rng(0).integers(0, 255, (40, 40, 3), np.uint8)
    Image.fromarray(photograph).save(coloured / "b.png")
    with pytest.raises(ValueError, match="b: .* trained on thermal images in grey"):
        translate_folder(weights[0], coloured, tmp_path / "others")
    assert faces(tmp_path / "others") == {"a.png"}


@pytest.mark.parametrize("size", [0, -2])
def test_batches_of_at_least_one(translate, tmp_path, size):
    code, text = translate(tmp_path / "out", "--batch-size", size)
    assert code == 2 and f"batch-size must be a whole number ≥ 1, not {size}" in text
    assert not (tmp_path / "out").exists()


def test_pictures_of_others_are_not_overwritten(translate, tmp_path):
    output = tmp_path / "out"
    output.mkdir()
    image(8).save(output / "b.png")
    before = (output / "b.png").read_bytes()
    code, text = translate(output)
    assert code == 1 and "b.png is there and was not made by aggan translate" in text
    assert (output / "b.png").read_bytes() == before and faces(output) == {"b.png"}


def test_other_weights_need_another_folder(translate, weights, tmp_path):
    translate(tmp_path / "out")
    before = {name: (tmp_path / "out" / name).read_bytes() for name in FOUR}
    code, text = translate(tmp_path / "out", by=weights[1])
    assert code == 1 and "made with other weights" in text
    assert {name: (tmp_path / "out" / name).read_bytes() for name in FOUR} == before


def test_an_interrupted_translation_goes_on(translate, weights, thermal, tmp_path, monkeypatch):
    output, save, calls = tmp_path / "out", inference.save_faces, []

    def save_once(*made):
        calls.append(made)
        if len(calls) > 1:
            raise KeyboardInterrupt
        return save(*made)

    with monkeypatch.context() as patch:
        patch.setattr(inference, "save_faces", save_once)
        patch.setattr(os, "cpu_count", lambda: 1)
        places = (weights[0], "--input", thermal, "--output", output)
        assert main(list(map(str, ("translate", *places, "--batch-size", 1)))) == 130
    assert len(faces(output)) == 1
    first = next(output.rglob("*.png"))
    written = first.stat().st_mtime_ns
    code, text = translate(output)
    assert code == 0 and "3 images translated" in text and "1 already there" in text
    assert first.stat().st_mtime_ns == written and faces(output) == FOUR


def test_a_note_without_sources_keeps_its_faces(translate, thermal, tmp_path):
    output = tmp_path / "out"
    translate(output)
    note = json.loads((output / "translation.json").read_text())
    del note["sources"]
    (output / "translation.json").write_text(json.dumps(note))
    os.utime(output / "c.png", ns=(1, 1))  # older than its thermal image
    code, text = translate(output)
    assert code == 0 and "1 images translated" in text and "3 already there" in text
    assert len(json.loads((output / "translation.json").read_text())["sources"]) == 4


def test_a_locked_folder(translate, tmp_path):
    (tmp_path / "out").mkdir()
    with FileLock(tmp_path / "out" / "translation.lock"):
        code, text = translate(tmp_path / "out")
    assert code == 1 and "Another process is translating into" in text
    assert faces(tmp_path / "out") == set()


def test_two_networks_started_together_do_not_mix(weights, thermal, tmp_path):
    expected = [tmp_path / path.stem for path in weights]
    for path, folder in zip(weights, expected):
        translate_folder(path, thermal, folder)
    start = Barrier(2)

    def call(path, output):
        start.wait()
        try:
            return translate_folder(path, thermal, output, batch_size=1).translated
        except (RuntimeError, ValueError) as error:
            return str(error)

    for trial in range(6):
        output = tmp_path / str(trial)
        with ThreadPoolExecutor(2) as pool:
            results = list(pool.map(call, weights, [output] * 2))
        (winner,) = [index for index, result in enumerate(results) if result == 4]
        refused = results[1 - winner]
        assert "Another process is translating" in refused or "other weights" in refused
        assert faces(output) == FOUR
        for name in FOUR:
            made, right = (
                np.asarray(Image.open(f / name), int) for f in (output, expected[winner])
            )
            assert np.abs(made - right).max() <= 1


def test_a_store_whose_source_changed(translate, thermal, tmp_path):
    store, output = tmp_path / "store", tmp_path / "out"

    def align():
        prepare(thermal, store, dataset="thermal", size=32, workers=1)

    align()
    code, text = translate(output, source=store)
    assert code == 0 and "4 images translated" in text
    assert "\n0 images translated" in translate(output, source=store)[1]
    image(9).save(thermal / "b.png")
    shutil.rmtree(store)  # a store keeps what it has
    align()
    stamps = StoredThermal(store, 32).source_stamps
    code, text = translate(output, source=store)
    assert code == 0 and "1 images translated" in text and "3 already there" in text
    assert json.loads((output / "translation.json").read_text())["sources"] == stamps
