"""Who is in a picture: read from folders and names, said before any work, refused where unclear."""

import contextlib
import io
import json
import random
import shlex
import shutil

import numpy as np
import pytest
from conftest import REAL_PAIRS
from PIL import Image

from aggan.data import open_pairs
from aggan.data.prepare import prepare, stored_splits
from aggan.methods import list_methods, needs_pairs
from aggan.reproduction.command_line import main

SPLITS = ("train", "val", "test")
PEOPLE = ("alice", "bob", "carol", "dan", "eve", "frank", "gina", "henry")


def write(root, *names, size=(40, 40), seed=0):
    """Images of noise."""
    rng = np.random.default_rng(seed)
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 255, (*size, 3), np.uint8)).save(root / name)
    return root


def both(*names):
    """The two files of pairs."""
    return [f"{side}/{name}.png" for side in ("thermal", "visible") for name in names]


def run(*arguments, cwd):
    """Exit code, standard output and standard error of a command."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.chdir(cwd), contextlib.redirect_stderr(err), contextlib.redirect_stdout(out):
        code = main(list(map(str, arguments)))
    assert "Traceback" not in err.getvalue()
    return code, out.getvalue(), err.getvalue().strip()


PREPARE = (
    "prepare",
    "--root",
    "pairs",
    "--output",
    "store",
    "--size",
    16,
    "--thermal-mode",
    "luma",
)
TRAIN = ("--profile", "smoke", "--dataset", "folder", "--root", "pairs", "--steps", 1)
TRAIN += ("--checkpoints", 1, "--resamples", 10)
TRAIN_PIX2PIX = ("train", "pix2pix", *TRAIN)
COMMANDS = pytest.mark.parametrize("command", [PREPARE, TRAIN_PIX2PIX], ids=["prepare", "train"])


def kwargs(**options):
    """Options of the data set on the command line."""
    flags = []
    for name, value in options.items():
        flags += [f"--{name.replace('_', '-')}", *([value] if isinstance(value, str) else value)]
    return flags


# names in thermal/ and visible/, options, the people found
READ_RIGHTLY = {
    "folders": ([f"{p}/{n:04}" for p in PEOPLE for n in range(3)], {}, "alice, e.g. alice/0000"),
    "deeper": ([f"{p}/day_1/{n:04}" for p in PEOPLE for n in range(3)], {}, "alice/day_1/0000"),
    "names": ([f"{p}_{n}" for p in PEOPLE for n in range(3)], {}, "alice_0"),
    "dashes": (
        [f"{p}-{n}" for p in PEOPLE for n in range(3)],
        {"subject_pattern": "([^/-]+)-[^/]*$"},
        "alice-0",
    ),
}


@COMMANDS
@pytest.mark.parametrize("case", READ_RIGHTLY)
def test_people_are_said_before_work(tmp_path, case, command):
    names, options, example = READ_RIGHTLY[case]
    write(tmp_path / "pairs", *both(*names))
    code, out, err = run(*command, *kwargs(**options), cwd=tmp_path)
    assert code == 0, err
    found = out.splitlines()[0]
    assert found.startswith("found 8 people in 24 pairs (alice: 3 pictures, e.g. alice")
    assert example.split(", e.g. ")[-1] in found
    assert found.endswith("train 4 people / 12, val 2 people / 6, test 2 people / 6")
    kept = [json.loads(path.read_text()) for path in tmp_path.glob("runs/*/*/*/people.json")]
    assert [len(people) for people in kept] == ([4] if command is TRAIN_PIX2PIX else [])


def test_one_person_is_in_one_split(tmp_path):
    write(tmp_path / "pairs", *both(*[f"{p}/{n:04}" for p in PEOPLE for n in range(3)]))
    splits = [set(open_pairs("folder", tmp_path / "pairs", s).subjects) for s in SPLITS]
    assert set.union(*splits) == set(PEOPLE) and sum(map(len, splits)) == len(PEOPLE)


# names, the options that were given, words of the refusal, the option that it proposes
UNCLEAR = {
    "running numbers": (
        [f"{n:05}" for n in range(24)],
        {},
        "every one of the 24 pictures would be another person",
        {"subject_pattern": "one picture each"},
    ),
    "dashes": (
        [f"s{p}-{n}" for p in range(8) for n in range(3)],
        {},
        "every one of the 24",
        {"subject_pattern": "([^/-]+)-[^/]*$"},
    ),
    "one prefix": (
        [f"t2v_id{n}" for n in range(1, 9)],
        {},
        "all 8 pictures would show one person (t2v)",
        {"subject_pattern": "one picture each"},
    ),
    "one prefix, several pictures": (
        [f"t2v_{p}_{n}" for p in PEOPLE for n in range(3)],
        {},
        "all 24 pictures would show one person",
        {"subject_pattern": "([^/]+)_[^/_]*$"},
    ),
    "numbers in folders": (
        [f"{p}/{n:04}" for p in PEOPLE for n in range(3)],
        {"subject_pattern": "([^/_]+)[^/]*$"},
        "'0000' would be in several folders (alice, bob, carol)",
        {"subject_pattern": "^([^/]+)/"},
    ),
    "sessions": (
        [f"session_{s}/{p}_{n}" for s in (1, 2) for p in PEOPLE for n in range(3)],
        {},
        "session_1, session_2 do not look like people",
        {"subject_pattern": "([^/_]+)_[^/]*$"},
    ),
    "sessions in file names": (
        [f"session{s}_{p}_{n}" for s in (1, 2) for p in PEOPLE for n in range(3)],
        {},
        "session1, session2 do not look like people",
        {"subject_pattern": "_([^/_]+)_[^/_]*$"},
    ),
    "dates": (
        [f"2024-03-{d}/{p}_{n}" for d in ("01", "08") for p in PEOPLE for n in range(3)],
        {},
        "2024-03-01, 2024-03-08 do not look like people",
        {"subject_pattern": "([^/_]+)_[^/]*$"},
    ),
    "conditions": (
        [f"{c}/{p}_{n}" for c in ("glasses", "frontal") for p in PEOPLE for n in range(3)],
        {},
        "frontal, glasses do not look like people",
        {"subject_pattern": "([^/_]+)_[^/]*$"},
    ),
    "people in several conditions": (
        [f"{p}_{c}/{n}" for c in ("left", "right") for p in PEOPLE for n in range(3)],
        {},
        "alice_left, alice_right do not look like people",
        {"subject_pattern": "^([^/_]+)_[^/]*/"},
    ),
    "a wrong pattern": (
        [f"{p}_{n}" for p in PEOPLE for n in range(3)],
        {"subject_pattern": "([^/]+)$"},
        "by the subject_pattern '([^/]+)$'",
        {"subject_pattern": "([^/_]+)_[^/]*$"},
    ),
}


@COMMANDS
@pytest.mark.parametrize("case", UNCLEAR)
def test_unclear_names_are_refused_with_an_example(tmp_path, case, command):
    names, options, words, proposed = UNCLEAR[case]
    write(tmp_path / "pairs", *both(*names))
    code, _, err = run(*command, *kwargs(**options), cwd=tmp_path)
    assert code == 1 and words in err and 'a column "subject"' in err
    assert shlex.join(kwargs(**proposed)) in err
    assert not (tmp_path / "store").exists() and not (tmp_path / "runs").exists()
    if command is PREPARE:  # as proposed, it works
        code, _, err = run(*PREPARE, *kwargs(**proposed), cwd=tmp_path)
        assert code == 0, err


def test_one_picture_each_is_possible_in_split_folders(tmp_path):
    names = [f"{split}/{name}" for split in SPLITS for name in both("1", "2", "3")]
    write(tmp_path / "pairs", *names)
    pattern = kwargs(subject_pattern="one picture each")
    code, out, err = run(*TRAIN_PIX2PIX, *pattern, cwd=tmp_path)
    assert code == 0 and out.startswith("found 9 people in 9 pairs"), err


def test_spellings_of_one_name_are_warned_of(tmp_path):
    people = ("1", "01", "Bob", "bob ", "carol", "dan", "eve")
    write(tmp_path / "pairs", *both(*[f"{p}/{n}" for p in people for n in range(2)]))
    for command in (PREPARE, TRAIN_PIX2PIX):
        code, out, err = run(*command, cwd=tmp_path)
        assert code == 0, err
        assert "Warning: '01' and '1', 'Bob' and 'bob ' may be one person each" in out


@pytest.mark.parametrize(
    "trial", [*range(4), *(pytest.param(trial, marks=pytest.mark.soak) for trial in range(4, 12))]
)
def test_people_who_join_a_store_change_nobodys_split(tmp_path, trial):
    chance = random.Random(trial)
    names = [f"p{chance.randrange(10**6)}" for _ in range(12)]
    pairs, before = tmp_path / "pairs", {}
    for count in (6, 7, 8, 12):
        for k in range(len(before), count):
            write(pairs, *both(f"{names[k]}/0", f"{names[k]}/1"), size=(8, 8), seed=k)
        report = prepare(pairs, tmp_path / "store", size=8, thermal_mode="luma", workers=0)
        assert report.kept == 2 * len(before) and report.written == 2 * (count - len(before))
        now = stored_splits(tmp_path / "store")
        assert {name: now[name] for name in before} == before
        before = now
    assert sorted(before.values()) == ["test"] * 2 + ["train"] * 8 + ["val"] * 2


def split_tree(root, **people):
    """Two pairs of each person in split folders."""
    names = [
        f"{s}/{f}"
        for s, own in people.items()
        for f in both(*[f"{p}_{n}" for p in own for n in "12"])
    ]
    return write(root, *names)


@pytest.mark.parametrize("few", ["val", "test"])
def test_splits_of_one_person_are_refused_before_training(tmp_path, few):
    people = dict(train=PEOPLE[:3], val=PEOPLE[3:5], test=PEOPLE[5:7])
    split_tree(tmp_path / "pairs", **people | {few: PEOPLE[7:]})
    code, _, err = run(*TRAIN_PIX2PIX, cwd=tmp_path)
    assert code == 1 and f"{few.replace('val', 'validation')} split has 1 subject (henry" in err
    assert "--split all" in err
    assert not list(tmp_path.glob("runs/**/*.safetensors"))
    code, out, err = run(*TRAIN_PIX2PIX, *kwargs(split="all"), cwd=tmp_path)
    assert code == 0 and "The test pairs are the training pairs" in out, err


def test_limited_subjects_are_counted(tmp_path):
    split_tree(tmp_path / "pairs", train=PEOPLE[:3], val=PEOPLE[3:5], test=PEOPLE[5:7])
    code, _, err = run(*TRAIN_PIX2PIX, "--subjects", "test", 1, cwd=tmp_path)
    assert code == 1 and "test split has 1 subject" in err and '"subjects" limits it to 1' in err


def test_roles_without_genuine_pairs_are_refused(tmp_path):
    split_tree(tmp_path / "pairs", train=PEOPLE[:3], val=PEOPLE[3:5], test=PEOPLE[5:7])
    rows = ["thermal,visible,subject,split,role"]
    for split, own in (("train", PEOPLE[:3]), ("val", PEOPLE[3:5]), ("test", PEOPLE[5:7])):
        for place, person in enumerate(own):
            role = ("gallery", "probe")[place % 2] if split == "test" else "both"
            for n in "12":
                files = [f"{split}/{side}/{person}_{n}.png" for side in ("thermal", "visible")]
                rows.append(",".join([*files, person, split, role]))
    (tmp_path / "pairs/manifest.csv").write_text("\n".join(rows))
    code, _, err = run(*TRAIN_PIX2PIX, cwd=tmp_path)
    assert code == 1 and "the test split has no genuine pair" in err


def test_files_that_are_not_seen_are_counted(tmp_path):
    pairs = write(tmp_path / "pairs", *both(*[f"{p}_{n}" for p in PEOPLE for n in "12"]))
    write(pairs, "other/1.png", *(f"thermal/{f}/1.png" for f in ("@eaDir", ".hidden", "__MACOSX")))
    for number in range(3):
        (pairs / f"thermal/alice_{number}.xyz").touch()
    (tmp_path / "elsewhere").mkdir()
    for side in ("thermal", "visible"):  # a person behind a link
        shutil.move(pairs / side / "henry_1.png", tmp_path / "elsewhere" / f"{side}.png")
        linked = write(tmp_path / "disk" / side, "1.png", seed=7)
        (pairs / side / "henry").symlink_to(linked, target_is_directory=True)
    for command in (PREPARE, TRAIN_PIX2PIX):
        code, out, err = run(*command, cwd=tmp_path)
        assert code == 0, err
        assert "found 8 people in 16 pairs" in out
        assert "3 files with suffixes that are not images': .xyz (3), e.g. " in out
        assert "1 images not seen, in folders that no layout has (e.g. " in out


def with_suffixes(root):
    """Thermal and visible images in folders of their own, with names that end differently."""
    names = [f"{p}_{n}" for p in PEOPLE for n in "12"]
    ends = (("thermal", "_T"), ("visible", "_V"))
    return write(root, *(f"{side}/{name}{end}.png" for side, end in ends for name in names))


def unknown_endings(root):
    for side in ("thermal", "visible"):
        (root / side).mkdir(parents=True)
        (root / side / "1.xyz").touch()


def lost_files(root):
    root.mkdir()
    (root / "manifest.csv").write_text("thermal,visible\nt\\1.png,v\\1.png\n")


REASONS = {
    "suffixes": (with_suffixes, "--suffixes _T _V"),
    "one folder": (
        lambda root: write(root, *(f"{p}_{n}_{e}.png" for p in PEOPLE for n in "12" for e in "TV")),
        "--suffixes _T _V",
    ),
    "unknown endings": (unknown_endings, ".xyz (1)"),
    "lost files": (lost_files, "there is no image pairs/t/1.png"),
    "people outside": (
        lambda root: write(root, *(f"{p}/{f}/1.png" for p in PEOPLE for f in ("first", "second"))),
        "16 images not seen, in folders that no layout has",
    ),
}


@COMMANDS
@pytest.mark.parametrize("case", REASONS)
def test_the_reason_is_not_lost(tmp_path, case, command):
    make, words = REASONS[case]
    make(tmp_path / "pairs")
    code, _, err = run(*command, cwd=tmp_path)
    assert code == 1 and words in err


@pytest.mark.parametrize("case", ["suffixes", "one folder"])
def test_suffixes_pair_files(tmp_path, case):
    REASONS[case][0](tmp_path / "pairs")
    code, out, err = run(*PREPARE, *kwargs(suffixes=["_T", "_V"]), cwd=tmp_path)
    assert code == 0 and "found 8 people in 16 pairs (alice: 2 pictures, e.g. alice_1" in out, err


def test_backslashes_of_a_manifest_are_read(tmp_path):
    write(tmp_path / "pairs", *both(*[f"{p}/{n}" for p in PEOPLE for n in "12"]))
    rows = [f"thermal\\{p}\\{n}.png,visible\\{p}\\{n}.png" for p in PEOPLE for n in "12"]
    (tmp_path / "pairs/manifest.csv").write_text("\n".join(["thermal,visible", *rows]))
    code, out, err = run(*PREPARE, cwd=tmp_path)
    assert code == 0 and "found 8 people in 16 pairs (alice: 2 pictures" in out, err


@pytest.mark.parametrize("method", [name for name in list_methods() if not needs_pairs(name)])
def test_unpaired_methods_train_on_images_without_partners(tmp_path, method):
    write(tmp_path / "pairs", *(f"trainA/a{n}.png" for n in range(14)))
    write(tmp_path / "pairs", *(f"trainB/b{n}.png" for n in range(9)), size=(30, 50), seed=1)
    code, out, err = run("train", method, *TRAIN, cwd=tmp_path)
    assert code == 0, err
    assert "14 thermal and 9 visible images without partners" in out
    assert "Not measured: there are no test pairs: AUC, EER, PSNR and SSIM" in out


def test_unpaired_training_is_measured_on_pairs(tmp_path):
    write(tmp_path / "pairs", *(f"trainA/a{n}.png" for n in range(14)))
    write(tmp_path / "pairs", *(f"trainB/b{n}.png" for n in range(9)), seed=1)
    for split in ("val", "test"):
        names = [f"{split}{p}_{n}.png" for p in "xy" for n in "12"]
        write(tmp_path / "pairs", *(f"{split}{side}/{name}" for side in "AB" for name in names))
    code, out, err = run("train", "cut", *TRAIN, cwd=tmp_path)
    assert code == 0 and "Not measured" not in out and "AUC -" not in out, err
    code, _, err = run(*TRAIN_PIX2PIX, cwd=tmp_path)
    assert code == 1 and "or train a method that needs no pairs: attentiongan, cut" in err


@pytest.mark.skipif(not REAL_PAIRS.is_dir(), reason=f"needs the real pairs {REAL_PAIRS}")
def test_real_pairs_say_what_they_need(tmp_path):
    (tmp_path / "pairs").symlink_to(REAL_PAIRS)
    code, _, err = run(*TRAIN_PIX2PIX, cwd=tmp_path)
    assert code == 1 and "found 2 people in 10 pairs (ninepos: 9 pictures, e.g. ninepos_p1" in err
    assert "one picture each" in err and "2 subject(s) are too few" in err
    code, out, err = run(*TRAIN_PIX2PIX, *kwargs(subject_pattern="one picture each"), cwd=tmp_path)
    assert code == 0, err
    assert "found 10 people in 10 pairs" in out and "train 6 people / 6" in out
    assert "8 images not seen, in folders that no layout has" in out  # the calibration board
