"""How long importing takes, in fresh processes: the package and its command line beside `import
torch, torchvision`, which they cannot do without.
"""

import argparse
import subprocess
import sys
from pathlib import Path

from harness import alternate

REFERENCE = "import torch, torchvision"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--rounds", type=int, default=3, help="how often each is timed")
    parser.add_argument(
        "--modules", nargs="*", default=["aggan", "aggan.experiments"], help="to import"
    )


def start(*command: str) -> None:
    """Run Python in a process of its own."""
    subprocess.run([sys.executable, *command], stdout=subprocess.DEVNULL, check=True)


def measure(given: argparse.Namespace) -> list[dict]:
    cases = {f"import {module}": ("-c", f"import {module}") for module in given.modules}
    cases["aggan --help"] = str(Path(sys.executable).with_name("aggan")), "--help"
    rows = []
    for what, command in cases.items():
        times = alternate(lambda: start("-c", REFERENCE), lambda: start(*command), given.rounds)
        rows.append(
            {
                "what": what,
                "torch, torchvision s": times["reference_s"],
                "seconds": times["ours_s"],
                "ours / torch, torchvision": 1 / times["ratio"],
            }
        )
    return rows
