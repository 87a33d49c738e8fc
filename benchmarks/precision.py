"""Whether a method that is trained in bfloat16 ends where it ends in float32: the same
experiments from several seeds, in either precision, judged on the test split.

Experiments are those of `aggan train`, their run folders are kept, and what has been run is not
run again. A seed decides the weights, the order and the crops; the faces are **synthetic** and the
same for all. `difference` is bfloat16 less float32, the mean over the seeds, each compared with
itself; the spread is the standard deviation over seeds.
"""

import argparse
import statistics

from aggan.experiments import PRECISIONS, Experiment
from aggan.reproduction.notebooks import run_experiments
from aggan.reproduction.printed import MEASURES
from aggan.reproduction.targets import further_seed

SCALES = {"auc": 100, "eer": 100}  # in %, as in the tables


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--method", default="ag-gan", help="that is trained")
    parser.add_argument("--profile", default="demo", help="how large the experiments are")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="two or more")
    parser.add_argument("--runs", default="runs", help="where run folders are kept")
    parser.add_argument("--jobs", type=int, default=2, help="experiments at a time")


def compared(measure: str, reports: dict[tuple[str, int], dict], seeds: list[int]) -> dict:
    """One measure in both precisions."""
    wide, narrow = (
        [SCALES.get(measure, 1) * reports[precision, seed][measure] for seed in seeds]
        for precision in PRECISIONS
    )
    apart = [n - w for w, n in zip(wide, narrow)]
    row = {
        "synthetic faces": measure,
        "float32": statistics.mean(wide),
        "its spread": statistics.stdev(wide),
        "bf16": statistics.mean(narrow),
        "spread of bf16": statistics.stdev(narrow),
        "difference": statistics.mean(apart),
        "spread of differences": statistics.stdev(apart),
    }
    return (
        row
        | {"within float32's spread": abs(row["difference"]) <= row["its spread"]}
        | {
            f"{name}, seed {seed}": value
            for name, values in (("float32", wide), ("bf16", narrow))
            for seed, value in zip(seeds, values)
        }
    )


def measure(given: argparse.Namespace) -> list[dict]:
    first = {
        precision: Experiment(
            given.method, profile=given.profile, overrides={"precision": precision}, runs=given.runs
        )
        for precision in PRECISIONS
    }
    experiments = {
        (precision, seed): further_seed(first[precision], seed)
        for precision in PRECISIONS
        for seed in given.seeds
    }
    reports = run_experiments(experiments, given.jobs)
    return [compared(measure, reports, given.seeds) for measure in MEASURES]
