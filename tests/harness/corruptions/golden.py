"""Golden digests of the engine: `python -m tests.harness.corruptions.golden` writes them anew.

A digest may change only together with its kernel's version. Float filters round differently on other processors and
library versions: there the images' sums are compared instead, with a tolerance.
"""

from __future__ import annotations

import hashlib
import json
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from harness.corruptions import SUITES, corrupt
from harness.corruptions.suites import SEVERITIES

ROOT = Path(__file__).parents[3]
FILE = ROOT / "tests" / "golden" / "corruptions.json"
SETS = ("imagecorruptions", "imagenet-c@any", "cifar-10-c", "tiny-imagenet-c@any")


def environment() -> str:
    """What float results may depend on."""
    packages = [f"{name} {version(name)}" for name in ("torch", "numpy", "scipy", "opencv-python-headless", "pillow")]
    return ", ".join([*packages, platform.machine(), torch.backends.cpu.get_cpu_capability()])


def batch() -> np.ndarray[Any, np.dtype[np.uint8]]:
    """The fixed batch: 8 photographs, 8 x 32 x 32 x 3."""
    files = sorted((ROOT / "tests" / "fixtures" / "photos" / "test").glob("*/*.jpg"))[::8]
    return np.stack([np.asarray(Image.open(file)) for file in files])


def cells(suite: str) -> dict[str, dict[str, Any]]:
    """Corruption -> version, five digests and five lists of image sums."""
    chosen, images, out = SUITES.get(suite), batch(), {}
    for name in chosen.names:
        results = [corrupt(images, name, severity, suite=suite, seed=0) for severity in SEVERITIES]
        out[name] = {
            "version": chosen.version(name),
            "digests": [hashlib.sha256(result.tobytes()).hexdigest()[:32] for result in results],
            "sums": [result.reshape(len(result), -1).sum(axis=1).tolist() for result in results],
        }
    return out


def main() -> None:
    """Write the file."""
    content = {"environment": environment(), "sets": {suite: cells(suite) for suite in SETS}}
    text = json.dumps(content, indent=1)
    FILE.write_text(text + "\n", encoding="ascii")


if __name__ == "__main__":
    main()
