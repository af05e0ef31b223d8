"""Adapter to the package `imagecorruptions` 1.1.2 (Michaelis et al., arXiv 1907.07484): the yardstick.

The package is from 2020 and does not run on current NumPy and scikit-image. Nothing global is patched: names are
replaced inside the package module's own namespace (`np`, `gaussian`, `sk`, `print`), and `pkg_resources`, of which it
needs one function, stands in `sys.modules` only while the module is imported.

Draws: the module's `np.random` is a `RandomState` made for each image from `harness.rng.child_seed`, so it gives what
`numpy.random.seed` would have given, and NumPy's global generator is neither read nor written.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import sys
import threading
import types
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from harness import rng
from harness.errors import MissingDependency

if TYPE_CHECKING:
    from harness.types import ImagesU8

INSTALL = "pip install --no-deps imagecorruptions"

_lock = threading.Lock()  # the draws live in the package module's namespace: one image at a time in a process


def corrupt(
    images: ImagesU8,
    name: str,
    severity: int,
    *,
    seed: int,
    indices: NDArray[np.int64],
) -> ImagesU8:
    """Corrupt a checked batch through the package, image by image.

    Args:
        images: n x height x width x 3, uint8, at least 32x32.
        name: one of the package's 19 corruptions.
        severity: 1 to 5.
        seed: the run's seed.
        indices: n image indices, which name the draws.

    Returns:
        New uint8 array of the same shape. Floats are truncated, as `imagecorruptions.corrupt` does.

    Raises:
        MissingDependency: the package is not installed.
    """
    from PIL import Image

    function = getattr(load(), name)
    out = np.empty_like(images)
    for row, index in enumerate(indices):
        with draws(image_seed(seed, name, severity, int(index))), np.errstate(divide="ignore", invalid="ignore"):
            # spatter divides 0 by 0 where no drop falls on a small image; the package's own cast makes the NaN black
            out[row] = np.nan_to_num(np.asarray(function(Image.fromarray(images[row]), severity))).astype(np.uint8)
    return out


def image_seed(seed: int, name: str, severity: int, index: int) -> int:
    """The 32-bit seed of one image's draws."""
    return rng.child_seed(seed, f"corruption/imagecorruptions/{name}/{severity}/{index}")


@contextlib.contextmanager
def draws(seed: int) -> Iterator[types.ModuleType]:
    """Let the package draw from a generator of its own, seeded with `seed`, and hand back the package's module."""
    module = load()
    with _lock:
        module.np.random = np.random.RandomState(seed)
        module.sk.util.seed = seed
        try:
            yield module
        finally:
            module.np.random = np.random
            module.sk.util.seed = None


class _Numpy(types.ModuleType):
    """`numpy` as the package knew it: with `float_`, which NumPy 2 dropped, and a `random` that can be swapped."""

    float_ = np.float64

    def __init__(self) -> None:
        super().__init__("numpy")
        self.random: Any = np.random

    def __getattr__(self, name: str) -> Any:
        return getattr(np, name)


class _Util:
    """The one function of `skimage.util` that the package calls."""

    def __init__(self) -> None:
        self.seed: int | None = None

    def random_noise(self, image: NDArray[np.float64], *, mode: str, amount: float) -> NDArray[np.float64]:
        """Seeded: by itself the function draws from a fresh generator of its own, whatever NumPy's seed."""
        import skimage.util

        random_noise: Any = skimage.util.random_noise
        noisy: NDArray[np.float64] = random_noise(image, mode=mode, amount=amount, rng=self.seed)
        return noisy


def _gaussian(image: NDArray[Any], *args: Any, multichannel: bool = False, **options: Any) -> NDArray[Any]:
    """`skimage.filters.gaussian` with the argument `multichannel`, which scikit-image 0.22 dropped."""
    import skimage.filters

    gaussian: Any = skimage.filters.gaussian
    blurred: NDArray[Any] = gaussian(image, *args, channel_axis=-1 if multichannel else None, **options)
    return blurred


def _silent(*_: object) -> None:
    """The package prints when a shape does not fit; its handling stays, its noise does not."""


@functools.lru_cache(maxsize=1)
def load() -> types.ModuleType:
    """The module `imagecorruptions.corruptions`, made to work with current libraries.

    Raises:
        MissingDependency: the package is not installed.
    """
    with _stand_ins():
        try:
            module = importlib.import_module("imagecorruptions.corruptions")
        except ModuleNotFoundError as error:
            if (error.name or "").partition(".")[0] != "imagecorruptions":
                raise
            raise MissingDependency(f"the package imagecorruptions is not installed; {INSTALL}") from None
    import skimage.color

    names: dict[str, Any] = {
        "np": _Numpy(),
        "sk": types.SimpleNamespace(util=_Util(), color=skimage.color),
        "gaussian": _gaussian,
        "print": _silent,
    }
    vars(module).update(names)
    return module


@contextlib.contextmanager
def _stand_ins() -> Iterator[None]:
    """Two modules that the package imports and that may be missing or warn, for the time of the import only."""
    from scipy.ndimage import map_coordinates

    resources = types.ModuleType("pkg_resources")
    vars(resources)["resource_filename"] = _resource_filename
    interpolation = types.ModuleType("scipy.ndimage.interpolation")  # deprecated: SciPy 2 drops it
    vars(interpolation)["map_coordinates"] = map_coordinates
    stand_ins = {"pkg_resources": resources, "scipy.ndimage.interpolation": interpolation}
    before = {name: sys.modules.get(name) for name in stand_ins}
    sys.modules.update(stand_ins)
    try:
        yield
    finally:
        for name, module in before.items():
            if module is None:
                del sys.modules[name]
            else:
                sys.modules[name] = module


def _resource_filename(module: str, resource: str) -> str:
    """Path of a file that lies beside `module`: what the package needs of `pkg_resources`."""
    file = sys.modules[module].__file__
    if file is None:
        raise FileNotFoundError(f"{module} has no file")
    return str(Path(file).parent / resource)
