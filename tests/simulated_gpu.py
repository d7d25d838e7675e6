"""A pretended GPU: tensors that say they lie on ``cuda:0``, their values computed by the processor.

What it shows: that nothing mixes devices, that what goes to numpy or to C was fetched first, that results are what the
processor finds, under autocast as a GPU has it too, and how often the processor waits for the device and where. What it
cannot show: speed, memory, rounding and races of a real GPU, its libraries, kernels that it lacks (but for unsigned
integers, of which it has next to none), files that are read without ``map_location``, several processes. What passes
here is still to be run on a GPU.

Only where PyTorch is built without CUDA: one that is asks the driver itself, and there may be a GPU to test on.

How: a tensor on it is a tensor of the processor in a wrapper that C++ asks for its device. Every operation comes by
:class:`Place`, is refused where CUDA would refuse it, noted where it waits, and done by the processor.
"""

import ctypes
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple
from unittest.mock import patch

import pytest
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

import ptychoflow

LIBRARY = Path(ptychoflow.__file__).parent
SMALL = 1 << 16
"""Bytes that are sent along with a command: no copy of so few waits, where it need not."""

aten, DEVICE_OF = torch.ops.aten, torch.ops.prim.device.default
SENDS = (aten._to_copy, aten.copy_)
INDEXES = (aten.index, aten.index_put, aten.index_put_, aten._index_put_impl_)
TAKES_NUMBERS = (*INDEXES, aten.where, aten.masked_fill, aten.masked_fill_, aten.fill_)
"""Beside operations by element, those that take a tensor of one number from the processor."""
LOOKS = (aten._local_scalar_dense, aten.nonzero, aten.masked_select, aten.equal, aten._unique2, aten.bincount)
LOOKS += (aten.repeat_interleave, aten._linalg_check_errors, aten._linalg_eigh, aten._linalg_svd)
"""What cannot go on before the processor has seen a result."""
UNSIGNED = (torch.uint16, torch.uint32, torch.uint64)
MOVES = (*SENDS, aten.empty, aten.empty_like, aten.empty_strided, aten.new_empty, aten.clone, aten.detach)
"""Beside views, what CUDA does with unsigned integers of more than a byte."""


REASON = "PyTorch is built for CUDA, no GPU can be pretended"
in_pretence = pytest.mark.skipif(torch.backends.cuda.is_built(), reason=REASON)
"""Marks a test that pretends GPUs by itself."""


class Wait(NamedTuple):
    """The processor waited for the device.

    Attributes:
        why: the operation.
        where: file and line of the library, empty outside.
    """

    why: str
    where: str


class PretendedGPU:
    """What a test sees of it, and what it may set.

    Attributes:
        waits: since the beginning or the last :meth:`forget`.
        operations: handed over since the beginning, views apart.
        seconds_per_operation: how long it takes for each, while the processor goes on.
        largest: bytes of the largest tensor that fits.
        free: bytes that it says are free.
        count: how many such GPUs there are.
    """

    def __init__(self, count: int) -> None:
        self.waits: list[Wait] = []
        self.seconds_per_operation, self.largest, self.free, self.count = 0.0, float("inf"), 1 << 36, count
        self.busy_until, self.current, self.operations = 0.0, 0, 0
        self.backward_on: torch.device | None = None

    def forget(self) -> None:
        """Count waits from here on."""
        self.waits.clear()

    def waits_in(self, *files: str) -> list[Wait]:
        """Those in some files of the library, or in all of it."""
        return [wait for wait in self.waits if wait.where.partition(":")[0] in files or (wait.where and not files)]

    def wait(self, why: str) -> None:
        """Until all is done that was handed over."""
        self.waits.append(Wait(why, _where()))
        time.sleep(max(0.0, self.busy_until - time.perf_counter()))

    def work(self) -> None:
        """Hand over an operation."""
        self.operations += 1
        if self.seconds_per_operation:
            self.busy_until = max(self.busy_until, time.perf_counter()) + self.seconds_per_operation


