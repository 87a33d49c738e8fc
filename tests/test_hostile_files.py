"""Files of others: none executes, takes 10 s or 1 GiB, and each is refused by name or read as data.

Weights, run files, parameters, tables and archives of every kind; `test_robustness.py` has hostile
headers, stores, tables of runs and working directories. Fuzzed and damaged files follow."""

import csv
import io
import itertools
import json
import os
import pickle
import struct
import time
import warnings
import zipfile
from functools import partial
from pathlib import Path
from random import Random

import numpy as np
import pytest
import torch
from conftest import memory_below
from PIL import Image
from test_robustness import damage

from aggan.commands.judging import run_flags
from aggan.commands.parsing import UsageError
from aggan.commands.reproducing import read_mapping, read_parameters
from aggan.commands.settings import read_config
from aggan.commands.training import training_flags
from aggan.data.images import open_thermal, read_image
from aggan.data.people import subject_of
from aggan.data.prepare import prepare
from aggan.experiments import Experiment, load_method
from aggan.experiments.experiment import complete_report
from aggan.experiments.export import export_onnx
from aggan.experiments.matching import match_probes
from aggan.experiments.runs import experiment_of, list_runs, write_comparison
from aggan.experiments.trained_people import trained_people
from aggan.recognition import load_embedder
from aggan.reproduction.command_line import main
from aggan.reproduction.maps import write_explanation
from aggan.reproduction.pictures import EVALUATION, write_evaluation
from aggan.runtime.run_folder import MODELS, RunFolder

CANARY = "canary"  # in the working directory


class Opens:
    """An object whose pickle makes the canary when it is loaded."""

    def __reduce__(self):
        return open, (CANARY, "w")


@pytest.fixture(autouse=True)
def watched(tmp_path, monkeypatch):
    """The working directory is new; nothing may be executed in it, nor much memory be taken."""
    monkeypatch.chdir(tmp_path)
    with memory_below(1024):
        yield
    assert not (tmp_path / CANARY).exists(), "executed"


def refused(read, path, names=()):
    """Whether a file is refused within ten seconds, in one line that names it, or another."""
    began = time.monotonic()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            read(path)
        return False
    except (ValueError, OSError, UsageError) as error:
        assert any(name in str(error) for name in (path.name, *names)), error
        assert "\n" not in str(error) and len(str(error)) < 2000, error
        return True
    finally:
        assert time.monotonic() - began < 10


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


# Weights


