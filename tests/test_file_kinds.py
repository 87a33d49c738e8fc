"""Each kind of image file through `read_image`, `aggan prepare` and `aggan translate`."""

import contextlib
import io
import struct
import warnings

import numpy as np
import pytest
import torch
from PIL import Image

from aggan.data import open_pairs, read_image
from aggan.data.colormap import IRON_COLOURS
from aggan.data.store import StoreFiles, store_preparation
from aggan.methods import create_method
from aggan.reproduction.command_line import main
from aggan.training import network_tensors, save_checkpoint

SIDE, ORIENTATION = 48, 274
NAMES = ("ada_1", "ada_2", "bob_1", "bob_2")
PLANCK = dict(r1=21106.77, b=1501.0, f=1.0, o=-7340, r2=0.012545258)


def celsius(number, height=SIDE, width=SIDE):
    """Temperatures of a warm oval before a room, other ones for each number."""
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    return 21 + 16 * np.exp(-((x - 0.1 * number) ** 2) * 3 - y**2 * 2) + 0.5 * np.sin(9 * x + y)


def levels(degrees):
    """The 8-bit image of temperatures from 20 to 40 degrees."""
    return ((degrees - 20) / 20 * 255).round().clip(0, 255).astype(np.uint8)


def iron(degrees):
    """Temperatures in the colours of the iron palette, RGB."""
    return IRON_COLOURS.numpy().astype(np.uint8)[(levels(degrees) / 255 * 222).round().astype(int)]


def flir_jpeg(path, degrees):
    """A JPEG whose picture is uniform and whose FLIR records hold the temperatures."""
    spectrum = PLANCK["r1"] / (np.exp(PLANCK["b"] / (degrees + 273.15)) - PLANCK["f"])
    counts = (spectrum / PLANCK["r2"] - PLANCK["o"]).round().astype("<u2")
    raw = struct.pack("<HHH", 2, *counts.shape[::-1]).ljust(32, b"\0") + counts.tobytes()
    camera = bytearray(1100)
    struct.pack_into("<ffffff", camera, 32, 1.0, 0.0, 293.15, 293.15, 293.15, 1.0)
    struct.pack_into("<fff", camera, 88, PLANCK["r1"], PLANCK["b"], PLANCK["f"])
    struct.pack_into("<if", camera, 776, PLANCK["o"], PLANCK["r2"])
    start, entries = 64 + 4 * 32, b""
    for kind, record in ((1, raw), (32, camera)):
        entries += struct.pack(">HHIIII", kind, 1, 100, 1, start, len(record)).ljust(32, b"\0")
        start += len(record)
    head = (b"FFF\0".ljust(20, b"\0") + struct.pack(">III", 100, 64, 4)).ljust(64, b"\0")
    segment = b"FLIR\0\1\0\0" + head + entries.ljust(128, b"\0") + raw + bytes(camera)
    picture = io.BytesIO()
    Image.new("RGB", (96, 64), (90, 30, 120)).save(picture, "JPEG")
    app1 = b"\xff\xe1" + struct.pack(">H", len(segment) + 2) + segment
    path.write_bytes(picture.getvalue()[:2] + app1 + picture.getvalue()[2:])


def save_grey(path, degrees, mode="L", **options):
    Image.fromarray(levels(degrees)).convert(mode).save(path, **options)


def save_centikelvin(path, degrees):
    Image.fromarray(((degrees + 273.15) * 100).round().astype(np.uint16)).save(path)


def save_pgm(path, degrees):  # 14 bits, as uncooled cameras count
    counts = ((degrees - 20) * 800).round()
    height, width = counts.shape
    path.write_bytes(f"P5 {width} {height} 16383\n".encode() + counts.astype(">u2").tobytes())


def save_turned(path, degrees):
    tags = Image.Exif()
    tags[ORIENTATION] = 6  # to be turned clockwise when it is shown
    Image.fromarray(np.rot90(levels(degrees))).save(path, exif=tags)


def save_transparent(path, degrees):
    picture = Image.fromarray(levels(degrees)).convert("RGBA")
    picture.putalpha(255)
    picture.save(path)