class There(Tensor):
    """A tensor on a pretended GPU."""

    @staticmethod
    def __new__(cls, values: Tensor, place: torch.device) -> "There":
        made = Tensor._make_subclass(cls, values, False, dispatch_device=True, device_for_backend_keys=place)
        made.values_, made.place_ = values, place
        return made

    device = property(lambda self: self.place_)
    is_cuda, is_cpu = property(lambda self: True), property(lambda self: False)
    __torch_function__ = torch._C._disabled_torch_function_impl

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        return _carry_out(func, args, kwargs or {})

    def numpy(self, *_: Any, **__: Any) -> None:
        raise TypeError(f"can't convert {self.place_} device type tensor to numpy. Use Tensor.cpu() first")

    def __array__(self, *_: Any, **__: Any) -> None:
        self.numpy()

    def data_ptr(self) -> None:
        raise TypeError(f"an address on {self.place_} leads nowhere for the processor")

    def tolist(self) -> Any:
        return self.cpu().tolist()

    def __repr__(self, **_: Any) -> str:
        return f"{self.detach().cpu()!r} on {self.place_}"

    def __format__(self, how: str) -> str:
        return format(self.detach().cpu(), how)

    def __deepcopy__(self, memo: dict) -> "There":
        copy = self.detach().clone().requires_grad_(self.requires_grad)
        return memo.setdefault(
            id(self), torch.nn.Parameter(copy, self.requires_grad) if isinstance(self, torch.nn.Parameter) else copy
        )

    def __reduce_ex__(self, protocol: int) -> tuple:
        return self.detach().cpu().__reduce_ex__(protocol)


class Place(TorchDispatchMode):
    """Carries out what a GPU would, for tensors that lie there or are asked to."""

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        if func is not DEVICE_OF and torch.is_inference_mode_enabled() and func._can_decompose():
            with self:  # else the parts are never seen
                return func.decompose(*args, **(kwargs or {}))
        return _carry_out(func, args, kwargs or {})


class Spelling(TorchFunctionMode):
    """Says in full what C++ would look up on a real GPU before anything is dispatched."""

    def __torch_function__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        kwargs = dict(kwargs or {})
        if func is Tensor.cuda:
            func, args = Tensor.to, (args[0], "cuda", *args[2:])
        if func is Tensor.to:
            args = tuple(map(_in_full, args))
        if "device" in kwargs:
            kwargs["device"] = _in_full(kwargs["device"])
        if func in (torch.tensor, torch.as_tensor) and _is_there(kwargs.get("device")):
            return func(*args, **kwargs | {"device": "cpu"}).to(kwargs["device"])
        if func in (Tensor.__getitem__, Tensor.__setitem__) and isinstance(args[0], There):
            args = (args[0], _sent(args[1], args[0].place_), *args[2:])
        return func(*args, **kwargs)


class Event:
    """Notes when the device comes by."""

    def __init__(self, enable_timing: bool = False) -> None:
        self._timed, self._at = enable_timing, None

    def record(self, stream: None = None) -> None:
        self._at = max(_gpu.busy_until, time.perf_counter())

    def synchronize(self) -> None:
        _gpu.wait("event")

    def elapsed_time(self, end: "Event") -> float:
        """Milliseconds."""
        if not (self._timed and end._timed) or self._at is None or end._at is None:
            raise RuntimeError("both events must be recorded, with enable_timing")
        return 1e3 * (end._at - self._at)


_gpu = PretendedGPU(0)
"""The one at hand: tensors of C++ know no other way to it."""


@contextmanager
def pretend(count: int = 1) -> Iterator[PretendedGPU]:
    """Let torch find some GPUs that are not there.

    Args:
        count: how many.
    """
    global _gpu
    _gpu = PretendedGPU(count)
    with ExitStack() as stack:
        for owner, name, value in _answers(_gpu):
            stack.enter_context(patch.object(owner, name, value))
        overwrite = torch.__future__.get_overwrite_module_params_on_conversion()
        torch.__future__.set_overwrite_module_params_on_conversion(True)
        stack.callback(torch.__future__.set_overwrite_module_params_on_conversion, overwrite)
        stack.enter_context(_device_guard())
        stack.enter_context(torch.autograd.set_multithreading_enabled(False))
        stack.enter_context(Spelling())
        stack.enter_context(Place())
        yield _gpu