def safetensors(header, body=b"", size=None):
    """The bytes of a file with any header."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if size is None else size) + text + body


def tensor(dtype="F32", shape=(1,), offsets=(0, 4)):
    return {"a": {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}}


def saved(value, **options):
    stream = io.BytesIO()
    torch.save(value, stream, **options)
    return stream.getvalue()


WEIGHTS = {
    "empty": b"",
    "seven bytes": b"\0" * 7,
    "no header": struct.pack("<Q", 0),
    "endless header": safetensors(b"{}", size=2**63),
    "header beyond the file": safetensors(b"{}", size=10**6),
    "header no JSON": safetensors(b"{" * 100),
    "header a list": safetensors([]),
    "header nested": safetensors(b"[" * 10**5 + b"]" * 10**5),
    "header binary": safetensors(os.urandom(100)),
    "metadata a list": safetensors({"__metadata__": ["method"]}),
    "metadata of numbers": safetensors({"__metadata__": {"method": 1}}),
    "metadata no JSON": safetensors({"__metadata__": {"method": "ag-gan"}}),
    "offsets beyond the file": safetensors(tensor(offsets=(0, 10**12), shape=(25 * 10**10,))),
    "offsets negative": safetensors(tensor(offsets=(-4, 0)), bytes(4)),
    "offsets reversed": safetensors(tensor(offsets=(4, 0)), bytes(4)),
    "shape of another size": safetensors(tensor(shape=(10**9,)), bytes(4)),
    "shape negative": safetensors(tensor(shape=(-1,)), bytes(4)),
    "shape overflows": safetensors(tensor(shape=(2**40, 2**40)), bytes(4)),
    "shape of texts": safetensors(tensor(shape=("1",)), bytes(4)),
    "unknown type": safetensors(tensor(dtype="OBJECT"), bytes(4)),
    "overlapping": safetensors(tensor() | {"b": tensor()["a"]}, bytes(4)),
    "name a path": safetensors({"../../a": tensor()["a"]}, bytes(4)),
    "a page": b"<!DOCTYPE html><title>404</title>",
    "a pickle": pickle.dumps(Opens()),
    "pickle of tensors": saved({"a": torch.zeros(1), "b": Opens()}),
    "old pickle of tensors": saved(Opens(), _use_new_zipfile_serialization=False),
}


@pytest.mark.parametrize("ending", ["safetensors", "pt"])
def test_weights_of_others(tmp_path, ending):
    for name, content in WEIGHTS.items():
        assert refused(load_method, write(tmp_path / f"{name}.{ending}", content)), name


@pytest.mark.parametrize("ending", ["pth", "pt", "safetensors", "onnx"])
def test_embedders_of_others(tmp_path, ending):
    for name in ("empty", "endless header", "a page", "a pickle", "pickle of tensors"):
        path = write(tmp_path / f"{name}.{ending}", WEIGHTS[name])
        assert refused(lambda path: load_embedder(str(path)), path), name


# Run files and parameters


DOCUMENTS = {
    "empty": "",
    "binary": b"\xff\xfe\0\1",
    "a list": "[1, 2]",
    "a number": "1e400",
    "nested": "[" * 10**5,
    "a mapping of mappings": json.dumps({"method": {"method": {}}, "profile": [], "steps": {}}),
    "python tag": f"!!python/object/apply:builtins.open ['{CANARY}', 'w']",
    "python tag as a value": f"method: !!python/object/apply:os.system ['touch {CANARY}']",
    "python name": "method: !!python/name:os.system",
    "laughs": "a: &a [x, x]\n"
    + "\n".join(f"{b}: &{b} [*{a}, *{a}]" for a, b in zip("abcdefghijklmn", "bcdefghijklmno")),
    "merges": "a: &a {x: 1}\n"
    + "\n".join(
        f"b{n}: &b{n} {{<<: [{', '.join([f'*b{n - 1}' if n else '*a'] * 8)}]}}" for n in range(9)
    ),
    "long sentence": "method: ag-gan\nsteps: [&a [1, 1, 1, 1, 1, 1, 1, 1, 1], "
    + ", ".join(f"&{b} [{', '.join([f'*{a}'] * 9)}]" for a, b in zip("abcde", "bcdef"))
    + "]",
    "twice": "method: ag-gan\nseed: 1\nseed: 7",
    "long": "method: " + "a" * 10**6,
    "pattern": "method: ag-gan\nsubject_pattern: '([0-9]|(?:a+)+)$'",
    "expression": f"method: \"__import__('os').system('touch {CANARY}')\"",
    "template": f'method: \'{{{{ open("{CANARY}", "w") }}}}\'',
    "shell": f"method: '$(touch {CANARY})'",
}


def read_no_row(path):
    """No line is a row of the metrics."""
    assert RunFolder(path.parent).metrics() == []


READERS = {
    "config.yaml": read_config,
    "options.yaml": read_mapping,
    "config.json": lambda path: RunFolder(path.parent).config,
    "report.json": lambda path: complete_report(RunFolder(path.parent)),
    "people.json": lambda path: trained_people(path.parent),
    "metrics.jsonl": read_no_row,
}
MAPPINGS = {"a mapping of mappings", "pattern", "expression", "template", "shell"}  # in YAML
DATA = {  # what is read, as a mapping or as lines that are set aside
    "config.yaml": {"pattern"},
    "options.yaml": MAPPINGS,
    "config.json": {"a mapping of mappings"},
    "report.json": set(),
    "people.json": set(),
    "metrics.jsonl": set(DOCUMENTS),
}


@pytest.mark.parametrize("file", READERS)
def test_run_files_of_others(tmp_path, file):
    for name, content in DOCUMENTS.items():
        path = write(tmp_path / file, content)
        assert refused(READERS[file], path) == (name not in DATA[file]), name


def test_parameters_of_others():
    read = set()
    for name, content in DOCUMENTS.items():
        text = content.decode("latin-1") if isinstance(content, bytes) else content
        try:
            read_parameters(text)
            read.add(name)
        except UsageError as error:
            assert "--parameters" in str(error), name
    assert read == MAPPINGS | {"empty"}


def test_a_pattern_of_others_takes_no_years():
    assert refused(
        lambda name: subject_of(name.stem, "([0-9]|(?:a+)+)$"), Path("a" * 34 + "!"), ["a+"]
    )


# Names of networks


@pytest.fixture
def run_of_others(tmp_path):
    """A run that shipped weights are of, judged by a module of the working directory."""
    run = RunFolder(tmp_path / "run")
    write(run.checkpoint(1), (MODELS / "ag-gan.safetensors").read_bytes())
    write(run.metrics_file, '{"step": 1}\n')
    config = Experiment("ag-gan", profile="smoke").config | {"matcher": "evil:build"}
    write(run.config_file, json.dumps(config))
    write(tmp_path / "evil.py", f"open({CANARY!r}, 'w')\ndef build(): pass\n")
    write(tmp_path / "evil.json", '{"network": "evil:build"}')
    write(tmp_path / "faces" / "a_0.png", picture())
    return run.path


JUDGING = {
    "evaluate": ("evaluate", "run", "--output", "o"),
    "explain": ("explain", "run", "--output", "o"),
    "match": ("match", "faces", "run", "--gallery", "faces", "--aligned", "--threshold", "0.1")
    + ("--output", "o"),
    "train": ("train", "--config", "run"),
    "extend": ("train", "--extend", "run", "--steps", "9"),
}


@pytest.mark.parametrize(
    "command, option",
    [
        *((command, "") for command in ("evaluate", "explain", "match")),  # in config.json alone
        *((command, "matcher") for command in JUDGING),
        ("train", "identity"),
        ("extend", "identity"),
    ],
)
def test_modules_that_a_run_names_are_not_imported(run_of_others, capsys, command, option):
    if option:
        flags = f"method: ag-gan\nprofile: smoke\n{option}: evil:build\n"
        write(run_of_others / "config.yaml", flags)
    assert main(list(JUDGING[command])) == 1
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert f"names the Python module evil:build as {option or 'matcher'}" in said


def test_modules_that_other_files_name_are_not_imported(run_of_others):
    with pytest.raises(ValueError, match="config.json names the Python module evil:build"):
        experiment_of(run_of_others)
    with pytest.raises(ValueError, match="evil.json names the Python module evil:build"):
        Experiment("ag-gan", profile="smoke", matcher="evil.json")
    with pytest.raises(ValueError, match="evil.json names the Python module evil:build"):
        load_embedder("evil.json")
    options = write(run_of_others / "options.yaml", "ag-gan: {identity: 'evil:build'}")
    assert refused(read_mapping, options)


def test_a_module_that_is_typed_judges_a_run(run_of_others):
    assert run_flags(str(run_of_others), {"matcher": "evil:build"})["matcher"] == "evil:build"
    assert experiment_of(run_of_others, matcher="evil:build").matcher == "evil:build"
    assert training_flags("cut", {"matcher": "evil:build"})["matcher"] == "evil:build"


# Files that are there


REPORT, MAPS = (write_evaluation, "report.json"), (write_explanation, "explanation.json")


@pytest.mark.parametrize("measure, own", [REPORT, MAPS])
@pytest.mark.parametrize(
    "name, reason",
    [
        ("metrics.jsonl", "is the folder of a run"),
        ("config.json", "is the folder of a run or a model"),
        (None, "is there and was not written"),  # the name that the command writes
    ],
)
def test_measures_replace_no_file_of_others(tmp_path, measure, own, name, reason):
    path = write(tmp_path / "mine" / (name or own), '{"mine": 1}')
    with pytest.raises(ValueError, match=reason):
        measure("ag-gan", path.parent)
    assert path.read_text() == '{"mine": 1}' and len(list(path.parent.iterdir())) == 1


@pytest.mark.parametrize(
    "command, names",
    [
        (partial(write_evaluation, "ag-gan"), EVALUATION),
        (partial(write_explanation, "ag-gan"), ("explanation.md", "overlays.png")),
        (partial(match_probes, "ag-gan", "thermal", "visible"), ("matches.csv", "matches.html")),
        (partial(write_comparison, ["one", "two"]), ("comparison.csv", "comparison.png")),
    ],
)
def test_commands_replace_no_file_of_others(tmp_path, command, names):
    for name in names:
        path = write(tmp_path / name / name, "mine")
        with pytest.raises(ValueError, match=f"{name} is there and was not written"):
            command(path.parent)
        assert [file.read_text() for file in path.parent.iterdir()] == ["mine"]


def test_an_exported_network_replaces_no_file_of_others(tmp_path):
    path = write(tmp_path / "a.onnx", "mine")
    with pytest.raises(ValueError, match="a.onnx is there and was not written"):
        export_onnx("ag-gan", path)
    assert path.read_text() == "mine"


# Tables, archives and pictures


def pickled_array():
    stream = io.BytesIO()
    np.save(stream, np.array([Opens()], dtype=object), allow_pickle=True)
    return stream.getvalue()


def archive(*members):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as made:
        for name, content in members:
            made.writestr(name, content)
    return stream.getvalue()


def picture(kind="PNG", seed=0):
    stream = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 255, (24, 24), np.uint8)
    Image.fromarray(pixels).save(stream, kind)
    return stream.getvalue()


PICTURES = {
    "objects.npy": pickled_array(),
    "pickle.npy": pickle.dumps(Opens()),
    "named as a picture.png": pickle.dumps(Opens()),
    "script.png": b"#!/bin/sh\ntouch canary\n",
    "postscript.png": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(canary) (w) file\n",
    "vector.png": b"<svg xmlns='http://www.w3.org/2000/svg'><script>1</script></svg>",
    "claim.ppm": b"P5 100000 100000 255\n",
    "claim.bmp": b"BM"
    + struct.pack("<IHHIIiiHHIIiiII", *[54] + [0] * 2 + [54, 40, 10**5, 10**5] + [1, 24] + [0] * 6),
    "formula.csv": f"=cmd|' /C touch {CANARY}'!A0\n".encode() * 9,
    "zero.csv": b"\0" * 1000,
}


@pytest.mark.parametrize("name", PICTURES)
def test_pictures_of_others(tmp_path, name):
    assert refused(read_image, write(tmp_path / name, PICTURES[name]))


@pytest.mark.parametrize("name", ["a.png", "a.eps", "x.zip"])
def test_no_program_is_started_for_a_picture(tmp_path, monkeypatch, name):
    script = write(tmp_path / "bin" / "gs", f"#!/bin/sh\ntouch {tmp_path / CANARY}\nexit 1\n")
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{script.parent}:{os.environ['PATH']}")
    page = "%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n%%EOF\n"
    path = write(tmp_path / name, archive(("a.png", page)) if name == "x.zip" else page)
    assert refused(read_image, path / "a.png" if name == "x.zip" else path, ["a.png"])


def png(width, height):
    """A small file of a grey picture of any size."""
    stream = io.BytesIO()
    Image.new("L", (width, height)).save(stream, "PNG")
    return stream.getvalue()


def tiff_of_pages(number):
    """A TIFF whose pages are a directory each, of the one pixel."""
    tags = ((256, 1), (257, 1), (258, 8), (262, 1), (273, 8), (277, 1), (278, 1), (279, 1))
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    content, size = struct.pack("<2sHI8x", b"II", 42, 16), 2 + len(entries) + 4
    for page in range(1, number + 1):
        follows = 16 + page * size if page < number else 0
        content += struct.pack("<H", len(tags)) + entries + struct.pack("<I", follows)
    return content


def flir(counts, entries=4, claimed=(16, 16)):
    """A JPEG with FLIR's records: counts as any bytes, and a camera of zeros."""
    raw = struct.pack("<HHH", 2, *claimed).ljust(32, b"\0") + counts
    directory, start = b"", 64 + 4 * 32
    for kind, record in ((1, raw), (32, bytes(1100)), (14, raw)):
        place = struct.pack(">HHIIII", kind, 1, 100, 1, start, len(record))
        directory, start = directory + place.ljust(32, b"\0"), start + len(record)
    head = b"FFF\0".ljust(20, b"\0") + struct.pack(">III", 100, 64, entries)
    data = head.ljust(64, b"\0") + directory.ljust(128, b"\0") + raw + bytes(1100) + raw
    segment = b"FLIR\0\1\0\0" + data
    whole = picture("JPEG")
    return whole[:2] + b"\xff\xe1" + struct.pack(">H", len(segment) + 2) + segment + whole[2:]