def save_swapped(path, degrees):
    np.save(path, ((degrees - 20) * 800).round().astype(">u2"))


# kind: ending, thermal_range, levels of error, writer
KINDS = {
    "8-bit PNG": (".png", None, 0, save_grey),
    "BMP": (".bmp", None, 0, save_grey),
    "PGM": (".pgm", None, 0, save_grey),
    "JFIF": (".jfif", None, 2, lambda path, t: save_grey(path, t, format="JPEG", quality=95)),
    "WebP": (".webp", None, 0, lambda path, t: save_grey(path, t, "RGB", lossless=True)),
    "palette": (".gif", None, 0, save_grey),
    "alpha": (".png", None, 0, save_transparent),
    "CMYK": (".tif", None, 3, lambda path, t: save_grey(path, t, "CMYK")),
    "YCbCr": (".tif", None, 3, lambda path, t: save_grey(path, t, "YCbCr")),
    "iron colours": (".png", None, 2, lambda path, t: Image.fromarray(iron(t)).save(path)),
    "EXIF orientation": (".png", None, 0, save_turned),
    "16-bit PNG": (".png", "29315:31315", 1, save_centikelvin),
    "16-bit TIFF": (".tif", "29315:31315", 1, save_centikelvin),
    "14-bit PGM": (".pgm", "0:16000", 1, save_pgm),
    "float TIFF": (
        ".tif",
        "20:40",
        1,
        lambda path, t: Image.fromarray(t.astype(np.float32)).save(path),
    ),
    ".npy": (".npy", "20:40", 1, np.save),
    "big-endian .npy": (".npy", "0:16000", 1, save_swapped),
    ".csv": (".csv", "20:40", 1, lambda path, t: np.savetxt(path, t, fmt="%.3f", delimiter=",")),
    "FLIR JPEG": (".jpg", "293.15:313.15", 1, flir_jpeg),
}


def write_folder(folder, kind):
    """Four thermal images of two people, as files of one kind."""
    ending, _, _, save = KINDS[kind]
    folder.mkdir(parents=True)
    for number, name in enumerate(NAMES):
        save(folder / f"{name}{ending}", celsius(number))
    return folder


def run(*arguments, code=0):
    """The warnings, errors and output of a command, which must end with an exit code."""
    out, errors = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(errors):
        with warnings.catch_warnings(record=True) as heard:
            warnings.simplefilter("always", UserWarning)
            assert main(list(map(str, arguments))) == code, errors.getvalue()
    said = "\n".join(str(warning.message) for warning in heard)
    return "\n".join([said, errors.getvalue(), out.getvalue()])


@pytest.fixture(scope="module")
def make_weights(tmp_path_factory):
    """Weights of a small AG-GAN with a header that says how its images were prepared."""
    folder = tmp_path_factory.mktemp("weights")
    kwargs = dict(image_size=32, width=16, discriminator_width=16, identity="none")
    kwargs["discriminator_layers"] = [4]
    torch.manual_seed(0)
    method = create_method("ag-gan", **kwargs)

    def make(name, **preparation):
        header = {"method": "ag-gan", "method_kwargs": kwargs}
        header |= {"preparation": preparation} if preparation else {}
        save_checkpoint(folder / name, network_tensors(method), header)
        return folder / name

    return make


def stored(store):
    """The thermal images of a store, by name."""
    files = StoreFiles(store)
    names = files.query("SELECT name FROM pairs ORDER BY position").fetchall()
    return {name: pixels for (name,), pixels in zip(names, files.pixels("all"))}


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_is_prepared(kind, tmp_path):
    ending, thermal_range, error, _ = KINDS[kind]
    source = write_folder(tmp_path / "source", kind)
    pixels = read_image(source / f"ada_1{ending}")
    assert pixels.shape[1:] == (SIDE, SIDE)
    options = ("--thermal-range", thermal_range) if thermal_range else ()
    settings = ("--dataset", "thermal", "--root", source, "--output", tmp_path / "store")
    run("prepare", *settings, "--size", SIDE, "--workers", 0, *options)
    images = stored(tmp_path / "store")
    assert sorted(images) == sorted(NAMES)
    for number, name in enumerate(NAMES):
        difference = np.abs(images[name][0].astype(int) - levels(celsius(number)))
        assert difference.max() <= error, name


