"""The simulated GPU refuses what CUDA would refuse, and counts what CUDA would wait for: planted mistakes are found."""

import copy
import io
import time

import numpy as np
import pytest
import torch

from .simulated_gpu import needs_cpu_build, simulate_gpus

pytestmark = needs_cpu_build


def _square(seed: int = 0) -> torch.Tensor:
    return torch.rand(4, 4, generator=torch.Generator().manual_seed(seed))


MIXED = {
    "sum": lambda on_cpu, on_gpu: on_gpu + on_cpu,
    "product with a matrix": lambda on_cpu, on_gpu: on_gpu @ on_cpu,
    "in place": lambda on_cpu, on_gpu: on_gpu.mul_(on_cpu),
    "a scalar on the GPU": lambda on_cpu, on_gpu: on_cpu * on_gpu.sum(),
    "a layer that was left behind": lambda on_cpu, on_gpu: torch.nn.Linear(4, 4)(on_gpu),
    "a stack with a number": lambda on_cpu, on_gpu: torch.stack([on_gpu.sum(), on_cpu.sum()]),
    "an index by rows": lambda on_cpu, on_gpu: on_gpu.index_select(0, torch.tensor([0])),
    "a sum by index": lambda on_cpu, on_gpu: on_gpu.index_add_(0, torch.tensor([0]), on_gpu[:1]),
    "values to put": lambda on_cpu, on_gpu: on_gpu.__setitem__(torch.tensor([0]).cuda(), on_cpu[:1]),
    "a choice": lambda on_cpu, on_gpu: torch.where(on_gpu > 0, on_gpu, on_cpu),
    "under autocast": lambda on_cpu, on_gpu: torch.autocast("cuda", torch.bfloat16)(torch.mm)(on_cpu, on_gpu),
    "in the backward pass": lambda on_cpu, on_gpu: _through(on_gpu, lambda gradient: gradient * on_cpu).backward(),
}


def _through(tensor: torch.Tensor, hook) -> torch.Tensor:
    leaf = tensor.clone().requires_grad_()
    leaf.register_hook(hook)
    return leaf.square().sum()


@pytest.mark.parametrize("mistake", MIXED)
def test_devices_that_are_mixed_are_refused(simulated_gpu, mistake):
    on_cpu = _square()
    with pytest.raises(RuntimeError, match="Expected all tensors to be on the same device"):
        MIXED[mistake](on_cpu, on_cpu.cuda())


def test_two_gpus_are_two_devices():
    with simulate_gpus(count=2), pytest.raises(RuntimeError, match="cuda:0 and cuda:1"):
        _square().to("cuda:0") + _square().to("cuda:1")


def test_cpu_tensors_cannot_be_indexed_by_gpu_tensors(simulated_gpu):
    rows = torch.tensor([2, 0])
    assert torch.equal(_square().cuda()[rows].cpu(), _square()[rows])
    with pytest.raises(RuntimeError, match="indices should be either on cpu or on the same device"):
        _square()[rows.cuda()]


def test_cpu_scalars_are_accepted(simulated_gpu):
    on_gpu = _square().cuda()
    assert torch.equal((on_gpu * torch.tensor(2.0)).cpu(), 2 * _square())
    assert torch.equal(on_gpu.masked_fill(on_gpu > 2, torch.tensor(0.0)).cpu(), _square())


@pytest.mark.parametrize("look", [lambda x: x.numpy(), np.asarray, lambda x: x.data_ptr()])
def test_gpu_tensors_have_no_cpu_memory(simulated_gpu, look):
    with pytest.raises(TypeError, match=r"cuda:0"):
        look(_square().cuda())


def test_a_cpu_generator_cannot_draw_on_the_gpu(simulated_gpu):
    with pytest.raises(RuntimeError, match="Expected a 'cuda' device type for generator"):
        torch.randperm(4, generator=torch.Generator(), device="cuda")


def test_unsigned_integers_are_moved_but_not_computed_with(simulated_gpu):
    counts = torch.arange(6).to(torch.uint16).view(2, 3).cuda()
    assert counts[:, 1:].float().cpu().tolist() == [[1, 2], [4, 5]]
    with pytest.raises(NotImplementedError, match="unsigned"):
        counts.view(6).index_select(0, torch.tensor([1]).cuda())


def test_values_equal_those_of_the_cpu(simulated_gpu):
    def measure(x: torch.Tensor) -> torch.Tensor:
        y = torch.fft.fft2(x).abs().roll(1, 0)[:, [2, 0]] + torch.arange(2, device=x.device)
        y[y > 3] -= torch.full_like(y, 0.5)[y > 3]
        return torch.quantile(y, torch.tensor([0.2, 0.7], device=x.device))

    assert torch.equal(measure(_square().cuda()).cpu(), measure(_square()))


