"""What makes translated faces better: AG-GAN+ with one change at a time, at equal steps.

Experiments are those of `aggan train`, their run folders are kept, and what has been run is not
run again. The last weights are judged on people of neither split, so that a choice made here says
nothing of the test; all faces are **synthetic**. `AUC` is by dlib, which knows real faces and has
no part in any training; its interval is over people.
"""

import argparse

import harness

from aggan.data.protocols import SyntheticPairs, subject_keys
from aggan.evaluation import evaluate
from aggan.experiments import SYNTHETIC_JUDGE, Experiment, load_method, translator
from aggan.recognition import load_embedder
from aggan.reproduction.notebooks import run_experiments
from aggan.runtime.run_folder import RunFolder

JUDGED_START = 20_000_000  # number of the first person who is judged
FEATURES = {"perceptual_features": "mobilefacenet"}
VARIANTS = {  # name -> overrides of the profile, options of the method
    "recipe": ({}, {}),  # features, weight 100
    "no recogniser": ({}, {"lambda_perceptual": 0.0, "identity": "none"}),
    "embedding only, weight 1": ({}, {"lambda_perceptual": 0.0}),
    "features, weight 10": ({}, {"lambda_perceptual": 10.0} | FEATURES),
    "features, weight 300": ({}, {"lambda_perceptual": 300.0} | FEATURES),
    "pixel loss, weight 30": ({}, {"lambda_l1": 30.0}),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("variants", nargs="*", help=f"some of {', '.join(VARIANTS)} (default: all)")
    parser.add_argument("--profile", default="demo", help="how large the experiments are")
    parser.add_argument("--people", type=int, default=150, help="who are judged")
    parser.add_argument("--runs", default="runs", help="where run folders are kept")
    parser.add_argument("--jobs", type=int, default=2, help="experiments at a time")


def judged_people(people: int, size: int) -> SyntheticPairs:
    """Two gallery images and two probes of each."""
    keys = []
    for n in range(people):
        keys += subject_keys(JUDGED_START + n, n, images=4, poses=1, glasses=False)
    return SyntheticPairs(keys, size, render_size=size * 9 // 8)


def judged(experiment: Experiment, pairs: SyntheticPairs) -> dict:
    """The last weights of a run by both judges."""
    run = RunFolder(experiment.folder)
    translate = translator(load_method(run.checkpoint(run.steps_done)))
    stranger, known = (
        evaluate(translate, pairs, load_embedder(name)) for name in ("dlib", SYNTHETIC_JUDGE)
    )
    return {
        **harness.judged(stranger),
        "AUC, synthetic judge": 100 * known["auc"],
        "PSNR dB": known["psnr"],
        "SSIM": known["ssim"],
    }


def measure(given: argparse.Namespace) -> list[dict]:
    chosen = {name: VARIANTS[name] for name in given.variants or VARIANTS}
    experiments = {
        name: Experiment(
            "ag-gan+",
            profile=given.profile,
            overrides={"checkpoints": 1} | overrides,
            method_kwargs=options,
            runs=given.runs,
        )
        for name, (overrides, options) in chosen.items()
    }
    run_experiments(experiments, given.jobs)
    size = next(iter(experiments.values())).resolved_profile.image_size
    pairs = judged_people(given.people, size)
    return [
        {"synthetic faces": name} | judged(experiment, pairs)
        for name, experiment in experiments.items()
    ]