LARGE = {  # small files of what is large, or slow to read
    "thin.png": png(30_000, 4),
    "line.png": png(200_000, 1),
    "pages.tif": tiff_of_pages(32_000),
    "flir picture.jpg": flir(png(5400, 5400), claimed=(5400, 5400)),
    "flir picture that lies.jpg": flir(png(5400, 5400)),
    "flir program.jpg": flir(b"%!PS-Adobe-3.0 EPSF-3.0\n", claimed=(2, 2)),
    "flir directory.jpg": flir(bytes(512), entries=2**31),
    "wide.csv": b"0," * 200_000,
}


@pytest.mark.parametrize("name", LARGE)
def test_small_files_of_large_pictures(tmp_path, name):
    assert refused(read_image, write(tmp_path / name, LARGE[name]))


def test_large_pictures_leave_the_others_of_their_folder(tmp_path):
    """Also files without end, and a table of zeros that takes no room on the disk."""
    for name, content in LARGE.items():
        write(tmp_path / "in" / name, content)
    write(tmp_path / "in" / "good.png", picture())
    os.mkfifo(tmp_path / "in" / "b_1.png")
    for name in ("z.npy", "z.csv", "z.png"):
        (tmp_path / "in" / name).symlink_to("/dev/zero")
    with open(tmp_path / "in" / "x.csv", "wb") as sparse:
        sparse.truncate(300 * 2**20)
    problems = []
    images = open_thermal(tmp_path / "in", problems=problems)
    assert images.names == ["good"]
    assert {Path(name).name for name in LARGE if name != "wide.csv"} == {
        name for name in LARGE if any(name in str(problem) for problem in problems)
    }
    for name in ("b_1.png", "z.npy", "z.png"):
        assert refused(read_image, tmp_path / "in" / name)
        assert refused(open_thermal, tmp_path / "in" / name)


