"""The adapter to imagecorruptions against the package itself, run as its authors meant it."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import types
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import skimage.filters
import skimage.util

from harness.corruptions import SUITES, corrupt, reference
from harness.errors import MissingDependency

if TYPE_CHECKING:
    from harness.types import ImagesU8

NAMES = SUITES.get("imagecorruptions").names
SUITE = "imagecorruptions-reference"
GLOBAL: Any = np.random  # the package's draws come from NumPy's global generator


@pytest.fixture
def package(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A second, independent copy of the package's module, made to run by patching the libraries for one test."""
    gaussian: Any = skimage.filters.gaussian

    def old_gaussian(image: Any, *args: Any, multichannel: bool = False, **options: Any) -> Any:
        return gaussian(image, *args, channel_axis=2 if multichannel else None, **options)

    found = importlib.util.find_spec("imagecorruptions")
    assert found is not None
    assert found.submodule_search_locations
    folder = Path(found.submodule_search_locations[0])
    resources = types.ModuleType("pkg_resources")
    monkeypatch.setattr(resources, "resource_filename", lambda _, name: str(folder / name), raising=False)
    monkeypatch.setitem(sys.modules, "pkg_resources", resources)
    monkeypatch.setattr(np, "float_", np.float64, raising=False)
    spec = importlib.util.spec_from_file_location("plain_corruptions", folder / "corruptions.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        spec.loader.exec_module(module)
        monkeypatch.setattr(module, "gaussian", old_gaussian)
        yield module


@pytest.mark.parametrize("name", [name for name in NAMES if name != "impulse_noise"])
def test_adapter_equals_a_plain_loop_over_the_package(name: str, package: Any, photos: ImagesU8) -> None:
    """NumPy's global generator seeded per image, then the package's function: the same bytes for all severities."""
    from PIL import Image

    indices = [4, 17]
    for severity in range(1, 6):
        ours = corrupt(photos[indices], name, severity, suite=SUITE, seed=3, indices=indices)
        for row, index in enumerate(indices):
            GLOBAL.seed(reference.image_seed(3, name, severity, index))
            theirs = np.uint8(getattr(package, name)(Image.fromarray(photos[index]), severity))
            np.testing.assert_array_equal(ours[row], theirs)


def test_impulse_noise_is_scikit_images_with_our_seed(photos: ImagesU8) -> None:
    """The package leaves impulse noise to a fresh generator of scikit-image; with our seed it is that function's."""
    random_noise: Any = skimage.util.random_noise
    amounts = (0.03, 0.06, 0.09, 0.17, 0.27)  # as in the package's source
    for severity, amount in enumerate(amounts, start=1):
        seed = reference.image_seed(0, "impulse_noise", severity, 0)
        wanted = random_noise(photos[0] / 255.0, mode="s&p", amount=amount, rng=seed)
        ours = corrupt(photos[:1], "impulse_noise", severity, suite=SUITE)
        np.testing.assert_array_equal(ours[0], np.uint8(np.clip(wanted, 0, 1) * 255))


@pytest.mark.parametrize("name", NAMES)
def test_an_image_does_not_depend_on_its_batch(name: str, photos: ImagesU8) -> None:
    """Permuted, alone or in a subset, with its index: the same bytes (promise A)."""
    order = [5, 2, 7, 0]
    together = corrupt(photos[:8], name, 2, suite=SUITE, seed=11)
    permuted = corrupt(photos[order], name, 2, suite=SUITE, seed=11, indices=order)
    np.testing.assert_array_equal(permuted, together[order])
    alone = corrupt(photos[6:7], name, 2, suite=SUITE, seed=11, indices=np.array([6]))
    np.testing.assert_array_equal(alone[0], together[6])


DRAWS = sorted(set(NAMES) - {
    "defocus_blur", "zoom_blur", "brightness", "contrast", "pixelate", "jpeg_compression", "gaussian_blur", "saturate",
})  # fmt: skip


@pytest.mark.parametrize("name", DRAWS)
def test_draws_follow_seed_and_index(name: str, photos: ImagesU8) -> None:
    """The same picture under another seed or at another index is corrupted otherwise; the same key gives the same."""
    same = photos[[0, 0, 0, 0]]
    first = corrupt(same, name, 4, suite=SUITE, seed=1)
    assert len({image.tobytes() for image in first}) > 1
    np.testing.assert_array_equal(first, corrupt(same, name, 4, suite=SUITE, seed=1))
    assert not np.array_equal(first, corrupt(same, name, 4, suite=SUITE, seed=2))


@pytest.mark.parametrize("name", NAMES)
def test_every_severity_runs_and_leaves_numpys_generator_alone(name: str, photos: ImagesU8) -> None:
    """Five severities give five different uint8 results; the input and the global generator stay untouched."""
    before, copy = GLOBAL.get_state(), photos[:1].copy()
    results = {corrupt(photos[:1], name, severity, suite=SUITE).tobytes() for severity in range(1, 6)}
    after = GLOBAL.get_state()
    assert len(results) == 5
    np.testing.assert_array_equal(before[1], after[1])
    assert before[2:] == after[2:]
    np.testing.assert_array_equal(photos[:1], copy)


def test_the_draws_are_handed_back_after_an_error() -> None:
    """An exception inside the package does not leave our generator in its namespace."""
    seen = []

    def fail() -> None:
        with reference.draws(5) as module:
            seen.append(module.np.random)
            raise RuntimeError("on purpose")

    with pytest.raises(RuntimeError, match="on purpose"):
        fail()
    assert isinstance(seen[0], np.random.RandomState)
    assert reference.load().np.random is np.random


def test_loading_leaves_no_stand_in_behind() -> None:
    """After the import others see neither `pkg_resources` nor a patched NumPy; run apart, warnings fatal."""
    code = (
        "import sys, numpy; from harness.corruptions import reference; reference.load();"
        "assert 'pkg_resources' not in sys.modules and not hasattr(numpy, 'float_');"
        "assert getattr(sys.modules.get('scipy.ndimage.interpolation', numpy), '__file__', None)"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True)


def test_a_missing_package_names_the_command(monkeypatch: pytest.MonkeyPatch, photos: ImagesU8) -> None:
    """Without the package the error says how to install it."""
    monkeypatch.setitem(sys.modules, "imagecorruptions", None)
    monkeypatch.delitem(sys.modules, "imagecorruptions.corruptions", raising=False)
    reference.load.cache_clear()
    try:
        with pytest.raises(MissingDependency, match="pip install --no-deps imagecorruptions"):
            corrupt(photos[:1], "fog", 1, suite=SUITE)
    finally:
        monkeypatch.undo()
        reference.load.cache_clear()
