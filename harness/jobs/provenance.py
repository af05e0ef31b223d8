"""Where and with what a run was made: never identity, always beside the result."""

from __future__ import annotations

import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from harness import __version__
from harness.jobs.context import Settings
from harness.types import Json

PACKAGES = (
    "torch",
    "torchvision",
    "numpy",
    "scipy",
    "scikit-image",
    "opencv-python-headless",
    "pillow",
    "imagecorruptions",
    "pyautoattack",
    "safetensors",
)


def provenance(settings: Settings, executor: str, workers: int) -> Json:
    """Version, commit and dirty flag, packages, machine and settings of a run, as plain data."""
    return {
        "robustboard": __version__,
        "commit": commit(),
        "packages": {name: found for name in PACKAGES if (found := _version(name)) is not None},
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "processor": _processor(),
        "device": settings.device,
        "batch_size": settings.batch_size,
        "threads": settings.threads,
        "executor": executor,
        "workers": workers,
    }


def commit() -> Json:
    """{"id", "dirty"} of the source tree that this code runs from; None when it is not a git checkout."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return None
    head = _git(root, "rev-parse", "HEAD")
    status = _git(root, "status", "--porcelain", "--untracked-files=no")
    return None if head is None else {"id": head, "dirty": bool(status)}


def _git(root: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(  # noqa: S603 - fixed arguments
            ["git", "-C", str(root), *arguments],  # noqa: S607 - git is looked up on the PATH like anywhere else
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