ARCHIVES = {
    "path above": archive(("../a.png", picture())),
    "absolute path": archive(("/tmp/a.png", picture())),
    "archive in an archive": archive(("a.zip", archive(("a.png", picture())))),
    "program": archive(("__main__.py", f"open('{CANARY}', 'w')")),
    "same name twice": archive(("b.png", picture()), ("b.png", b"")),
    "cut": archive(("a.png", picture()))[:-40],
    "no archive": b"PK\3\4" + bytes(100),
    "damaged member": archive(("a.png", picture())).replace(picture()[60:70], bytes(10)),
}


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("name", ARCHIVES)
def test_archives_of_others(tmp_path, name):
    write(tmp_path / "x.zip", ARCHIVES[name])
    for member in ("a.png", "../a.png", "/tmp/a.png", "a.zip/a.png", "b.png", "__main__.py"):
        if refused(read_image, tmp_path / "x.zip" / member, ["x.zip"]):
            continue
        assert name in ("path above", "absolute path", "same name twice"), "read as one picture"
    assert {path.name for path in tmp_path.iterdir()} == {"x.zip"}


CELLS = {
    "path above": {"thermal": "../" * 20 + "etc/passwd"},
    "absolute path": {"thermal": "/etc/passwd"},
    "device": {"thermal": "/dev/zero"},
    "shell": {"thermal": f"$(touch {CANARY}).png"},
    "formula": {"subject": f"=cmd|' /C touch {CANARY}'!A0"},
    "statement": {"subject": "'); DROP TABLE pairs; --"},
    "zeros": {"subject": "a\0b"},
    "no path": {"thermal": ""},
    "folder": {"thermal": "thermal"},
    "frame": {"frame": "9" * 4000},
    "split": {"split": "../train"},
}
LEFT_OUT = {  # why a row is left out; all others are read
    "path above": "no image",
    "absolute path": "no image",
    "device": "no partner",
    "shell": "no partner",
    "no path": "manifest line",
    "folder": "no partner",
    "frame": "manifest line",
    "split": "manifest line",
}


