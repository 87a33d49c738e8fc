"""A stand-in for `CudaGraph` that records and replays a training step on the CPU."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class HostGraph(TorchDispatchMode):
    """Records every PyTorch operation of a call with its tensors, and repeats them in place.

    As on a GPU, a replay does not run Python code: branches stay as they were recorded."""

    def __init__(self):
        super().__init__()
        self.operations, self.just_recorded = [], False

    def warm_up(self, call: Callable):
        """Run the call without recording."""
        return call()

    def __torch_dispatch__(self, function, types, arguments=(), keywords=None):
        results = function(*arguments, **(keywords or {}))
        self.operations.append((function, arguments, keywords or {}, results))
        return results

    def record(self, call: Callable):
        """Record the call. Recording on the CPU also runs it, so the first replay does nothing."""
        self.just_recorded = True
        with self:
            return call()

    @torch.no_grad()
    def replay(self) -> None:
        """Repeat the operations and write their results to the tensors of the recording."""
        for function, arguments, keywords, results in [] if self.just_recorded else self.operations:
            repeated = function(*arguments, **keywords)
            for old, new in zip(tree_leaves(results), tree_leaves(repeated)):
                if isinstance(old, Tensor) and old.data_ptr() != new.data_ptr():
                    old.copy_(new)
        self.just_recorded = False
