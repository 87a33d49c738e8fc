"""Every probe compared with every gallery face, AUC and EER: scikit-learn on the whole matrix
of scores, and `aggan.recognition.verification` tile by tile.

Both get the same synthetic embeddings, ten images of each subject on either side, and are timed in
turn at the sizes that scikit-learn is asked to do. Memory is the peak above the embeddings, of a
fresh process; `cpu_s` is the time of all cores together, which a busy machine changes least.
`intervals_s` is what the 95 % intervals (1,000 resamples) take once the scores are counted.
"""

import argparse
import json
import resource
import subprocess
import sys
import time

import numpy as np
import torch
from harness import alternate
from sklearn.metrics import auc, roc_curve

from aggan.recognition.verification import count_scores


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--images",
        type=int,
        nargs="+",
        default=[1000, 3162, 10_000, 31_623],
        help="of probes, and of gallery images: scores are their square",
    )
    parser.add_argument(
        "--reference",
        type=int,
        default=3162,
        help="largest number of images that scikit-learn is given; "
        "10000 takes it a minute and gigabytes",
    )
    parser.add_argument("--dimensions", type=int, default=512, help="of an embedding")
    parser.add_argument("--rounds", type=int, default=3, help="of timing both in turn")


def faces(images: int, dimensions: int) -> tuple:
    """Embeddings and subjects of probes and gallery; the EER is about 13 % at 512 dimensions."""
    generator = torch.Generator().manual_seed(0)
    subjects = np.arange(images) // 10
    centres = torch.randn(images // 10 + 1, dimensions, generator=generator)
    probe, gallery = (
        torch.randn(images, dimensions, generator=generator)
        .mul_(3)
        .add_(centres[torch.from_numpy(subjects)])
        for _ in range(2)
    )
    return probe, subjects, gallery, subjects


def scikit_learn(probe, probe_subjects, gallery, gallery_subjects) -> tuple[float, float]:
    """AUC and EER from all scores at once."""
    scores = torch.nn.functional.normalize(probe) @ torch.nn.functional.normalize(gallery).T
    far, tar, _ = roc_curve(
        (probe_subjects[:, None] == gallery_subjects).ravel(), scores.numpy().ravel()
    )
    after = (far + tar >= 1).argmax()
    (before_gap, after_gap), (before_far, after_far) = (
        (far + tar - 1)[after - 1 : after + 1],
        far[after - 1 : after + 1],
    )
    return float(auc(far, tar)), float(
        before_far - before_gap / (after_gap - before_gap) * (after_far - before_far)
    )


def counted(*given) -> tuple[float, float]:
    """AUC and EER from counts."""
    result = count_scores(*given).verification(resamples=0)
    return result.auc, result.eer


def once(way: str, images: int, dimensions: int) -> dict[str, float]:
    """Time and memory of one run in this process, with its AUC and EER; ours goes on to the
    intervals.
    """
    given = faces(images, dimensions)
    with open("/proc/self/statm") as file:
        held = int(file.read().split()[1]) * resource.getpagesize()
    start, cpu = time.perf_counter(), time.process_time()
    if way == "scikit_learn":
        areas = scikit_learn(*given)
    else:
        counts = count_scores(*given)
        result = counts.verification(resamples=0)
        areas = result.auc, result.eer
    measured = {
        "s": time.perf_counter() - start,
        "cpu_s": time.process_time() - cpu,
        "auc": areas[0],
        "eer": areas[1],
    }
    if way == "aggan":
        start = time.perf_counter()
        _ = counts.verification().auc_interval
        measured["intervals_s"] = time.perf_counter() - start
    return measured | {
        "mib": (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - held) / 2**20
    }


def fresh(way: str, images: int, dimensions: int) -> dict[str, float]:
    """`once` in a process of its own."""
    return json.loads(
        subprocess.run(
            [sys.executable, __file__, way, str(images), str(dimensions)],
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        ).stdout
    )


def measure(given: argparse.Namespace) -> list[dict]:
    rows = []
    for images in given.images:
        ours = fresh("aggan", images, given.dimensions)
        row = {
            "images": images,
            "scores": images**2,
            "reference_s": None,
            "ours_s": ours["s"],
            "ratio": None,
            "reference_mib": None,
            "ours_mib": ours["mib"],
            "cpu_s": ours["cpu_s"],
            "intervals_s": ours["intervals_s"],
            "auc": ours["auc"],
            "eer": ours["eer"],
            "auc_error": None,
            "eer_error": None,
        }
        if images <= given.reference:
            reference, both = (
                fresh("scikit_learn", images, given.dimensions),
                faces(images, given.dimensions),
            )
            row |= alternate(lambda: scikit_learn(*both), lambda: counted(*both), given.rounds)
            row |= {
                "reference_mib": reference["mib"],
                "auc_error": abs(ours["auc"] - reference["auc"]),
                "eer_error": abs(ours["eer"] - reference["eer"]),
            }
        rows.append(row)
    return rows


if __name__ == "__main__":
    print(json.dumps(once(sys.argv[1], *map(int, sys.argv[2:]))))