def faces(folder, kind, make_weights):
    """Thermal images of one kind, translated by `aggan translate`."""
    weights = make_weights("grey.safetensors", colours="grey")
    options = ("--thermal-range", KINDS[kind][1]) if KINDS[kind][1] else ()
    files = ("--input", write_folder(folder / "source", kind), "--output", folder / "translated")
    assert "4 images" in run("translate", weights, *files, *options)
    return np.stack([np.asarray(Image.open(folder / f"translated/{n}.png"), int) for n in NAMES])


@pytest.fixture(scope="module")
def plain(tmp_path_factory, make_weights):
    """The faces of grey images of 8 bits."""
    return faces(tmp_path_factory.mktemp("plain"), "8-bit PNG", make_weights)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "8-bit PNG"])
def test_each_kind_is_translated(kind, plain, tmp_path, make_weights):
    assert np.abs(plain - plain[:, ::-1]).mean() > 10  # what another image would make of it
    made = faces(tmp_path, kind, make_weights)
    assert np.abs(made - plain).mean() <= (8 if KINDS[kind][2] else 0)


@pytest.mark.parametrize("learnt, given", [("8-bit PNG", "8-bit PNG"), ("16-bit PNG", "8-bit PNG")])
def test_weights_of_a_store_are_given_the_images_that_it_was_made_of(
    learnt, given, tmp_path, make_weights
):
    source, store = write_folder(tmp_path / "source", learnt), tmp_path / "store"
    run("prepare", "--dataset", "thermal", "--root", source, "--output", store, "--size", 32)
    weights = make_weights("stored.safetensors", **store_preparation(StoreFiles(store)))
    images = write_folder(tmp_path / "given", given)
    said = run("translate", weights, "--input", images, "--output", tmp_path / "out")
    assert ("robust, not 8 bits" in said) == (learnt != given), said


def test_the_same_temperatures_in_three_kinds_of_files_are_one_image(tmp_path):
    images = {}
    for kind, save in {
        "tif": lambda path, t: Image.fromarray(t.astype(np.float32)).save(path),
        "npy": np.save,
        "png": lambda path, t: Image.fromarray(t.astype(np.uint16)).save(path),
    }.items():
        (tmp_path / kind).mkdir()
        for number, name in enumerate(NAMES):
            save(tmp_path / kind / f"{name}.{kind}", (27315 + 100 * celsius(number)).round())
        settings = ("--dataset", "thermal", "--root", tmp_path / kind, "--size", SIDE)
        store = tmp_path / f"{kind} store"
        run("prepare", *settings, "--output", store, "--thermal-range", "29000:32000")
        assert StoreFiles(store).index["settings"]["thermal_range"] == "29000:32000"
        images[kind] = np.stack(list(stored(store).values())).astype(int)
    assert images["png"].std() > 10
    for kind in ("tif", "npy"):
        assert np.abs(images[kind] - images["png"]).max() <= 1


def save_pages(path):
    pages = [Image.fromarray(levels(celsius(number))) for number in range(3)]
    pages[0].save(path, save_all=True, append_images=pages[1:])