@pytest.mark.parametrize("name", CELLS)
def test_manifests_of_others(tmp_path, name):
    stems = ("a_0", "a_1", "b_0", "b_1")
    for seed, (side, stem) in enumerate(itertools.product(("thermal", "visible"), stems)):
        write(tmp_path / "pairs" / side / f"{stem}.png", picture(seed=seed))
    rows = [
        {"thermal": f"thermal/{stem}.png", "visible": f"visible/{stem}.png", "subject": stem[0]}
        for stem in stems
    ]
    rows[0] |= {"split": "train"} | CELLS[name]
    table = io.StringIO()
    writer = csv.DictWriter(table, ["thermal", "visible", "subject", "frame", "split"])
    writer.writeheader()
    writer.writerows([{"split": "train", "frame": "1"} | row for row in rows])
    path = write(tmp_path / "pairs" / "manifest.csv", table.getvalue())

    def prepared(path):
        report = prepare(path.parent, tmp_path / "store", size=16, workers=0)
        expected = {LEFT_OUT[name]: 1} if name in LEFT_OUT else {}
        assert (report.written, report.left_out) == (4 - len(expected), expected), report

    assert not refused(prepared, path)


FORMULA = '=HYPERLINK("x")'


def test_names_are_no_formulas_in_a_list(tmp_path):
    write(tmp_path / "faces" / FORMULA / "a.png", picture())
    write(tmp_path / "thermal" / "@b.png", picture(seed=1))
    given = {"threshold": 0.1, "aligned": True}
    found = match_probes(
        "ag-gan", tmp_path / "thermal", tmp_path / "faces", tmp_path / "o", **given
    )
    assert found.table["person"][0] == FORMULA
    with open(tmp_path / "o" / "matches.csv", newline="") as file:
        row = next(csv.DictReader(file))
    assert (row["probe"], row["person"]) == ("'@b", f"'{FORMULA}")
    assert row["photograph"] == f"'{FORMULA}/a" and float(row["score"]) <= 1


