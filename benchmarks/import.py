"""How long importing takes, in fresh processes: the package and its command line beside `import torch, torchvision`, which they cannot do without."""
import argparse
import subprocess
import sys
from pathlib import Path

from harness import alternate

REFERENCE = "import torch, torchvision"
CASES = {"import aggan": "import aggan", "import aggan.data, aggan.methods": "import aggan.data, aggan.methods",
         "import aggan.experiments": "import aggan.experiments", "aggan --help": None}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--rounds", type=int, default=7, help="how often each is timed")


def measure(given: argparse.Namespace) -> list[dict]:
    def start(code: str | None) -> None:
        command = [sys.executable, "-c", code] if code else [Path(sys.executable).parent / "aggan", "--help"]
        subprocess.run(command, stdout=subprocess.DEVNULL, check=True)

    rows = []
    for what, code in CASES.items():
        times = alternate(lambda: start(REFERENCE), lambda: start(code), given.rounds)
        rows.append({"what": what, "torch, torchvision s": times["reference_s"], "seconds": times["ours_s"], "ours / torch, torchvision": 1 / times["ratio"]})
    return rows
