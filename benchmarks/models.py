"""The trained models that ship, judged: every recogniser, the world they were trained in and a
second one with other people, backgrounds and sensors (another seed), and how many of the
translated faces MTCNN finds. All faces are **synthetic**. `partial`: the recogniser taught the
model, so its figure says nothing.
"""

import argparse
from itertools import product

import harness

from aggan.data import collate
from aggan.evaluation import REFERENCES, evaluate
from aggan.experiments import Experiment, default_device, experiment_with, load_method, translator
from aggan.recognition import load_embedder
from aggan.recognition.alignment import detect_face
from aggan.reproduction.judges import JUDGES, is_partial
from aggan.runtime.run_folder import MODELS

FOUND = 0.9  # least probability of a face that counts as found


def add_arguments(parser: argparse.ArgumentParser) -> None:
    shipped = sorted(path.stem for path in MODELS.glob("*.safetensors"))
    parser.add_argument("--weights", nargs="*", default=shipped, help="names, run folders or files")
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1], help="of the worlds")
    parser.add_argument("--people", type=int, default=100, help="of the test split")
    parser.add_argument("--images", type=int, default=8, help="of each person")


def found_share(translate, experiment: Experiment) -> float:
    """Share of the translated test probes in which MTCNN finds a face."""
    pairs = experiment.pairs("test")
    probes = [i for i, record in enumerate(pairs.records) if record.role != "gallery"]
    found = 0
    for index in probes:
        (face,) = translate(collate([pairs[index]])) / 2 + 0.5
        detected = detect_face(face.clamp(0, 1))
        found += detected is not None and detected.probability > FOUND
    return found / len(probes)


def judge(translate, experiment: Experiment) -> dict[str, dict]:
    """A translation by every judge: the report of `evaluate`."""
    pairs, resamples = experiment.pairs("test"), experiment.resolved_profile.resamples
    judges = {name: load_embedder(name).to(default_device()) for name in JUDGES}
    return {
        name: evaluate(translate, pairs, judge, resamples=resamples, seed=experiment.seed)
        for name, judge in judges.items()
    }


def judged_rows(name: str, translate, experiment: Experiment, taught: bool) -> list[dict]:
    """One row for each judge."""
    share = found_share(translate, experiment)
    return [
        {
            "synthetic faces": name,
            "world": experiment.seed,
            "judge": matcher,
            **harness.judged(report),
            "EER": 100 * report["eer"],
            "PSNR dB": report["psnr"],
            "SSIM": report["ssim"],
            "found by MTCNN %": 100 * share,
            "partial": taught and is_partial(matcher, experiment),
        }
        for matcher, report in judge(translate, experiment).items()
    ]


def measure(given: argparse.Namespace) -> list[dict]:
    rows = []
    for weights, seed in product(given.weights, given.seeds):
        size = experiment_with(weights).resolved_profile.image_size
        overrides = {"images_per_subject": given.images, "load_size": size * 9 // 8}
        overrides["subjects"] = {"test": given.people}
        experiment = experiment_with(weights, seed=seed, overrides=overrides)
        method = load_method(weights)
        rows += judged_rows(str(weights), translator(method), experiment, taught=True)
    for name, translate in REFERENCES.items():
        rows += judged_rows(name, translate, experiment, taught=False)
    return rows
