"""Every method's training step can be recorded as a CUDA graph: it does not depend on the host."""

import pytest
import torch
from host_graph import HostGraph
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from aggan.data import AugmentedPairs, Batch, ResidentPairs, UnpairedImages, open_pairs
from aggan.experiments import PROFILES
from aggan.methods import create_method, list_methods
from aggan.methods.blocks import ImagePool, TwoWay
from aggan.runtime.cuda_graphs import CudaGraph, GraphedStep, make_capturable, set_rate

SIZE, BATCH, STEPS = 32, 2, 7


def fresh(name):
    """A small method whose image pools are full after a few steps."""
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
    """Losses of a few steps in double precision, with falling learning rates."""
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
        step = GraphedStep(step, device, optimizers.values(), make_graph)
    rows = []
    for number in range(STEPS):
        torch.manual_seed(number)
        for optimizer in optimizers.values():
            for group in optimizer.param_groups:
                set_rate(group, 2.0 ** -(10 + number))
        items = [((number + place) % len(pairs), 10 * number + place) for place in range(BATCH)]
        crops = torch.tensor([images.crops(item) for item in items])
        rows.append([float(loss) for loss in step(crops.to(device)).values()])
    return rows


on_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


@pytest.mark.parametrize(
    "make_graph, device, tolerance",  # a GPU's atomic additions have no fixed order
    [(HostGraph, "cpu", 1e-9), pytest.param(CudaGraph, "cuda", 1e-6, marks=on_gpu)],
    ids=["cpu", "gpu"],
)
@pytest.mark.parametrize("name", list_methods())
def test_a_replayed_step_equals_the_step(name, pairs, make_graph, device, tolerance):
    device = torch.device(device)
    expected = losses(name, pairs, None, device)
    replayed = losses(name, pairs, make_graph, device)
    assert len({tuple(row) for row in expected}) == STEPS
    for one, other in zip(expected, replayed):
        assert other == pytest.approx(one, rel=tolerance)


def test_a_recorded_branch_stays_as_it_was_recorded():
    """`HostGraph` shows what a CUDA graph would do with an `if` on a tensor."""
    step = GraphedStep(
        lambda x: {"absolute": x.sum() if x.sum() > 0 else -x.sum()},
        torch.device("cpu"),
        [],
        HostGraph,
        warm_up=0,
    )
    assert step(torch.tensor([1.0, 2.0]))["absolute"] == 3
    assert step(torch.tensor([-1.0, -2.0]))["absolute"] == -3


class HostTensors(TorchDispatchMode):
    """Collects the operations that copy values from the host to another device."""

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
        # a CPU scalar that is not copied is a kernel's argument
        hosts = [tensor.is_cpu and (tensor.ndim > 0 or copied) for tensor in tensors]
        if any(hosts) and not all(hosts):
            self.found.append(str(function))
        return result


@pytest.mark.parametrize("name", list_methods())
def test_a_step_reads_no_value_on_the_host(name):
    """Tensors on the `meta` device have shapes but no values: reading one fails."""
    method = fresh(name).to("meta")
    optimizers = {
        part: torch.optim.SGD(getattr(method, part).parameters(), lr=0.1)
        for part in method.trainable
    }
    thermal, visible = (torch.rand(BATCH, 3, SIZE, SIZE, device="meta") for _ in range(2))
    with HostTensors() as host:
        method.training_step(Batch(thermal, visible, [], []), optimizers)
    assert not host.found