def _answers(gpu: PretendedGPU) -> list[tuple[Any, str, Any]]:
    """What is to be replaced in torch, and by what."""
    engine, generator = torch.autograd._engine_run_backward, torch.Generator().get_state()

    def backward(roots: Any, *args: Any, **kwargs: Any) -> Any:
        # the engine wants streams of whatever is not on the processor
        gpu.backward_on = next((root.place_ for root in tree_leaves(roots) if isinstance(root, There)), None)
        try:
            return engine(roots, *args, **kwargs)
        finally:
            gpu.backward_on = None

    def set_device(device: torch.device | int) -> None:
        gpu.current = torch.device("cuda", device).index if isinstance(device, int) else device.index or 0

    def pin(tensor: Tensor, device: None = None) -> Tensor:
        pinned = tensor.clone()
        pinned.pinned_ = True
        return pinned

    cuda = {
        "is_available": lambda: True,
        "_lazy_init": lambda: None,
        "device_count": lambda: gpu.count,
        "current_device": lambda: gpu.current,
        "set_device": set_device,
        "synchronize": lambda device=None: gpu.wait("synchronize"),
        "empty_cache": lambda: None,
        "mem_get_info": lambda device=None: (gpu.free, 1 << 40),
        "get_device_capability": lambda device=None: (9, 0),
        "get_device_name": lambda device=None: "a pretended GPU",
        "is_bf16_supported": lambda *_, **__: True,
        "get_rng_state": lambda device=None: generator,
        "set_rng_state": lambda state, device=None: None,
        "manual_seed_all": lambda seed: None,
        "Event": Event,
    }
    accelerator = {
        "is_available": lambda: True,
        "current_accelerator": lambda check_available=False: None if check_available else torch.device("cuda"),
        "current_device_index": lambda: gpu.current,
        "set_device_index": set_device,
    }
    return [
        *((torch.cuda, name, value) for name, value in cuda.items()),
        *((torch.accelerator, name, value) for name, value in accelerator.items()),
        (torch.cuda.amp.common, "amp_definitely_not_available", lambda: False),
        (torch.autograd, "_engine_run_backward", backward),
        (Tensor, "pin_memory", pin),
        (Tensor, "is_pinned", lambda tensor, device=None: hasattr(tensor, "pinned_")),
    ]


@contextmanager
def _device_guard() -> Iterator[None]:
    """Let C++ switch to CUDA devices as it switches to the processor: not at all. A torch without CUDA could not."""
    library = next((Path(torch.__file__).parent / "lib").glob("libc10.*"))
    guards = (ctypes.c_void_p * 2).in_dll(ctypes.CDLL(str(library)), "_ZN3c104impl26device_guard_impl_registryE")
    before, guards[1] = guards[1], guards[0]
    try:
        yield
    finally:
        guards[1] = before


def _carry_out(func: Any, args: tuple, kwargs: dict) -> Any:
    """An operation, by the processor, on tensors here or there."""
    if func is DEVICE_OF:
        return torch.device("cpu") if _gpu.backward_on else args[0].place_
    given = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
    there = [tensor for tensor in given if isinstance(tensor, There)]
    place = _place_of_result(there, kwargs)
    if not there and place is None:
        return func(*args, **kwargs)
    _check(func, args, kwargs, given, place)
    _note(func, args, kwargs, there, place)
    before: dict[int, Tensor] = {}

    def fetched(leaf: Any) -> Any:
        values = leaf.values_ if isinstance(leaf, There) else leaf
        if isinstance(leaf, Tensor):
            before[id(values)] = leaf
        return values

    def put(leaf: Any) -> Any:
        if not isinstance(leaf, Tensor):
            return leaf
        if (same := before.get(id(leaf))) is not None:  # it was changed in place
            _reshape(same, leaf)
            return same
        if place is not None and leaf.untyped_storage().nbytes() > _gpu.largest:
            raise torch.OutOfMemoryError("CUDA out of memory, the pretended GPU says")
        return leaf if place is None else There(leaf, place)

    own_args, own_kwargs = tree_map(fetched, (args, kwargs))
    if "device" in kwargs:
        own_kwargs |= {"device": torch.device("cpu"), "pin_memory": None}
    return tree_map(put, func(*own_args, **own_kwargs))


def _place_of_result(there: list[There], kwargs: dict) -> torch.device | None:
    """The device that a result comes to lie on; None for the processor."""
    if _gpu.backward_on:
        return _gpu.backward_on
    if (asked := kwargs.get("device")) is not None:
        return torch.device("cuda", asked.index or 0) if _is_there(asked) else None
    return there[0].place_ if there else None


