"""The machine that computes: devices by name, threads, deterministic kernels; all put back afterwards."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

import torch

from harness.errors import InvalidArgument, MissingDependency

_WORKSPACE = "CUBLAS_WORKSPACE_CONFIG"


def check_device(name: str) -> torch.device:
    """The device called `name`.

    Raises:
        InvalidArgument: not a device.
        MissingDependency: this machine has none of the kind.
    """
    try:
        device = torch.device(name)
    except RuntimeError:
        raise InvalidArgument("device", name, "cpu, cuda or cuda:N") from None
    if device.type not in ("cpu", "cuda"):
        raise InvalidArgument("device", name, "cpu, cuda or cuda:N")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise MissingDependency(f"device {name}: torch finds {torch.cuda.device_count()} CUDA devices; try cpu")
    return device


def device_name(device: torch.device) -> str:
    """The device as provenance names it."""
    if device.type == "cuda":
        return f"{device} {torch.cuda.get_device_name(device)}"[:60]
    return "cpu"


@contextlib.contextmanager
def machine(*, threads: int, device: torch.device, strict: bool = True) -> Iterator[None]:
    """Run with `threads` threads of torch; on CUDA with deterministic kernels and without TF32, too.

    Args:
        threads: of torch.
        device: where the work runs.
        strict: an operation that has no deterministic kernel on CUDA is an error; else a warning, since an evaluation
            takes models as they come.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with deterministic_cuda(strict=strict) if device.type == "cuda" else contextlib.nullcontext():
            yield
    finally:
        torch.set_num_threads(before)


@contextlib.contextmanager
def deterministic_cuda(*, strict: bool = True) -> Iterator[None]:
    """CUDA kernels that sum in the same order each time, in float32 proper (no TF32); `strict` as in `machine`.

    cuBLAS reads CUBLAS_WORKSPACE_CONFIG when a process first uses it, so it stays set where it was not.
    """
    os.environ.setdefault(_WORKSPACE, ":4096:8")
    cudnn = torch.backends.cudnn
    before = (
        torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled(),
        torch.get_float32_matmul_precision(), cudnn.allow_tf32, cudnn.benchmark, cudnn.deterministic,
    )  # fmt: skip
    try:
        torch.use_deterministic_algorithms(True, warn_only=not strict)
        torch.set_float32_matmul_precision("highest")
        cudnn.allow_tf32, cudnn.benchmark, cudnn.deterministic = False, False, True
        yield
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])
        torch.set_float32_matmul_precision(before[2])
        cudnn.allow_tf32, cudnn.benchmark, cudnn.deterministic = before[3:]
