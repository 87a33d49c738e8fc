"""A mistyped command is answered by one sentence and exit code 2, before torch is imported."""

import json
import re
import signal
import subprocess
import sys
import time

import pytest
from conftest import AGGAN, aggan_process

from aggan.commands.signatures import method_sources
from aggan.reproduction.command_line import COMMANDS, main
from aggan.runtime.run_folder import RunFolder

MISTYPED = {  # command line -> what the sentence must hold
    "trian ag-gan": "there is no command 'trian'; did you mean 'train'?",
    "evalute x": "did you mean 'evaluate'?",
    "--verison": "there is no command '--verison'",
    "train": "name a method: `aggan train METHOD`, one of ag-gan, ag-gan+",
    "train ag-gun": "did you mean 'ag-gan'?",
    "train AG-GAN+": "there is no method 'AG-GAN+'",
    "train --method ag-gan": "has no option --method",
    "train ag-gan+ --batch-sise 8": "no option --batch-sise; did you mean --batch-size?",
    "train ag-gan+ --image_sise 8": "did you mean --image-size?",
    "train ag-gan+ --lr 1e-4": "did you mean --learning-rate?",
    "train ag-gan+ --lamda-l1 5": "did you mean --lambda-l1?",
    "train ag-gan+ --lambda-nce 5": "has no option --lambda-nce",
    "train ag-gan+ --overrides {}": "has no option --overrides",
    "train ag-gan+ --sead 3": "did you mean --seed?",
    "train ag-gan+ extra": "does not expect 'extra'",
    "train ag-gan+ --epochs": "--epochs needs a value: a whole number ≥ 1",
    "train ag-gan+ --epochs ten": "--epochs must be a whole number ≥ 1, not 'ten'",
    "train ag-gan+ --epochs 0": "--epochs must be a whole number ≥ 1, not 0",
    "train ag-gan+ --steps 2.5": "--steps must be a whole number ≥ 1, not '2.5'",
    "train ag-gan+ --steps 5 --epochs 2": "--steps and --epochs both set the length",
    "train ag-gan+ --batch-size -1": "--batch-size must be a whole number ≥ 1, not -1",
    "train ag-gan+ --image-size 64 --load-size 60": "--load-size must be at least --image-size, 64",
    "train ag-gan+ --learning-rate 0": "--learning-rate must be a number > 0, not 0.0",
    "train ag-gan+ --learning-rate fast": "--learning-rate must be a number > 0, not 'fast'",
    "train ag-gan+ --learning-rate nan": "--learning-rate must be a number > 0, not nan",
    "train ag-gan+ --lambda-l1 -5": "--lambda-l1 must be a number ≥ 0, not -5.0",
    "train ag-gan+ --channels 2": "--channels must be 1 or 3, not '2'",
    "train ag-gan+ --discriminator-layers": "--discriminator-layers must be a list, each",
    "train ag-gan+ --discriminator-layers 4 x": "--discriminator-layers must be a list",
    "train ag-gan+ --identity-reference both": "must be 'visible' or 'thermal', not 'both'",
    "train ag-gan+ --gcam maybe": "does not expect 'maybe'",
    "train ag-gan+ --seed": "--seed must be a list, each of it a whole number ≥ 0",
    "train ag-gan+ --seed -1": "whole number ≥ 0, not (-1,)",
    "train ag-gan+ --profile huge": "--profile must be 'smoke' or 'demo' or",
    "train ag-gan+ --profile": "--profile needs a value",
    "train ag-gan+ --suffixes _T": "--suffixes",
    "train ag-gan+ --subjects train": "--subjects must be a mapping from names",
    "train ag-gan+ --split tset": "--split must be 'train' or 'val' or 'test' or 'all', not 'tset'",
    "train ag-gan+ --root pairs --people 5": "--people renders people; folder has its own",
    "train ag-gan+ --config nowhere.yaml": "there is no configuration file nowhere.yaml",
    "train ag-gan+ --config broken.yaml": "did you mean 'steps'?",
    "train cut --config whole.yaml": "whole.yaml trains ag-gan+, not cut",
    "prepare --root pairs": "aggan prepare needs --output (the store",
    "prepare --root a --output b --dataset thermal --suffixes a b": "has no option --suffixes",
    "prepare --root a --output b --thermal-mode gray": "must be 'grey' or 'luma' or",
    "prepare --root a --output b --size 0": "--size must be a whole number ≥ 1, not 0",
    "prepare --root a --output b --detekt": "did you mean --detect?",
    "evaluate --output out": "aggan evaluate needs RUN",
    "evaluate run": "aggan evaluate needs --output",
    "explain run --output out --splitt test": "has no option --splitt; did you mean --split?",
    "translate run --input in": "aggan translate needs --output",
    "translate run --input in --output out --compile=yes": "does not expect 'yes'",
    "translate run --input in --output out --precision 16": "--precision must be '32-true' or",
    "reproduce demo --jobs 0": "--jobs must be a whole number ≥ 1, not 0",
    "reproduce demo --budget money": "--budget must be 'steps' or 'time', not 'money'",
    "reproduce demo --options nowhere.yaml": "nowhere.yaml cannot be read",
    "notebook a.ipynb b.ipynb --parameters seed": "--parameters must be names and values",
    "weights get": "must be 'list' or 'fetch' or 'verify', not 'get'",
    "weights fetch": "name what to fetch",
    "methods all": "aggan methods does not expect 'all'",
}
CONFIGS = {"broken.yaml": "method: ag-gan+\nstps: 3\n", "whole.yaml": "method: ag-gan+\n"}


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A working folder with the configuration files, and no other file."""
    monkeypatch.chdir(tmp_path)
    for name, text in CONFIGS.items():
        (tmp_path / name).write_text(text)
    return tmp_path


@pytest.mark.parametrize("line", MISTYPED)
def test_mistyped_command(place, capsys, line):
    assert main(line.split()) == 2
    said = capsys.readouterr()
    assert said.err.startswith("aggan: ") and said.err.count("\n") == 1 and not said.out
    assert MISTYPED[line] in said.err
    assert {path.name for path in place.iterdir()} == set(CONFIGS), "work was done"


IMPORTS = """
import sys
from aggan.reproduction.command_line import main
for line in sys.stdin.read().splitlines():
    main(line.split())
    assert "torch" not in sys.modules, line