def _check(func: Any, args: tuple, kwargs: dict, given: list[Tensor], place: torch.device | None) -> None:
    """Refuse what CUDA would refuse."""
    kind, generator = func.overloadpacket, kwargs.get("generator")
    if generator is not None and place is not None and generator.device.type != "cuda":
        raise RuntimeError(f"Expected a 'cuda' device type for generator but found 'cpu' ({func})")
    if any(tensor.dtype in UNSIGNED for tensor in given) and not (kind in MOVES or func.is_view):
        raise NotImplementedError(f"{func} not implemented for unsigned integers on CUDA")
    if kind in SENDS:
        return
    places = {tensor.device for tensor in given}
    if kind in INDEXES:
        if args[0].is_cpu and len({index.device for index in args[1] if index is not None} | {args[0].device}) > 1:
            raise RuntimeError("indices should be either on cpu or on the same device as the indexed tensor (cpu)")
        places = {tensor.device for tensor in (args[0], *args[2:3]) if isinstance(tensor, Tensor)}
    if torch.Tag.pointwise in func.tags or kind in TAKES_NUMBERS:
        places -= {tensor.device for tensor in given if tensor.is_cpu and tensor.dim() == 0}
        places |= {tensor.device for tensor in given if tensor.is_cpu and tensor.dim() > 0 and kind not in INDEXES}
    if len(places) > 1:
        found = " and ".join(sorted(map(str, places)))
        raise RuntimeError(
            f"Expected all tensors to be on the same device, but found at least two devices, {found}! ({func})"
        )


def _note(func: Any, args: tuple, kwargs: dict, there: list[There], place: torch.device | None) -> None:
    """Note what is handed over, and what it waits for."""
    kind, name = func.overloadpacket, func.overloadpacket._qualified_op_name.removeprefix("aten::")
    if kind in SENDS:
        source = args[0] if kind is aten._to_copy else args[1]
        target_there = place is not None if kind is aten._to_copy else isinstance(args[0], There)
        quick = source.is_pinned() or source.nbytes <= SMALL
        eager = kwargs.get("non_blocking") or (kind is aten.copy_ and len(args) > 2 and args[2])
        if target_there != isinstance(source, There) and not (target_there and eager and quick):
            _gpu.wait("upload" if target_there else "download")
    elif kind in LOOKS:
        _gpu.wait(name)
    elif kind in INDEXES and isinstance(args[0], There):
        for index in (index for index in args[1] if index is not None):
            if index.dtype in (torch.bool, torch.uint8):
                _gpu.wait(f"{name} by a mask")
            elif index.is_cpu:
                _gpu.wait("upload")
    if not func.is_view:
        _gpu.work()


def _reshape(tensor: Tensor, like: Tensor) -> None:
    """Follow an operation that changes a shape in place."""
    if tensor.shape == like.shape and tensor.stride() == like.stride():
        return
    included = torch._C._meta_in_tls_dispatch_include()
    torch._C._set_meta_in_tls_dispatch_include(True)
    try:
        with torch._C._DisableTorchDispatch():
            aten.as_strided_(tensor, like.shape, like.stride(), like.storage_offset())
    finally:
        torch._C._set_meta_in_tls_dispatch_include(included)


def _where() -> str:
    """File and line of the library that we are in."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        path = Path(frame.f_code.co_filename)
        if path.is_relative_to(LIBRARY):
            return f"{path.relative_to(LIBRARY).as_posix()}:{frame.f_lineno}"
        frame = frame.f_back
    return ""


def _is_there(device: Any) -> bool:
    return device is not None and torch.device(device).type == "cuda"


def _in_full(value: Any) -> Any:
    """A CUDA device with its number; anything else as it is."""
    if isinstance(value, torch.device) or (isinstance(value, str) and value.startswith("cuda")):
        device = torch.device(value)
        return torch.device("cuda", _gpu.current) if device.type == "cuda" and device.index is None else device
    return value


def _sent(index: Any, place: torch.device) -> Any:
    """An index whose lists lie on the device."""
    if isinstance(index, tuple):
        return tuple(_sent(part, place) for part in index)
    return torch.tensor(index).to(place) if isinstance(index, list) else index