TABLES = {  # header, and the row of each of six people, by number
    "column twice": ("thermal,visible,subject,subject", "t/{0}.png,v/{0}.png,s{0},x"),
    "photographs twice": ("thermal,visible,visible,subject", "t/{0}.png,v/{0}.png,v/0.png,s{0}"),
    "comma in a name": ("thermal,visible,subject", "t/{0}.png,v/{0}.png,Doe, J{0}"),
    "cell missing": ("thermal,visible,subject,split", "t/{0}.png,v/{0}.png,s{0}"),
    "opening quote": ("thermal,visible,subject", 't/{0}.png,v/{0}.png,"s{0}'),
    "quotes that swallow": (
        "subject,thermal,visible",
        '"s{0},t/{0}.png,v/{0}.png\n",t/0.png,v/0.png',
    ),
    "one photograph": ("thermal,visible,subject", "t/{0}.png,v/0.png,s{0}"),
}


@pytest.mark.parametrize("name", TABLES)
def test_manifests_that_make_one_person_of_several(tmp_path, name):
    for seed, (side, number) in enumerate(itertools.product("tv", range(6))):
        write(tmp_path / side / f"{number}.png", picture(seed=seed))
    header, row = TABLES[name]
    text = "\n".join([header, *(row.format(number) for number in range(6))])
    path = write(tmp_path / "manifest.csv", text)

    def prepared(path):
        prepare(path, tmp_path / "store", size=16, workers=0)

    assert refused(prepared, path, ["v/0.png"])
    assert not (tmp_path / "store").exists(), "written before the refusal"


