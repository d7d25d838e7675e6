"""A simulated GPU: tensors that report the device ``cuda:0`` and whose values the CPU computes.

It shows that devices are not mixed, that tensors are copied to the CPU before numpy or C reads them, that results
equal those of the CPU, also under a GPU's autocast, and how often and where the CPU waits for the device. It cannot
show speed, memory, rounding or races of a real GPU, its libraries, missing kernels (except for unsigned integers,
which have hardly any), files read without ``map_location``, or several processes. What passes with it must still run
on a GPU.

It works only where PyTorch is built without CUDA: a build with CUDA asks the driver itself.

A tensor on the simulated GPU wraps a tensor of the CPU and reports another device to C++. Every operation passes
:class:`SimulatedDispatch`, which refuses what CUDA would refuse, records waits, and lets the CPU compute.
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
INLINE_BYTES = 1 << 16
"""Largest copy that travels with a command, bytes: a non-blocking copy of so few does not wait."""

aten, DEVICE_OF = torch.ops.aten, torch.ops.prim.device.default
COPIES = (aten._to_copy, aten.copy_)
INDEXES = (aten.index, aten.index_put, aten.index_put_, aten._index_put_impl_)
ACCEPTS_CPU_SCALARS = (*INDEXES, aten.where, aten.masked_fill, aten.masked_fill_, aten.fill_)
"""Operations that accept a scalar tensor of the CPU, in addition to pointwise ones."""
SYNCHRONISING = (aten._local_scalar_dense, aten.nonzero, aten.masked_select, aten.equal, aten._unique2, aten.bincount)
SYNCHRONISING += (aten.repeat_interleave, aten._linalg_check_errors, aten._linalg_eigh, aten._linalg_svd)
"""Operations that need a result on the CPU before they return."""
UNSIGNED = (torch.uint16, torch.uint32, torch.uint64)
UNSIGNED_SUPPORTED = (*COPIES, aten.empty, aten.empty_like, aten.empty_strided, aten.new_empty, aten.clone, aten.detach)
"""Operations, in addition to views, that CUDA supports for unsigned integers of more than a byte."""


REASON = "PyTorch is built for CUDA, so that a GPU cannot be simulated"
needs_cpu_build = pytest.mark.skipif(torch.backends.cuda.is_built(), reason=REASON)
"""Marks a test that simulates GPUs itself."""


class Wait(NamedTuple):
    """A wait of the CPU for the device.

    Attributes:
        why: the operation.
        where: file and line of the library, empty outside.
    """

    why: str
    where: str


class SimulatedGPU:
    """State of the simulated GPU that a test reads or sets.

    Attributes:
        waits: waits since the beginning or the last :meth:`forget`.
        operations: number of operations since the beginning, without views.
        seconds_per_operation: time of each, s, which the CPU does not wait for.
        largest: size of the largest tensor that fits, bytes.
        free: free memory that it reports, bytes.
        count: number of such GPUs.
    """

    def __init__(self, count: int) -> None:
        self.waits: list[Wait] = []
        self.seconds_per_operation, self.largest, self.free, self.count = 0.0, float("inf"), 1 << 36, count
        self.busy_until, self.current, self.operations = 0.0, 0, 0
        self.backward_on: torch.device | None = None

    def forget(self) -> None:
        """Clear the recorded waits."""
        self.waits.clear()

    def waits_in(self, *files: str) -> list[Wait]:
        """Return the waits in these files of the library, or in all of it."""
        return [wait for wait in self.waits if wait.where.partition(":")[0] in files or (wait.where and not files)]

    def wait(self, why: str) -> None:
        """Wait until all queued operations are done, and record it."""
        self.waits.append(Wait(why, _where()))
        time.sleep(max(0.0, self.busy_until - time.perf_counter()))

    def work(self) -> None:
        """Queue an operation."""
        self.operations += 1
        if self.seconds_per_operation:
            self.busy_until = max(self.busy_until, time.perf_counter()) + self.seconds_per_operation


class SimulatedTensor(Tensor):
    """Tensor on a simulated GPU."""

    @staticmethod
    def __new__(cls, values: Tensor, place: torch.device) -> "SimulatedTensor":
        made = Tensor._make_subclass(cls, values, False, dispatch_device=True, device_for_backend_keys=place)
        made.values_, made.device_ = values, place
        return made

    device = property(lambda self: self.device_)
    is_cuda, is_cpu = property(lambda self: True), property(lambda self: False)
    __torch_function__ = torch._C._disabled_torch_function_impl

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        return _execute(func, args, kwargs or {})

    def numpy(self, *_: Any, **__: Any) -> None:
        raise TypeError(f"can't convert {self.device_} device type tensor to numpy. Use Tensor.cpu() first")

    def __array__(self, *_: Any, **__: Any) -> None:
        self.numpy()

    def data_ptr(self) -> None:
        raise TypeError(f"the CPU cannot read an address on {self.device_}")

    def tolist(self) -> Any:
        return self.cpu().tolist()

    def __repr__(self, **_: Any) -> str:
        return f"{self.detach().cpu()!r} on {self.device_}"

    def __format__(self, how: str) -> str:
        return format(self.detach().cpu(), how)

    def __deepcopy__(self, memo: dict) -> "SimulatedTensor":
        copy = self.detach().clone().requires_grad_(self.requires_grad)
        return memo.setdefault(
            id(self), torch.nn.Parameter(copy, self.requires_grad) if isinstance(self, torch.nn.Parameter) else copy
        )

    def __reduce_ex__(self, protocol: int) -> tuple:
        return self.detach().cpu().__reduce_ex__(protocol)


class SimulatedDispatch(TorchDispatchMode):
    """Dispatch mode that executes operations on tensors of the simulated GPU."""

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        if func is not DEVICE_OF and torch.is_inference_mode_enabled() and func._can_decompose():
            with self:  # otherwise the parts are not dispatched here
                return func.decompose(*args, **(kwargs or {}))
        return _execute(func, args, kwargs or {})


class ExplicitDevices(TorchFunctionMode):
    """Function mode that replaces ``cuda`` by ``cuda:INDEX`` before dispatch, as C++ does for a real GPU."""

    def __torch_function__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        kwargs = dict(kwargs or {})
        if func is Tensor.cuda:
            func, args = Tensor.to, (args[0], "cuda", *args[2:])
        if func is Tensor.to:
            args = tuple(map(_with_index, args))
        if "device" in kwargs:
            kwargs["device"] = _with_index(kwargs["device"])
        if func in (torch.tensor, torch.as_tensor) and _is_cuda(kwargs.get("device")):
            return func(*args, **kwargs | {"device": "cpu"}).to(kwargs["device"])
        if func in (Tensor.__getitem__, Tensor.__setitem__) and isinstance(args[0], SimulatedTensor):
            args = (args[0], _index_on_device(args[1], args[0].device_), *args[2:])
        return func(*args, **kwargs)


class Event:
    """CUDA event: the time at which the device reaches it."""

    def __init__(self, enable_timing: bool = False) -> None:
        self._timed, self._at = enable_timing, None

    def record(self, stream: None = None) -> None:
        self._at = max(_gpu.busy_until, time.perf_counter())

    def synchronize(self) -> None:
        _gpu.wait("event")

    def elapsed_time(self, end: "Event") -> float:
        """Return the time until ``end``, ms."""
        if not (self._timed and end._timed) or self._at is None or end._at is None:
            raise RuntimeError("both events must be recorded, with enable_timing")
        return 1e3 * (end._at - self._at)


_gpu = SimulatedGPU(0)
"""The current simulated GPU; global because tensors of C++ have no other access to it."""


@contextmanager
def simulate_gpus(count: int = 1) -> Iterator[SimulatedGPU]:
    """Let torch find simulated GPUs within a block.

    Args:
        count: number of GPUs.
    """
    global _gpu
    _gpu = SimulatedGPU(count)
    with ExitStack() as stack:
        for owner, name, value in _replacements(_gpu):
            stack.enter_context(patch.object(owner, name, value))
        overwrite = torch.__future__.get_overwrite_module_params_on_conversion()
        torch.__future__.set_overwrite_module_params_on_conversion(True)
        stack.callback(torch.__future__.set_overwrite_module_params_on_conversion, overwrite)
        stack.enter_context(_device_guard())
        stack.enter_context(torch.autograd.set_multithreading_enabled(False))
        stack.enter_context(ExplicitDevices())
        stack.enter_context(SimulatedDispatch())
        yield _gpu


def _replacements(gpu: SimulatedGPU) -> list[tuple[Any, str, Any]]:
    """Return what to replace in torch, as owner, name and value."""
    engine, generator = torch.autograd._engine_run_backward, torch.Generator().get_state()

    def backward(roots: Any, *args: Any, **kwargs: Any) -> Any:
        # the engine needs streams of every device other than the CPU
        gpu.backward_on = next((root.device_ for root in tree_leaves(roots) if isinstance(root, SimulatedTensor)), None)
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
        "get_device_name": lambda device=None: "a simulated GPU",
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
    """Give C++ the device guard of the CPU, which does nothing, for CUDA devices."""
    library = next((Path(torch.__file__).parent / "lib").glob("libc10.*"))
    guards = (ctypes.c_void_p * 2).in_dll(ctypes.CDLL(str(library)), "_ZN3c104impl26device_guard_impl_registryE")
    before, guards[1] = guards[1], guards[0]
    try:
        yield
    finally:
        guards[1] = before


def _execute(func: Any, args: tuple, kwargs: dict) -> Any:
    """Execute an operation on the CPU for tensors of the CPU or the simulated GPU."""
    if func is DEVICE_OF:
        return torch.device("cpu") if _gpu.backward_on else args[0].device_
    given = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
    on_device = [tensor for tensor in given if isinstance(tensor, SimulatedTensor)]
    place = _result_device(on_device, kwargs)
    if not on_device and place is None:
        return func(*args, **kwargs)
    _check_devices(func, args, kwargs, given, place)
    _record(func, args, kwargs, on_device, place)
    before: dict[int, Tensor] = {}

    def fetched(leaf: Any) -> Any:
        values = leaf.values_ if isinstance(leaf, SimulatedTensor) else leaf
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
            raise torch.OutOfMemoryError("CUDA out of memory on the simulated GPU")
        return leaf if place is None else SimulatedTensor(leaf, place)

    own_args, own_kwargs = tree_map(fetched, (args, kwargs))
    if "device" in kwargs:
        own_kwargs |= {"device": torch.device("cpu"), "pin_memory": None}
    return tree_map(put, func(*own_args, **own_kwargs))


def _result_device(on_device: list[SimulatedTensor], kwargs: dict) -> torch.device | None:
    """Return the device of a result; None for the CPU."""
    if _gpu.backward_on:
        return _gpu.backward_on
    if (asked := kwargs.get("device")) is not None:
        return torch.device("cuda", asked.index or 0) if _is_cuda(asked) else None
    return on_device[0].device_ if on_device else None


def _check_devices(func: Any, args: tuple, kwargs: dict, given: list[Tensor], place: torch.device | None) -> None:
    """Refuse what CUDA would refuse."""
    kind, generator = func.overloadpacket, kwargs.get("generator")
    if generator is not None and place is not None and generator.device.type != "cuda":
        raise RuntimeError(f"Expected a 'cuda' device type for generator but found 'cpu' ({func})")
    if any(tensor.dtype in UNSIGNED for tensor in given) and not (kind in UNSIGNED_SUPPORTED or func.is_view):
        raise NotImplementedError(f"{func} not implemented for unsigned integers on CUDA")
    if kind in COPIES:
        return
    places = {tensor.device for tensor in given}
    if kind in INDEXES:
        if args[0].is_cpu and len({index.device for index in args[1] if index is not None} | {args[0].device}) > 1:
            raise RuntimeError("indices should be either on cpu or on the same device as the indexed tensor (cpu)")
        places = {tensor.device for tensor in (args[0], *args[2:3]) if isinstance(tensor, Tensor)}
    if torch.Tag.pointwise in func.tags or kind in ACCEPTS_CPU_SCALARS:
        places -= {tensor.device for tensor in given if tensor.is_cpu and tensor.dim() == 0}
        places |= {tensor.device for tensor in given if tensor.is_cpu and tensor.dim() > 0 and kind not in INDEXES}
    if len(places) > 1:
        found = " and ".join(sorted(map(str, places)))
        raise RuntimeError(
            f"Expected all tensors to be on the same device, but found at least two devices, {found}! ({func})"
        )


def _record(func: Any, args: tuple, kwargs: dict, on_device: list[SimulatedTensor], place: torch.device | None) -> None:
    """Record an operation, and what it waits for."""
    kind, name = func.overloadpacket, func.overloadpacket._qualified_op_name.removeprefix("aten::")
    if kind in COPIES:
        source = args[0] if kind is aten._to_copy else args[1]
        target_on_device = place is not None if kind is aten._to_copy else isinstance(args[0], SimulatedTensor)
        quick = source.is_pinned() or source.nbytes <= INLINE_BYTES
        eager = kwargs.get("non_blocking") or (kind is aten.copy_ and len(args) > 2 and args[2])
        if target_on_device != isinstance(source, SimulatedTensor) and not (target_on_device and eager and quick):
            _gpu.wait("upload" if target_on_device else "download")
    elif kind in SYNCHRONISING:
        _gpu.wait(name)
    elif kind in INDEXES and isinstance(args[0], SimulatedTensor):
        for index in (index for index in args[1] if index is not None):
            if index.dtype in (torch.bool, torch.uint8):
                _gpu.wait(f"{name} by a mask")
            elif index.is_cpu:
                _gpu.wait("upload")
    if not func.is_view:
        _gpu.work()


def _reshape(tensor: Tensor, like: Tensor) -> None:
    """Update the shape of a tensor after an operation in place."""
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
    """Return file and line of the library that is being executed."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        path = Path(frame.f_code.co_filename)
        if path.is_relative_to(LIBRARY):
            return f"{path.relative_to(LIBRARY).as_posix()}:{frame.f_lineno}"
        frame = frame.f_back
    return ""


def _is_cuda(device: Any) -> bool:
    return device is not None and torch.device(device).type == "cuda"


def _with_index(value: Any) -> Any:
    """Return a CUDA device with its index; anything else as it is."""
    if isinstance(value, torch.device) or (isinstance(value, str) and value.startswith("cuda")):
        device = torch.device(value)
        return torch.device("cuda", _gpu.current) if device.type == "cuda" and device.index is None else device
    return value


def _index_on_device(index: Any, place: torch.device) -> Any:
    """Return an index with its lists copied to the device."""
    if isinstance(index, tuple):
        return tuple(_index_on_device(part, place) for part in index)
    return torch.tensor(index).to(place) if isinstance(index, list) else index
