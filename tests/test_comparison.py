"""The statistics of comparisons against plain loops, and runs that cannot be compared."""

import itertools
import json
import math
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch

from aggan.experiments.runs import compare_runs, list_runs, run_faces
from aggan.recognition.comparison import (
    FaceEmbeddings,
    common_faces,
    compare_faces,
    delong,
    delong_p,
    holm,
    read_faces,
    save_faces,
    scores_of,
)
from aggan.recognition.seeds import seed_mean
from aggan.recognition.verification import subject_weights


def invented(noise, people=12, seed=0):
    """Embeddings of invented people, two probes and one gallery image of each."""
    shared, own = (torch.Generator().manual_seed(number) for number in (7, 100 + seed))
    centre = torch.randn(people, 1, 8, generator=shared)
    probes = centre + noise * torch.randn(people, 2, 8, generator=own)
    gallery = centre + 0.3 * torch.randn(people, 1, 8, generator=shared)
    subjects = [f"s{n}" for n in range(people)]
    return FaceEmbeddings(
        probes.flatten(0, 1),
        gallery.flatten(0, 1),
        [subject for subject in subjects for _ in range(2)],
        subjects,
        [f"{subject}/{k}" for subject in subjects for k in range(2)],
        [f"{subject}/gallery" for subject in subjects],
        "invented",
    )


def won(genuine, impostor):
    """1 where the genuine score is higher, ½ for a tie."""
    return float(genuine > impostor) + 0.5 * float(genuine == impostor)


def loop_delong(genuine, impostor):
    """AUCs and their covariance from structural components (DeLong et al. 1988), in loops."""
    methods, m, n = range(len(genuine)), len(genuine[0]), len(impostor[0])
    v10 = [[sum(won(g, i) for i in impostor[k]) / n for g in genuine[k]] for k in methods]
    v01 = [[sum(won(g, i) for g in genuine[k]) / m for i in impostor[k]] for k in methods]
    areas = [sum(v) / m for v in v10]

    def s(v, a, b):
        return sum((x - areas[a]) * (y - areas[b]) for x, y in zip(v[a], v[b])) / (len(v[a]) - 1)

    pairs = [[s(v10, a, b) / m + s(v01, a, b) / n for b in methods] for a in methods]
    return np.array(areas), np.array(pairs)


@pytest.mark.parametrize("ties", [False, True])
def test_delong_equals_its_definition(ties):
    rng = np.random.default_rng(3)
    genuine, impostor = rng.normal(1, 1, (3, 21)), rng.normal(0, 1, (3, 34))
    if ties:
        genuine, impostor = genuine.round(), impostor.round()
    for found, expected in zip(delong(genuine, impostor), loop_delong(genuine, impostor)):
        np.testing.assert_allclose(found, expected, atol=1e-12)


def test_delong_p_is_that_of_a_normal_difference():
    first, second = invented(0.9), invented(0.5, seed=1)
    scores = [scores_of(faces) for faces in (first, second)]
    areas, s = loop_delong([own.genuine for own in scores], [own.impostor for own in scores])
    z = (areas[1] - areas[0]) / math.sqrt(s[0, 0] + s[1, 1] - 2 * s[0, 1])
    assert delong_p(first, second) == pytest.approx(math.erfc(abs(z) / math.sqrt(2)), abs=1e-9)


def loop_difference(first, second, weights):
    """Difference of the AUCs of one resample, every weighed pair of comparisons in loops."""
    areas, number = [], {name: n for n, name in enumerate(sorted({*first.probe_subjects}))}
    for faces in (first, second):
        scores, pairs = scores_of(faces).values, []
        sides = itertools.product(range(len(scores)), range(scores.shape[1]))
        for p, g in sides:
            i, j = number[faces.probe_subjects[p]], number[faces.gallery_subjects[g]]
            weight = weights[i] if i == j else weights[i] * weights[j]
            pairs.append((scores[p, g], i == j, weight))
        genuine = [(s, w) for s, same, w in pairs if same and w]
        impostor = [(s, w) for s, same, w in pairs if not same and w]
        total = sum(w for _, w in genuine) * sum(w for _, w in impostor)
        areas.append(sum(won(s, t) * w * v for s, w in genuine for t, v in impostor) / total)
    return areas[1] - areas[0]


