"""What a training run's bits depend on besides the code."""

from __future__ import annotations

import platform
from importlib.metadata import version

import torch


def packages() -> tuple[tuple[str, str], ...]:
    """What the bits of the weights depend on besides the code: package versions and the CPU's instruction set."""
    versions = {name: version(name) for name in ("numpy", "torch")}
    versions["python"] = platform.python_version()
    versions["cpu"] = f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}"
    return tuple(sorted(versions.items()))
