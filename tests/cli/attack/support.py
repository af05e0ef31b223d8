"""Words of the command, a model that somebody changed, and looks at answers and stores."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

MODEL = "small_cnn.supervised.digits.s0"
LIMIT = 40
SHORT = ("--eps", "4/255", "--limit", str(LIMIT), "--set", "steps=20")
RUN = ("attack", "run", MODEL, "--attack", "pgd", "--eps", "4/255", "--set", "steps=3")


class Altered(torch.nn.Module):
    """A model whose output somebody changed."""

    def __init__(self, body: Any, change: Any) -> None:
        super().__init__()
        self.body, self.change = body, change

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """The changed output."""
        changed: torch.Tensor = self.change(self.body(images))
        return changed


def save(path: Path, **arrays: Any) -> str:
    """A file of somebody's; its name."""
    with path.open("wb") as handle:
        np.savez_compressed(handle, **arrays)
    return path.name
