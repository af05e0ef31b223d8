"""Devices by name, and what a run asks of the machine."""

from __future__ import annotations

import os

import pytest
import torch

from harness.device import check_device, deterministic_cuda, machine
from harness.errors import InvalidArgument, MissingDependency


def test_devices_are_checked() -> None:
    """Words that are no device, and devices that are not there."""
    assert check_device("cpu").type == "cpu"
    for name in ("gpu", "meta", "cuda:x", ""):
        with pytest.raises(InvalidArgument, match="cpu, cuda or cuda:N"):
            check_device(name)
    absent = f"cuda:{torch.cuda.device_count()}"
    with pytest.raises(MissingDependency, match=absent):
        check_device(absent)


def test_cuda_runs_are_deterministic_and_put_everything_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """Inside: deterministic kernels, no TF32, no search for fast ones. Afterwards: as before, also after an error."""
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    cudnn = torch.backends.cudnn

    def flags() -> tuple[object, ...]:
        return (
            torch.are_deterministic_algorithms_enabled(), torch.get_float32_matmul_precision(),
            cudnn.allow_tf32, cudnn.benchmark, cudnn.deterministic,
        )  # fmt: skip

    before, threads = flags(), torch.get_num_threads()

    def work() -> None:
        with machine(threads=2, device=torch.device("cuda")):
            assert flags() == (True, "highest", False, False, True)
            assert torch.get_num_threads() == 2
            assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
            raise KeyError

    with pytest.raises(KeyError):
        work()
    assert flags() == before
    assert torch.get_num_threads() == threads
    with machine(threads=1, device=torch.device("cpu")):
        assert flags() == before
    with machine(threads=1, device=torch.device("cuda"), strict=False):
        assert torch.is_deterministic_algorithms_warn_only_enabled()
    torch.set_float32_matmul_precision("high")
    try:
        with deterministic_cuda():
            assert torch.get_float32_matmul_precision() == "highest"
        assert torch.get_float32_matmul_precision() == "high"
    finally:
        torch.set_float32_matmul_precision("highest")
