"""A stand-in for a GPU that carries values.

Inside `simulated_gpu()` tensors say that they lie on `cuda:0` and are computed on the CPU. What a
GPU refuses is refused: tensors of two devices in one operation, numpy of a GPU tensor, a CPU
generator for numbers on the GPU, and a value that is read on the host while a step is recorded."""

import functools
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from unittest import mock

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves, tree_map
from torch.utils.data import DataLoader

CUDA = torch.device("cuda:0")
GIB = 2**30
# operations whose indices may be on the host
INDEXED = ("aten.index.", "aten.index_put", "aten._index_put_impl_", "aten._unsafe_index.")
READ_BY_HOST = ("aten._local_scalar_dense.default", "aten.nonzero.default", "aten.equal.default")


class Host:
    """What the host does: transfers from the GPU are counted, and refused during a recording."""

    transfers = 0
    recording = False
    in_backward = 0  # autograd makes zeros of its own there, which do not say that they are here

    @classmethod
    def reads(cls, what: str) -> None:
        """Count a transfer from the GPU."""
        cls.transfers += 1
        if cls.recording:
            raise RuntimeError(f"{what} reads a GPU tensor on the host during CUDA graph capture")


def is_cuda(device) -> bool:
    """Whether an argument `device` means the GPU."""
    return isinstance(device, int) or device is not None and torch.device(device).type == "cuda"


class GpuTensor(torch.Tensor):
    """A tensor that says it is on `cuda:0`."""

    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, tensor, requires_grad=False):
        return torch.Tensor._make_subclass(cls, tensor, requires_grad)

    device = property(lambda self: CUDA)
    is_cuda = property(lambda self: True)
    is_cpu = property(lambda self: False)

    def __repr__(self, **_):
        return f"GpuTensor({tuple(self.shape)}, {self.dtype})"

    @classmethod
    def __torch_dispatch__(cls, function, types, arguments=(), keywords=None):
        name, keywords = str(function), dict(keywords or {})
        check_devices(name, arguments, keywords)
        to_host = "copy_" in name and not isinstance(arguments[0], GpuTensor)
        if to_host and not Host.in_backward or name in READ_BY_HOST:
            Host.reads(name)
        device = keywords.get("device")
        if device is not None:
            keywords["device"] = "cpu"
        with torch._C._DisableTorchDispatch():
            result = function(*arguments, **keywords)
        if to_host:
            return arguments[0]
        return result if device is not None and not is_cuda(device) else tree_map(on_gpu, result)


def on_gpu(value):
    """A tensor as one of the GPU; anything else as it is."""
    plain = isinstance(value, torch.Tensor) and not isinstance(value, GpuTensor)
    return GpuTensor(value) if plain else value


def check_devices(name: str, arguments, keywords) -> None:
    """Refuse tensors of two devices, except what a GPU takes: scalars, copies, indices."""
    if Host.in_backward or "copy" in name or "_fused_adam_" in name:
        return
    tensors = [t for t in tree_leaves((arguments, keywords)) if isinstance(t, torch.Tensor)]
    on_host = [t for t in tensors if not isinstance(t, GpuTensor) and t.dim()]
    indexed = name.startswith(INDEXED) and isinstance(arguments[0], GpuTensor)
    values = arguments[2:3] if "put" in name else ()
    if on_host and not (indexed and not any(t is value for t in on_host for value in values)):
        raise RuntimeError(
            "Expected all tensors to be on the same device, but found at least two devices, "
            f"cuda:0 and cpu! ({name})"
        )


def bare(tensor: torch.Tensor) -> torch.Tensor:
    """The values of a tensor on the CPU, copied."""
    with torch._C._DisableTorchDispatch():
        return torch.Tensor._make_subclass(torch.Tensor, tensor.detach().clone())


class ToHost(torch.autograd.Function):
    @staticmethod
    def forward(context, x):
        return bare(x)

    @staticmethod
    def backward(context, gradient):
        return GpuTensor(gradient.clone())