def test_paired_bootstrap_equals_loops():
    first, second = invented(0.9), invented(0.5, seed=1)
    one, two = (faces.verification(30).resampled.auc for faces in (first, second))
    expected = [loop_difference(first, second, w) for w in subject_weights(12, 30, 0).tolist()]
    np.testing.assert_allclose(two - one, expected, atol=1e-3)
    row = compare_faces({"a": {0: first}, "b": {0: second}}, resamples=30)[1]
    ends = np.quantile(expected, [0.025, 0.975])
    found = [row["auc_difference_low"], row["auc_difference_high"]]
    np.testing.assert_allclose(found, ends, atol=1e-3)


@pytest.mark.parametrize(
    "given, adjusted",
    [
        ([], []),
        ([0.03], [0.03]),
        ([0.01, 0.02, 0.03], [0.03, 0.04, 0.04]),
        ([0.04, None, 0.01], [0.04, None, 0.02]),
        ([0.6, 0.7], [1.0, 1.0]),
    ],
)
def test_holm(given, adjusted):
    assert holm(given) == pytest.approx(adjusted) if None not in given else holm(given) == adjusted


def test_three_seeds_of_one_sign_are_not_yet_a_difference():
    """A bootstrap of three seeds would call this p < 0.01."""
    differences = np.array([0.3, 1.0, 2.5])
    draws = differences[:, None] + 0.05 * np.random.default_rng(1).normal(size=(3, 1000))
    found = seed_mean(differences, draws, people=100)
    assert 0.15 < found.p_value() < 0.25  # t of two degrees of freedom: 0.19
    assert found.interval()[0] < 0 < found.interval()[1]


def unlike(faces, **fields):
    return {"a": {0: faces}, "b": {0: replace(faces, **fields)}}


@pytest.mark.parametrize(
    "settings, words",
    [
        (lambda f: unlike(f, matcher="dlib"), "judged by different matchers (dlib, invented)"),
        (lambda f: unlike(f, probe_frames=[f"x{n}" for n in range(24)]), "different images"),
        (lambda f: {"a": {0: f}, "b": {1: f}}, '"b" has no run with a seed of "a" (0)'),
    ],
)
def test_what_cannot_be_paired_is_refused(settings, words):
    with pytest.raises(ValueError) as refused:
        compare_faces(settings(invented(0.5)))
    assert words in str(refused.value) and "\n" not in str(refused.value)


def test_order_of_the_images_does_not_matter():
    faces = invented(0.7)
    turned = {
        name: list(reversed(getattr(faces, name)))
        for name in faces.__annotations__
        if isinstance(getattr(faces, name), list)
    }
    turned |= {"probes": faces.probes.flip(0), "gallery": faces.gallery.flip(0)}
    one, two = common_faces([faces, replace(faces, **turned)])
    assert one.probe_frames == two.probe_frames and torch.equal(one.probes, two.probes)


def test_kept_embeddings(tmp_path):
    faces, path = invented(0.5), tmp_path / "faces.safetensors"
    save_faces(path, faces)
    assert read_faces(path).verification(0).auc == faces.verification(0).auc
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(ValueError, match="faces.safetensors holds no embeddings"):
        read_faces(path)


def test_runs_of_a_folder(workplace, run_folder, tmp_path):
    """A run's kept embeddings have the AUC of its report, and a copy of it does not differ."""
    report = json.loads((run_folder / "report.json").read_text())
    assert run_faces(run_folder).verification(0).auc == pytest.approx(report["auc"], abs=1e-9)
    listed = list_runs(workplace / "runs").set_index("name").loc[run_folder.name]
    assert listed["auc"] == pytest.approx(100 * report["auc"]) and listed["step"] == 6
    copy = tmp_path / "copy"
    shutil.copytree(run_folder, copy)
    config = json.loads((copy / "config.json").read_text())
    config["profile"]["resamples"] = 7  # of which the weights say nothing
    (copy / "config.json").write_text(json.dumps(config))
    table = compare_runs([run_folder, copy], resamples=50)
    assert len(table) == 2 and table["auc_difference"][1] == 0 and table["auc_p_holm"][1] == 1
    with pytest.raises(FileNotFoundError, match="is no run folder"):
        compare_runs([run_folder, tmp_path])
    config["dataset_kwargs"]["seed"] = 7  # frames of the same names, of other people
    (copy / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match="of the data seeds 0 and 7, .* with one --data-seed"):
        compare_runs([run_folder, copy])