"""


def test_no_mistyped_command_imports_torch(place):
    lines = [line for line in MISTYPED if not line.startswith(("evaluate", "explain"))][::4]
    lines += ["--help", "--version", "methods", *(f"{name} --help" for name in COMMANDS)]
    given = {"input": "\n".join(lines), "capture_output": True, "text": True}
    done = subprocess.run([sys.executable, "-c", IMPORTS], **given)
    assert done.returncode == 0, done.stderr[-500:]


@pytest.mark.parametrize("method", method_sources()[0])
def test_help_lists_the_options_of_a_method(capsys, method):
    assert main(["train", method, "--help"]) == 0
    said = capsys.readouterr().out
    for flag in ("--learning-rate FLOAT", "--image-size INT", "--batch-size INT", "--root STR"):
        assert flag in said
    assert "paper:" in said


def test_no_arguments_list_the_commands(tmp_path):
    done = aggan_process(cwd=tmp_path, check=False)
    assert done.returncode == 2 and "train" in done.stdout
    assert aggan_process("--version", cwd=tmp_path).stdout.startswith("aggan 0.")


SMOKE = ("--profile", "smoke", "--checkpoints", 1, "--resamples", 10)


def train(*arguments, code=0):
    assert main(["train", *map(str, arguments)]) == code


@pytest.fixture(scope="module")
def trial(tmp_path_factory, request):
    """A folder with a finished run of the name `trial`."""
    folder = tmp_path_factory.mktemp("trial")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        train("pix2pix", *SMOKE, "--steps", 3, "--name", "trial")
    return folder


RUN = "runs/synthetic-arl/pix2pix/trial"


def test_a_configuration_file_makes_the_run_again(trial, monkeypatch, capsys):
    monkeypatch.chdir(trial)
    metrics = trial / RUN / "metrics.jsonl"
    before = metrics.stat().st_mtime_ns
    train("--config", f"{RUN}/config.yaml")
    assert metrics.stat().st_mtime_ns == before and capsys.readouterr().out.endswith(f"{RUN}\n")
    train("--config", RUN, "--steps", 4, code=1)  # the name is that of another run
    said = capsys.readouterr().err
    assert "steps 3, not 4" in said and f"`--extend {RUN}`" in said
    train("--config", RUN, "--steps", 4, "--name", "longer")
    assert (trial / "runs/synthetic-arl/pix2pix/longer/report.json").is_file()


def test_a_run_is_extended_from_its_last_state(trial, monkeypatch, capsys):
    monkeypatch.chdir(trial)
    train("--extend", RUN, "--steps", 5, "--name", "on")
    said = capsys.readouterr().out
    assert f"Goes on from step 3 of {RUN}" in said and "pix2pix on the cpu" in said.casefold()
    run = RunFolder("runs/synthetic-arl/pix2pix/on")
    assert [row["step"] for row in run.metrics()] == [3, 5] and "extend" in run.config
    train("--extend", RUN, "--steps", 3, "--name", "no more", code=1)
    assert "has 3 steps already" in capsys.readouterr().err


def weights(run, step):
    from aggan.training import read_checkpoint

    tensors = read_checkpoint(RunFolder(run).checkpoint(step))[0]
    return {name: tensor for name, tensor in tensors.items() if "running" not in name}


def test_training_begins_with_given_weights(trial, monkeypatch):
    monkeypatch.chdir(trial)
    slow = (*SMOKE, "--steps", 1, "--learning-rate", 1e-9)
    train("pix2pix", *slow, "--name", "begun", "--init", RUN)
    train("pix2pix", *slow, "--name", "fresh")
    given = weights(RUN, 3)
    for name, same in (("begun", True), ("fresh", False)):
        own = weights(f"runs/synthetic-arl/pix2pix/{name}", 1)
        changed = [
            own[key].float().sub(given[key].float()).abs().max()
            for key in given
            if "num_" not in key
        ]
        assert bool(max(changed) < 1e-5) is same


def test_evaluate_takes_the_data_from_the_run(trial, monkeypatch, capsys):
    monkeypatch.chdir(trial)
    assert main(["evaluate", RUN, "--output", "judged"]) == 0
    said = capsys.readouterr().out
    assert f"{RUN} on synthetic-arl (seed 0), test" in said
    own, again = (
        json.loads((trial / place / "report.json").read_text()) for place in (RUN, "judged")
    )
    assert own["auc"] == again["auc"] and own["psnr"] == again["psnr"]


@pytest.mark.parametrize("runs", ["läufe 🙂", "{runs}"])
def test_any_folder_keeps_runs(trial, monkeypatch, tmp_path, runs):
    monkeypatch.chdir(trial)
    folder = tmp_path / runs
    train("cut", *SMOKE, "--steps", 1, "--runs", folder)
    assert len(list(folder.glob("synthetic-arl/cut/*/report.json"))) == 1


@pytest.mark.parametrize("name, code", [("SIGINT", 130), ("SIGTERM", 143)])
def test_a_signal_saves_the_state(trial, tmp_path, name, code):
    cache = ("--cache", trial / "data" / "synthetic")
    command = ("train", "pix2pix", *SMOKE, "--steps", 100_000, "--name", "long", *cache)
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    process = subprocess.Popen([AGGAN, *map(str, command)], cwd=tmp_path, **streams)
    run = RunFolder(tmp_path / "runs/synthetic-arl/pix2pix/long")
    while run.steps_done < 50:
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(getattr(signal, name))
    _, said = process.communicate(timeout=60)
    assert process.returncode == code
    from aggan.training import read_checkpoint

    step = int(re.search(r"the same command goes on after step (\d+)", said)[1])
    assert read_checkpoint(run.resume_file)[1]["step"] == step >= 50