class ToGpu(torch.autograd.Function):
    @staticmethod
    def forward(context, x):
        return GpuTensor(x.detach().clone())

    @staticmethod
    def backward(context, gradient):
        return bare(gradient)


def moved(tensor: torch.Tensor, to_gpu: bool) -> torch.Tensor:
    """A tensor on the other device, or as it is."""
    if to_gpu == isinstance(tensor, GpuTensor):
        return tensor
    if not to_gpu:
        Host.reads("a copy")
    with torch.set_grad_enabled(tensor.requires_grad and torch.is_grad_enabled()):
        return (ToGpu if to_gpu else ToHost).apply(tensor)


def target_of(arguments: list, keywords: dict) -> bool | None:
    """Take the device out of the arguments of `Tensor.to`: GPU, host, or None as it is."""
    device = keywords.pop("device", None)
    other = keywords.pop("other", None)
    if device is None and arguments:
        if isinstance(arguments[0], torch.Tensor):
            other = arguments.pop(0)
        elif not isinstance(arguments[0], torch.dtype):
            device = arguments.pop(0)
            arguments[:] = [a for a in arguments[:1] if isinstance(a, torch.dtype)]
    if other is not None:
        arguments.insert(0, other.dtype)
        return isinstance(other, GpuTensor)
    return None if device is None else is_cuda(device)


class OnGpu(TorchFunctionMode):
    """Functions that take a device, or move a tensor to one."""

    def __torch_function__(self, function, types, arguments=(), keywords=None):
        keywords, name = dict(keywords or {}), getattr(function, "__name__", "")
        own = arguments and isinstance(arguments[0], torch.Tensor)
        if own and name in ("to", "cpu", "cuda"):
            return self.move(function, name, arguments[0], list(arguments[1:]), keywords)
        if name in ("numpy", "__array__") and isinstance(arguments[0], GpuTensor):
            raise TypeError("can't convert cuda:0 device type tensor to numpy: use Tensor.cpu()")
        if name == "tolist" and isinstance(arguments[0], GpuTensor):
            return moved(arguments[0].detach(), False).tolist()
        if own and name == "pin_memory":
            return arguments[0]
        return self.create(function, arguments, keywords)

    def move(self, function, name, tensor, arguments, keywords):
        """`Tensor.to`, `cpu` and `cuda`."""
        if name == "to":
            target = target_of(arguments, keywords)
            if keywords.get("dtype", 0) is None:
                keywords.pop("dtype")
            tensor = function(tensor, *arguments, **keywords) if arguments or keywords else tensor
        else:
            target = name == "cuda"
        return tensor if target is None else moved(tensor, target)

    def create(self, function, arguments, keywords):
        """Functions with a device or a generator."""
        device, generator = keywords.get("device"), keywords.get("generator")
        on_device = any(isinstance(argument, GpuTensor) for argument in arguments)
        to_gpu = on_device if device is None else is_cuda(device)
        if to_gpu and isinstance(generator, torch.Generator):
            raise RuntimeError("Expected a 'cuda' device type for generator but found 'cpu'")
        if device is None:
            return function(*arguments, **keywords)
        result = function(*arguments, **keywords | {"device": None if on_device else "cpu"})
        return tree_map(lambda value: self.placed(value, to_gpu), result)

    @staticmethod
    def placed(value, to_gpu):
        if not isinstance(value, torch.Tensor):
            return value
        if to_gpu and not isinstance(value, GpuTensor):
            return GpuTensor(value, value.requires_grad)
        return moved(value, to_gpu)


class SimulatedGraph:
    """In place of `CudaGraph`: a replay takes the step again, and nothing may read on the host."""

    replays = 0

    def warm_up(self, call: Callable):
        return call()

    def record(self, call: Callable):
        """Record and run the call, so that the first replay has nothing to do."""
        self.call, self.fresh = call, True
        Host.recording = True
        try:
            self.losses = call()
        except RuntimeError as error:  # the end of a broken recording reports another error
            message = "operation failed due to a previous error during capture"
            raise RuntimeError(message) from error
        finally:
            Host.recording = False
        return self.losses

    def replay(self) -> None:
        SimulatedGraph.replays += 1
        if not self.fresh:
            Host.recording = True
            try:
                repeated = self.call()
            finally:
                Host.recording = False
            for name, loss in self.losses.items():
                loss.copy_(repeated[name])
        self.fresh = False