def test_a_network_learns_on_the_gpu_as_on_the_cpu(simulated_gpu):
    def learned(device: str) -> list[float]:
        torch.manual_seed(0)
        layer = torch.nn.Linear(4, 2).to(device)
        optimiser = torch.optim.AdamW(layer.parameters(), 0.1, fused=True)
        for seed in range(3):
            optimiser.zero_grad()
            layer(_square(seed).to(device)).square().mean().backward()
            torch.nn.utils.clip_grad_norm_(layer.parameters(), 0.5)
            optimiser.step()
        assert {p.device.type for p in layer.parameters()} == {device}
        return torch.nn.utils.parameters_to_vector(layer.parameters()).tolist()

    assert learned("cuda") == pytest.approx(learned("cpu"), abs=1e-6)


def test_autocast_is_that_of_a_gpu(simulated_gpu):
    on_gpu = _square().cuda()
    with torch.autocast("cuda", torch.bfloat16):
        assert (on_gpu @ on_gpu).dtype == torch.bfloat16 and on_gpu.cumsum(0).dtype == torch.float32
    with torch.inference_mode(), torch.autocast("cuda", torch.float16):
        assert torch.nn.functional.linear(on_gpu, on_gpu).dtype == torch.float16


MOVES = {
    "to": (lambda x: x.to("cuda"), True),
    "to, at once": (lambda x: x.to("cuda", non_blocking=True), False),
    "much of it at once": (lambda x: torch.zeros(1 << 16).to("cuda", non_blocking=True), True),
    "much of it, pinned": (lambda x: torch.zeros(1 << 16).pin_memory().to("cuda", non_blocking=True), False),
    "created on the GPU": (lambda x: torch.zeros(3, device="cuda"), False),
    "made of numbers": (lambda x: torch.tensor([1, 2], device="cuda"), True),
    "a copy": (lambda x: torch.empty(4, 4, device="cuda").copy_(x), True),
}


@pytest.mark.parametrize("move", MOVES)
def test_uploads_wait_unless_they_need_not(simulated_gpu, move):
    make, waits = MOVES[move]
    assert make(_square()).is_cuda and bool(simulated_gpu.waits) == waits


LOOKS = {
    "item": lambda x: x.sum().item(),
    "list": lambda x: x.tolist(),
    "truth": lambda x: bool((x > 0).all()),
    "processor": lambda x: x.cpu(),
    "copy": lambda x: torch.empty(4, 4).copy_(x),
    "mask": lambda x: x[x > 0.5],
    "places": lambda x: (x > 0.5).nonzero(),
    "list of rows": lambda x: x[[0, 1]],
    "print": lambda x: f"{x}",
    "equations": lambda x: torch.linalg.solve(x, x),
    "pickle": lambda x: torch.save(x, io.BytesIO()),
    "event": lambda x: torch.cuda.Event().synchronize(),
}


@pytest.mark.parametrize("look", LOOKS)
def test_every_look_at_a_value_is_counted(simulated_gpu, look):
    on_gpu = _square().to("cuda", non_blocking=True)
    torch.fft.fft2(on_gpu).abs().clamp_min_(1)[1:, :2].sum((0, 1)).add_(1)
    assert not simulated_gpu.waits
    LOOKS[look](on_gpu)
    assert len(simulated_gpu.waits) == 1


def test_the_cpu_continues_while_the_gpu_computes_and_waits_on_reading(simulated_gpu):
    on_gpu, simulated_gpu.seconds_per_operation = _square().cuda(), 0.05
    began, ended = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    before = time.perf_counter()
    began.record()
    on_gpu = on_gpu.square().exp().sum()
    ended.record()
    handed_over = time.perf_counter() - before
    on_gpu.item()
    assert handed_over < 0.14 and time.perf_counter() - before >= 0.15
    assert began.elapsed_time(ended) >= 149


def test_its_memory_is_limited(simulated_gpu):
    simulated_gpu.largest = 1 << 10
    assert torch.zeros(256, device="cuda").is_cuda
    with pytest.raises(torch.OutOfMemoryError):
        torch.zeros(257, device="cuda")


def test_copies_stay_on_the_gpu_and_files_open_on_the_cpu(simulated_gpu):
    layer, file = torch.nn.Linear(2, 2).cuda(), io.BytesIO()
    assert copy.deepcopy(layer).weight.is_cuda and isinstance(copy.deepcopy(layer).weight, torch.nn.Parameter)
    torch.save(layer.state_dict(), file)
    file.seek(0)
    weights = torch.load(file, weights_only=True, map_location="cpu")
    assert weights["weight"].device.type == "cpu" and torch.equal(weights["weight"], layer.weight.detach().cpu())


def test_afterwards_there_is_no_gpu():
    with simulate_gpus():
        assert torch.cuda.is_available() and torch.zeros(1, device="cuda").is_cuda
    assert not torch.cuda.is_available()
    with pytest.raises((AssertionError, RuntimeError)):
        torch.zeros(1, device="cuda")
    assert not hasattr(torch.zeros(1).pin_memory, "pinned_") and torch.zeros(2).sum().item() == 0