# Fuzzed and damaged files


FILES = {
    "config.json": Experiment("ag-gan", profile="smoke").config,
    "report.json": {"auc": 0.9, "eer": 0.2, "psnr": 9.0, "ssim": 0.1, "checkpoint": 3}
    | {"test_seen_in_training": False},
    "metrics.jsonl": {"step": 3, "discriminator": 0.5, "val_eer": 0.2, "seconds": 1.0},
}


@pytest.mark.parametrize(
    "number", [pytest.param(24, id="few"), pytest.param(700, id="many", marks=pytest.mark.soak)]
)
def test_fuzzed_run_files(tmp_path, number):
    """A run's files, one of them altered, are listed, left out, or refused by name."""
    random, refusals = Random(0), 0
    for turn in range(number):
        name = random.choice(list(FILES))
        path = tmp_path / "runs" / "a" / "b" / "c" / name
        for other, value in FILES.items():
            write(path.with_name(other), json.dumps(value) + "\n")
        text = json.dumps(damage(FILES[name], random))
        path.write_text(text[: random.randrange(len(text))] if turn % 10 == 0 else text)
        refusals += refused(lambda path: list_runs(path.parents[3]), path, ["runs"])
        refusals += refused(lambda path: complete_report(RunFolder(path.parent)), path)
    assert refusals


KINDS = {"PNG": ".png", "JPEG": ".jpg", "TIFF": ".tif", "BMP": ".bmp", "WEBP": ".webp"}
KINDS |= {"GIF": ".gif", "PPM": ".ppm", "JPEG2000": ".jp2"}


def damaged(content, random):
    """Bytes that are cut, altered, or partly removed."""
    content, place = bytearray(content), random.randrange(len(content))
    how = random.randrange(4)
    if how == 0:
        return bytes(content[:place])
    if how == 1:
        del content[place : place + random.randrange(1, 50)]
    for _ in range(random.choice((1, 8, 64))):
        content[random.randrange(len(content))] = random.randrange(256)
    return bytes(content)


@pytest.mark.parametrize(
    "number", [pytest.param(5, id="few"), pytest.param(100, id="many", marks=pytest.mark.soak)]
)
@pytest.mark.parametrize("kind", KINDS)
def test_damaged_images(tmp_path, kind, number):
    random, whole = Random(kind), picture(kind)
    refusals = sum(
        refused(read_image, write(tmp_path / f"a{KINDS[kind]}", damaged(whole, random)))
        for _ in range(number)
    )
    assert refusals