def counted(function: Callable) -> Callable:
    """A function of autograd's engine, inside which devices are not checked."""

    @functools.wraps(function)
    def run(*arguments, **keywords):
        Host.in_backward += 1
        try:
            return function(*arguments, **keywords)
        finally:
            Host.in_backward -= 1

    return run


class Autocast(torch.autocast):
    def __init__(self, device_type, *arguments, **keywords):
        super().__init__("cpu", *arguments, **keywords)


def grouped(group: Callable) -> Callable:
    """An optimiser's grouping of tensors by device, which asks C++ for the device."""

    def run(lists, with_indices=False):
        groups = group(lists, with_indices)
        return {
            (tensors[0][0].device, dtype): (tensors, indices)
            for (_, dtype), (tensors, indices) in groups.items()
        }

    return run


def card(capability: tuple[int, int]) -> dict[str, object]:
    """What `torch.cuda` says of the card."""
    return {
        "is_available": lambda: True,
        "device_count": lambda: 1,
        "current_device": lambda: 0,
        "get_device_name": lambda device=None: "Simulated GPU",
        "get_device_capability": lambda device=None: capability,
        "mem_get_info": lambda device=None: (79 * GIB, 80 * GIB),
        "synchronize": lambda device=None: None,
        "set_device": lambda device: None,
        "empty_cache": lambda: None,
        "max_memory_reserved": lambda *_: 0,
        "memory_reserved": lambda *_: 0,
        "reset_peak_memory_stats": lambda *_: None,
        "manual_seed_all": lambda seed: None,
    }


def replaced(capability: tuple[int, int]) -> dict[str, object]:
    """The functions of PyTorch that have to be others, by name."""
    engine = torch.autograd._engine_run_backward
    return {f"torch.cuda.{name}": value for name, value in card(capability).items()} | {
        "torch.accelerator.current_accelerator": lambda check_available=False: None,
        "torch.autocast": Autocast,
        "torch._has_compatible_shallow_copy_type": (
            lambda one, other: isinstance(one, GpuTensor) == isinstance(other, GpuTensor)
        ),
        "torch.autograd._engine_run_backward": counted(engine),
        "torch.autograd.graph._engine_run_backward": counted(engine),
        "torch.optim.Optimizer._group_tensors_by_device_and_dtype": staticmethod(
            grouped(torch.optim.Optimizer._group_tensors_by_device_and_dtype)
        ),
        "aggan.runtime.cuda_graphs.CudaGraph": SimulatedGraph,
    }


@contextmanager
def kept_precision() -> Iterator[None]:
    """Restore the precision of float32 products afterwards."""
    cudnn, cuda = torch.backends.cudnn, torch.backends.cuda
    places = cudnn.conv, cudnn.rnn, cuda.matmul
    before = [place.fp32_precision for place in places]
    yield
    torch.set_float32_matmul_precision("highest")
    cudnn.allow_tf32 = True
    for place, precision in zip(places, before):
        place.fp32_precision = precision


@contextmanager
def simulated_gpu(capability: tuple[int, int] = (9, 0)) -> Iterator[type[Host]]:
    """A block in which there is one GPU of a compute capability; its `Host` counts transfers."""
    from lightning_fabric.accelerators.cuda import _check_cuda_matmul_precision

    _check_cuda_matmul_precision.cache_clear()  # asked once in a process otherwise
    real_init = DataLoader.__init__

    def init(self, *arguments, **keywords):
        real_init(self, *arguments, **keywords | {"pin_memory": False})

    with ExitStack() as stack:
        stack.enter_context(kept_precision())
        for name, value in replaced(capability).items():
            stack.enter_context(mock.patch(name, value))
        stack.enter_context(mock.patch.object(DataLoader, "__init__", init))
        stack.enter_context(OnGpu())
        Host.transfers, SimulatedGraph.replays = 0, 0
        yield Host
