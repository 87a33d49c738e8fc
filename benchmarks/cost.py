"""What all runs behind the paper's four tables cost: the steps of the profile `paper`, at what
a step was measured to take.

Nothing is timed here. Seconds of a step on the CPU come from methods.json, which `aggan bench
methods` writes. Hours of a GPU come from gpu.json where `aggan bench gpu` was run; without it they
are what the operations would take at an assumed share of a card's nominal throughput. Figures show
runs of the tables and cost none of their own; validation and the test are left out.
"""

import argparse
import json
from collections import Counter
from pathlib import Path

from aggan.experiments import Experiment
from aggan.methods import method_label
from aggan.reproduction.targets import table_experiments

FIGURES = Path(__file__).resolve().parents[1] / "figures" / "benchmarks"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--records",
        default=str(FIGURES),
        help="folder of methods.json, and of gpu.json if there is one",
    )
    parser.add_argument("--card", default="A100", help="assumed where no GPU was measured")
    parser.add_argument(
        "--teraflops",
        type=float,
        default=312.0,
        help="its nominal bfloat16 throughput without sparsity, 10^12 operations a second",
    )
    parser.add_argument(
        "--share", type=float, default=0.1, help="of it that a step at batch 1 is assumed to attain"
    )


def paper_runs() -> dict[str, Experiment]:
    """Every run behind Tables 1 to 4, each once."""
    rows = [
        experiment
        for table in (1, 2, 3, 4)
        for experiment in table_experiments(table, profile="paper").values()
        if experiment.method != "flow-matching"  # not of the paper
    ]
    return {json.dumps([e.dataset, e.method, e.method_kwargs], sort_keys=True): e for e in rows}


def at_pace(measured: dict[str, float], steps: dict[str, dict]) -> dict[str, float]:
    """Seconds of a step by method: measured, or what its operations take at the pace of
    AG-GAN's.
    """
    pace = measured["ag-gan"] / steps["ag-gan"]["gflop"]
    return {name: measured.get(name, pace * step["gflop"]) for name, step in steps.items()}


def gpu_seconds(given: argparse.Namespace, steps: dict[str, dict]) -> tuple[str, dict[str, float]]:
    """The card, and seconds of a step on it by method."""
    path = Path(given.records) / "gpu.json"
    if not path.is_file():
        return f"{given.card}, assumed", {
            name: step["gflop"] / (1e3 * given.teraflops * given.share)
            for name, step in steps.items()
        }
    record = json.loads(path.read_text())
    measured = {
        row["method"]: row["ours_ms"] / 1e3
        for row in record["rows"]
        if (row["size"], row["batch"], row["precision"]) == (steps["ag-gan"]["size"], 1, "bf16")
    }
    pace = measured["ag-gan"] / steps["ag-gan"]["gflop"]
    return record["machine"]["gpu"], {
        name: measured.get(name, pace * step["gflop"]) for name, step in steps.items()
    }


def measure(given: argparse.Namespace) -> list[dict]:
    record = Path(given.records) / "methods.json"
    if not record.is_file():
        raise FileNotFoundError(
            f"There is no {record}: `aggan bench methods --output {given.records}` measures it"
        )
    steps = {row["method"]: row for row in json.loads(record.read_text())["rows"]}
    runs, rows = paper_runs().values(), []
    card, on_card = gpu_seconds(given, steps)
    on_cpu = at_pace(
        {name: step["step_s"] for name, step in steps.items() if step["step_s"]}, steps
    )
    for (dataset, name), count in Counter((e.dataset, e.method) for e in runs).items():
        pairs = len(next(e for e in runs if e.dataset == dataset).pairs("train"))
        updates = next(e for e in runs if e.dataset == dataset).resolved_profile.total_steps(pairs)
        hours, card_hours = (
            count * updates * seconds / 3600 for seconds in (on_cpu[name], on_card[name])
        )
        rows.append(
            {
                "pairs of": dataset.removeprefix("synthetic-"),
                "method": method_label(name),
                "runs": count,
                "steps of a run": updates,
                "seconds of a step": on_cpu[name],
                "CPU hours": hours,
                "GFLOP of a step": steps[name]["gflop"],
                f"GPU hours ({card})": card_hours,
            }
        )
    sums = {
        column: sum(row[column] for row in rows)
        for column in rows[0]
        if column == "runs" or "hours" in column
    }
    return [*rows, dict.fromkeys(rows[0]) | {"pairs of": "both", "method": "all"} | sums]