REFUSED = {
    "pages.tif": ("several frames or pages", save_pages),
    "moving.gif": ("several frames or pages", save_pages),
    "frames.npy": ("(9, 48, 48)", lambda path: np.save(path, np.zeros((9, 48, 48)))),
    "nothing.npy": ("no finite", lambda path: np.save(path, np.full((48, 48), np.nan))),
    "objects.npy": ("objects.npy", lambda path: np.save(path, np.array([{}]), allow_pickle=True)),
    "uneven.csv": (
        "table of numbers",
        lambda path: path.write_text("1,2,3,4,5,6,7,8\n1,2,3,4,5,6,7\n"),
    ),
    "colours.ppm": ("16-bit RGB", lambda path: path.write_bytes(b"P6 2 2 65535\n" + bytes(24))),
    "empty.png": ("empty.png", lambda path: path.write_bytes(b"")),
    "cut.jpg": ("cut.jpg", lambda path: path.write_bytes(b"\xff\xd8\xff\xe0\0\x10JFIF\0")),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_read_is_named(name, tmp_path, make_weights):
    reason, save = REFUSED[name]
    source = write_folder(tmp_path / "source", "8-bit PNG")
    save(source / name)
    files = ("--input", source, "--output", tmp_path / "faces")
    said = run("translate", make_weights("any.safetensors"), *files, code=1)
    assert name in said and reason in said
    settings = ("--dataset", "thermal", "--root", source, "--output", tmp_path / "store")
    said = run("prepare", *settings, "--size", 32, "--workers", 0)
    assert "4 pairs written" in said and name in said and reason in said


@pytest.mark.parametrize("value", ["auto", "5:4", "29000", "a:b", "1:2:3", "nan:1", "0:inf"])
def test_unknown_thermal_ranges(value, tmp_path, make_weights):
    source = write_folder(tmp_path / "source", "16-bit PNG")
    settings = ("--dataset", "thermal", "--root", source, "--output", tmp_path / "store")
    assert "29000:32000" in run("prepare", *settings, f"--thermal-range={value}", code=1)
    files = ("--input", source, "--output", tmp_path / "faces", f"--thermal-range={value}")
    assert "29000:32000" in run("translate", make_weights("w"), *files, code=1)
    assert not (tmp_path / "store").exists() and not (tmp_path / "faces").exists()


def test_a_fixed_range_in_another_unit_is_refused(tmp_path, make_weights):
    source = write_folder(tmp_path / "source", "16-bit PNG")
    settings = ("--dataset", "thermal", "--root", source, "--output", tmp_path / "store")
    said = run("prepare", *settings, "--thermal-range", "20:40", code=1)
    assert "ada_1.png holds numbers from 29" in said and "outside thermal_range 20:40" in said
    files = ("--input", source, "--output", tmp_path / "faces", "--thermal-range", "20:40")
    assert "outside" in run("translate", make_weights("w"), *files, code=1)
    assert not list((tmp_path / "faces").glob("*.png"))


def test_a_dead_pixel_takes_no_levels(tmp_path):
    (tmp_path / "source").mkdir()
    for number, name in enumerate(NAMES):
        counts = ((celsius(number) + 273.15) * 100).round().astype(np.uint16)
        counts[number, 3] = 0
        Image.fromarray(counts).save(tmp_path / "source" / f"{name}.png")
    found = {}
    for thermal_range in ("robust", "image", "full"):
        settings = ("--dataset", "thermal", "--root", tmp_path / "source", "--size", SIDE)
        store = tmp_path / thermal_range
        run("prepare", *settings, "--output", store, "--thermal-range", thermal_range)
        found[thermal_range] = len(np.unique(stored(store)["ada_1"]))
    assert found["robust"] > 200 and found["image"] < 20 and found["full"] < 20


def test_a_preview_is_said(tmp_path, make_weights):
    source = write_folder(tmp_path / "source", "8-bit PNG")
    tags = Image.Exif()
    tags[271] = "FLIR Systems AB"
    Image.fromarray(levels(celsius(7))).save(source / "bob_3.jpg", exif=tags)
    settings = ("--dataset", "thermal", "--root", source, "--output", tmp_path / "store")
    said = run("prepare", *settings, "--size", 32, "--workers", 0)
    assert "1 thermal images are only the preview" in said
    files = ("--input", source, "--output", tmp_path / "faces")
    assert "only the preview" in run("translate", make_weights("w"), *files)


def write_pairs(root, thermal, shape=(40, 40), visible_shape=None, subjects="abcdefgh"):
    """Pairs of two images of each of eight subjects."""
    rng = np.random.default_rng(0)
    for side in ("thermal", "visible"):
        (root / side).mkdir(parents=True)
    for number, name in enumerate(f"{subject}_{n}" for subject in subjects for n in range(2)):
        Image.fromarray(thermal(celsius(number, *shape))).save(root / "thermal" / f"{name}.png")
        colours = rng.integers(0, 255, (*(visible_shape or shape), 3), np.uint8)
        Image.fromarray(colours).save(root / "visible" / f"{name}.png")
    return root


def test_two_sizes_of_one_view_are_a_pair(tmp_path):
    for name, shape in (("half", (80, 100)), ("odd", (40, 51))):
        root = write_pairs(tmp_path / name, levels, (40, 50 if name == "half" else 51), shape)
    root = write_pairs(tmp_path / "near", levels, (185, 184), (184, 184))
    with pytest.warns(UserWarning, match="visible images have another size"):
        pairs = open_pairs("folder", root, "all", image_size=32)
    assert pairs[0].thermal.shape == pairs[0].visible.shape == (3, 32, 32)
    for name, count in (("half", 16), ("near", 16), ("odd", 0)):
        settings = ("--root", tmp_path / name, "--output", tmp_path / f"{name} store")
        said = run("prepare", *settings, "--size", 32, "--workers", 0)
        assert (f"{count} visible images had another size" in said) == (count > 0)


@pytest.mark.parametrize(("bits", "said"), [(12, True), (14, True), (15, False), (16, False)])
def test_visible_images_that_nobody_scaled_are_said(tmp_path, bits, said):
    root = write_pairs(tmp_path / "pairs", levels)
    counts = np.random.default_rng(0).integers(0, 2**bits, (16, 40, 40)).astype(np.uint16)
    for path, picture in zip(sorted((root / "visible").iterdir()), counts):
        Image.fromarray(picture).save(path)
    settings = ("--root", root, "--output", tmp_path / "store")
    told = run("prepare", *settings, "--size", 32, "--workers", 0)
    assert ("16 visible images of 16 bits have no number above 16,383" in told) == said
    for unpaired in (False, True):
        with warnings.catch_warnings(record=True) as heard:
            warnings.simplefilter("always")
            open_pairs("folder", root, "train", unpaired=unpaired)
        assert any("above 16,383" in str(one.message) for one in heard) == said
        Image.fromarray(counts[0]).save(root / "visible" / "z_0.png")  # without a partner


def test_other_aspects_are_refused(tmp_path):
    root = write_pairs(tmp_path / "pairs", levels, (40, 50), (40, 40))
    with pytest.raises(ValueError, match="a_0.png is 50 x 40 pixels and .*a_0.png is 40 x 40"):
        open_pairs("folder", root, "all")
    said = run("prepare", "--root", root, "--output", tmp_path / "store", "--workers", 0, code=1)
    assert "50 x 40" in said and "--faces" in said


def test_phones_pictures_are_upright(tmp_path):
    root = write_pairs(tmp_path / "pairs", levels, (40, 30))
    upright = open_pairs("folder", root, "all", image_size=32)[0].visible
    tags = Image.Exif()
    tags[ORIENTATION] = 8
    path = root / "visible" / "a_0.png"
    pixels = np.asarray(Image.open(path))
    Image.fromarray(np.rot90(pixels, -1)).save(path, exif=tags)
    assert Image.open(path).size == (40, 30)
    turned = open_pairs("folder", root, "all", image_size=32)[0].visible
    assert (turned - upright).abs().max() < 1e-6


@pytest.mark.parametrize("aspect", ["pad", "crop", "squeeze"])
def test_faces_of_the_original_size(aspect, tmp_path, make_weights):
    (tmp_path / "source").mkdir()
    Image.fromarray(levels(celsius(0, 40, 60))).save(tmp_path / "source" / "a.png")
    files = ("--input", tmp_path / "source", "--output", tmp_path / "faces", "--aspect", aspect)
    weights = make_weights("w")
    run("translate", weights, *files, "--size", "original")
    with Image.open(tmp_path / "faces" / "a.png") as face:
        assert face.size == (60, 40)
        outside = np.asarray(face)[:, :10]
    assert (outside.max() == 0) == (aspect == "crop")
    assert "size" in run("translate", weights, *files, code=1)


def test_an_old_store_grows_as_it_began(tmp_path):
    source = write_folder(tmp_path / "source", "16-bit PNG")
    settings = ("--dataset", "thermal", "--root", source, "--output", tmp_path / "store")
    settings = ("prepare", *settings, "--size", 32, "--workers", 0)
    run(*settings, "--thermal-range", "image", "--aspect", "squeeze")
    before = StoreFiles(tmp_path / "store").index["settings"]
    assert before["thermal_range"] == "image" and "aspect" not in before
    save_centikelvin(source / "bob_3.png", celsius(5))
    assert "1 pairs written, 4 kept" in run(*settings)
    assert StoreFiles(tmp_path / "store").index["settings"] == before
    said = run(*settings, "--thermal-range", "robust", code=1)
    assert "thermal_range 'image', not 'robust'" in said


@pytest.fixture(scope="module")
def iron_run(tmp_path_factory):
    """A folder in which a smoke run was trained on pairs in iron colours, and its run folder."""
    folder = tmp_path_factory.mktemp("iron")
    write_pairs(folder / "pairs", iron)
    options = ("--profile", "smoke", "--dataset", "folder", "--root", "pairs")
    small = ("--identity", "none", "--width", "16", "--discriminator-width", "16")
    with contextlib.chdir(folder):
        said = run("train", "ag-gan", *options, *small)
    return folder, folder / said.strip().splitlines()[-1]


def test_the_preparation_goes_with_the_weights(iron_run, tmp_path):
    from aggan.experiments.inference import save_half
    from aggan.experiments.preparation import trained_preparation

    assert trained_preparation(iron_run[1]) == {"colours": "iron"}
    save_half(iron_run[1], tmp_path / "half.safetensors")
    assert trained_preparation(tmp_path / "half.safetensors") == {"colours": "iron"}


def test_rendered_faces_have_no_preparation():
    assert open_pairs("synthetic-arl", subjects={"train": 1}, render_size=32).preparation == {}


def test_other_colours_are_converted_or_refused(iron_run, tmp_path, make_weights):
    folder, weights = iron_run
    grey = write_pairs(tmp_path / "grey", levels)
    options = ("--profile", "smoke", "--dataset", "folder", "--root", grey)
    for command in ("evaluate", "explain"):
        output = tmp_path / command
        said = run(command, weights, "--output", output, *options, code=1)
        assert "trained on thermal images in iron" in said and "--thermal-mode iron" in said
        assert not output.exists()
    options = (*options[:-1], folder / "pairs")
    said = run("evaluate", weights, "--output", tmp_path / "own", *options)
    assert "AUC" in said

    def faces(weights, source, name):
        files = ("--input", source / "thermal", "--output", tmp_path / name)
        said = run("translate", weights, *files)
        pixels = np.asarray(Image.open(tmp_path / name / "a_0.png"), int)
        return pixels, "are converted to" in said

    for name, trained in (("iron", weights), ("grey", make_weights("g", colours="grey"))):
        own, converted = faces(trained, folder / "pairs", f"{name} of iron")
        other, also_converted = faces(trained, grey, f"{name} of grey")
        assert (converted, also_converted) == (name == "grey", name == "iron")
        assert np.abs(own - other).mean() < 8


def test_the_range_of_the_training_set_is_taken_over(tmp_path, make_weights):
    source = write_folder(tmp_path / "source", "16-bit PNG")
    known = dict(colours="grey", thermal_range="29315:31315")
    faces = {}
    for name, weights, options in (
        ("taken over", make_weights("known", **known), ()),
        ("given", make_weights("unknown"), ("--thermal-range", "29315:31315")),
        ("robust", make_weights("unknown"), ()),
    ):
        files = ("--input", source, "--output", tmp_path / name)
        run("translate", weights, *files, *options)
        faces[name] = np.asarray(Image.open(tmp_path / name / "ada_1.png"), int)
    assert (faces["taken over"] == faces["given"]).all()
    assert (faces["taken over"] != faces["robust"]).any()
    files = ("--input", source, "--output", tmp_path / "other", "--thermal-range", "29000:32000")
    said = run("translate", make_weights("known", **known), *files)
    assert "thermal_range 29315:31315, not 29000:32000" in said
