"""Every method's training step can be recorded and replayed: nothing in it is decided by, or
made on, the host.
"""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from aggan.data import AugmentedPairs, Batch, ResidentPairs, UnpairedImages, open_pairs
from aggan.experiments import PROFILES
from aggan.methods import create_method, list_methods
from aggan.methods.blocks import ImagePool, TwoWay
from aggan.runtime.cuda_graphs import CudaGraph, GraphedStep, HostGraph, make_capturable, set_rate

SIZE, BATCH, STEPS = 32, 2, 7


def fresh(name):
    """A small method, with pools that are soon full."""
    torch.manual_seed(0)
    method = create_method(name, image_size=SIZE, **PROFILES["smoke"].method_kwargs[name]).train()
    if hasattr(method, "pools"):
        method.pools = TwoWay(
            ImagePool((3, SIZE, SIZE), size=5), ImagePool((3, SIZE, SIZE), size=5)
        )
    return method


@pytest.fixture(scope="module")
def pairs():
    return open_pairs(
        "synthetic-arl",
        image_size=SIZE,
        render_size=36,
        subjects={"train": 2},
        images_per_subject=4,
    )


def losses(name, pairs, make_graph, device):
    """The losses of a few steps in double precision with falling learning rates, on crops that
    are told by their indices.
    """
    method = fresh(name).double().to(device)
    optimizers = method.optimizers()
    images = (AugmentedPairs if method.paired else UnpairedImages)(pairs, SIZE, 36)
    resident = ResidentPairs(images, device)

    def step(crops):
        batch = resident(crops)
        return method.training_step(
            batch._replace(thermal=batch.thermal.double(), visible=batch.visible.double()),
            optimizers,
        )

    if make_graph:
        for optimizer in optimizers.values():
            make_capturable(optimizer)
        step = GraphedStep(step, device, make_graph)
    rows = []
    for number in range(STEPS):
        torch.manual_seed(number)
        for optimizer in optimizers.values():
            for group in optimizer.param_groups:
                set_rate(group, 2.0 ** -(10 + number))
        crops = torch.tensor(
            [
                images.crops(((number + place) % len(pairs), 10 * number + place))
                for place in range(BATCH)
            ]
        )
        rows.append([float(loss) for loss in step(crops.to(device)).values()])
    return rows


on_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


@pytest.mark.parametrize(
    "make_graph, device",
    [(HostGraph, "cpu"), pytest.param(CudaGraph, "cuda", marks=on_gpu)],
    ids=["cpu", "gpu"],
)
@pytest.mark.parametrize("name", list_methods())
def test_a_replayed_step_is_the_step(name, pairs, make_graph, device):
    as_it_is, replayed = (
        losses(name, pairs, graph, torch.device(device)) for graph in (None, make_graph)
    )
    assert as_it_is != [as_it_is[0]] * STEPS
    for one, other in zip(as_it_is, replayed):
        assert other == pytest.approx(one, rel=1e-9)


class HostTensors(TorchDispatchMode):
    """Collects operations that bring values of the host to a device that is none."""

    def __init__(self):
        super().__init__()
        self.found = []

    def __torch_dispatch__(self, function, types, arguments=(), keywords=None):
        result = function(*arguments, **(keywords or {}))
        tensors = [
            tensor
            for tensor in tree_leaves((arguments, keywords, result))
            if isinstance(tensor, torch.Tensor)
        ]
        copied = "copy" in str(function)
        hosts = [
            tensor.is_cpu and (tensor.ndim > 0 or copied) for tensor in tensors
        ]  # a number is part of a launch
        if any(hosts) and not all(hosts):
            self.found.append(str(function))
        return result


@pytest.mark.parametrize("name", list_methods())
def test_a_step_needs_no_value(name):
    """On the device `meta` tensors have shapes and no values: what asks for one fails."""
    method = fresh(name).to("meta")
    optimizers = {
        part: torch.optim.SGD(getattr(method, part).parameters(), lr=0.1)
        for part in method.trainable
    }
    thermal, visible = (torch.rand(BATCH, 3, SIZE, SIZE, device="meta") for _ in range(2))
    with HostTensors() as host:
        method.training_step(Batch(thermal, visible, [], []), optimizers)
    assert not host.found
