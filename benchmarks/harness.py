"""What the benchmarks share: two things timed in turn in one process, and a record of what was
measured on which machine.

Each benchmark is a file of this folder with `add_arguments(parser)` and `measure(given) -> list of
rows`; a row is a dict of plain values. `aggan bench NAME` calls `main` here, which prints the rows
as a table and writes NAME.json and NAME.md where `--output` says.
"""

import argparse
import importlib.util
import json
import logging
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd
import torch

FOLDER = Path(__file__).resolve().parent


def names() -> list[str]:
    """The benchmarks that there are."""
    return sorted(
        path.stem for path in FOLDER.glob("*.py") if path.stem not in ("harness", "plain", "peers")
    )


def seconds(call: Callable) -> float:
    """Seconds that a call takes; work that it left to a GPU included."""
    start = time.perf_counter()
    call()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start


def alternate(
    reference: Callable, ours: Callable, rounds: int = 5, warm_up: int = 1
) -> dict[str, float]:
    """Both timed in turn, so that a busy machine slows both: median seconds of each, and the
    median of the rounds' ratios.
    """
    for _ in range(warm_up):
        reference(), ours()
    pairs = [(seconds(reference), seconds(ours)) for _ in range(rounds)]
    return {
        "reference_s": statistics.median(r for r, _ in pairs),
        "ours_s": statistics.median(o for _, o in pairs),
        "ratio": statistics.median(r / o for r, o in pairs),
    }


def machine() -> dict[str, str | int]:
    """What it was measured on."""
    return {
        "system": f"{platform.system()} {platform.machine()}",
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else "none",
    }


def judged(report: dict) -> dict[str, float | None]:
    """The AUC of a report of `evaluate` and the ends of its interval, in %; None without one."""
    measured = {"AUC": report["auc"], "from": report["auc_low"], "to": report["auc_high"]}
    return {column: None if rate is None else 100 * rate for column, rate in measured.items()}


def load(name: str):
    """The module of a benchmark. Raises ValueError for a name that there is not."""
    if name not in names():
        raise ValueError(f'There is no benchmark "{name}"; there are {", ".join(names())}.')
    sys.path.insert(0, str(FOLDER))  # benchmarks import from each other and from here
    spec = importlib.util.spec_from_file_location(f"benchmark_{name}", FOLDER / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def main(name: str, arguments: Sequence[str]) -> None:
    """Run a benchmark, print its table and write it down."""
    module = load(name)
    parser = argparse.ArgumentParser(
        f"aggan bench {name}",
        description=module.__doc__,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--output", help="folder for NAME.json and NAME.md")
    module.add_arguments(parser)
    given = parser.parse_args(arguments)
    logging.getLogger("aggan").setLevel(logging.WARNING)  # the table is what is printed
    rows = module.measure(given)
    table = pd.DataFrame(rows).to_markdown(index=False, floatfmt=".3g")
    print(table)
    if given.output:
        Path(given.output).mkdir(parents=True, exist_ok=True)
        settings = {key: value for key, value in vars(given).items() if key != "output"}
        record = {"rows": rows, "settings": settings, "machine": machine()}
        (Path(given.output) / f"{name}.json").write_text(
            json.dumps(record, indent=1) + "\n", encoding="utf-8"
        )
        (Path(given.output) / f"{name}.md").write_text(table + "\n", encoding="utf-8")
