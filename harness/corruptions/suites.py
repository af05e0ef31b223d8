"""Corruption suites: which corruptions, with which parameters, on which images, made by which component.

Listing suites imports nothing heavy.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Literal, TypeAlias

from harness.corruptions import parameters
from harness.corruptions.recipe import Recipe, Style
from harness.errors import InvalidArgument, UnknownName
from harness.registry import Registry

Family: TypeAlias = Literal["noise", "blur", "weather", "digital"]
Backend: TypeAlias = Literal["engine", "reference"]

BENCHMARK: tuple[str, ...] = (
    "gaussian_noise",
    "shot_noise",
    "impulse_noise",
    "defocus_blur",
    "glass_blur",
    "motion_blur",
    "zoom_blur",
    "snow",
    "frost",
    "fog",
    "brightness",
    "contrast",
    "elastic_transform",
    "pixelate",
    "jpeg_compression",
)
"""The 15 corruptions that enter means, in published order (Hendrycks & Dietterich, ICLR 2019, figure 1)."""

EXTRA: tuple[str, ...] = ("speckle_noise", "gaussian_blur", "spatter", "saturate")
"""The 4 validation corruptions of the same paper; they enter no mean."""

FAMILIES: Mapping[Family, tuple[str, ...]] = MappingProxyType(
    {
        "noise": ("gaussian_noise", "shot_noise", "impulse_noise"),
        "blur": ("defocus_blur", "glass_blur", "motion_blur", "zoom_blur"),
        "weather": ("snow", "frost", "fog", "brightness"),
        "digital": ("contrast", "elastic_transform", "pixelate", "jpeg_compression"),
    }
)
"""Families of the 15, as the paper groups them."""

SEVERITIES: tuple[int, ...] = (1, 2, 3, 4, 5)

REFERENCE_VERSION = "imagecorruptions-1.1.2/1"
"""The package's version and, after the slash, the version of our adapter (its seeding enters every result)."""

ENGINE_VERSIONS: Mapping[str, int] = MappingProxyType(dict.fromkeys(BENCHMARK + EXTRA, 1))
"""Version of each kernel; raised whenever its golden digests change."""

ANY_SIZE = "@any"

ALEXNET: Mapping[str, float] = MappingProxyType(
    {
        "gaussian_noise": 0.886428,
        "shot_noise": 0.894468,
        "impulse_noise": 0.922640,
        "defocus_blur": 0.819880,
        "glass_blur": 0.826268,
        "motion_blur": 0.785948,
        "zoom_blur": 0.798360,
        "snow": 0.866816,
        "frost": 0.826572,
        "fog": 0.819324,
        "brightness": 0.564592,
        "contrast": 0.853204,
        "elastic_transform": 0.646056,
        "pixelate": 0.717840,
        "jpeg_compression": 0.606500,
    }
)
"""AlexNet's top-1 error on ImageNet-C's official files, mean over severities, all 50,000 images (github.com/hendrycks/
robustness); keyed by name, since published lists differ in their order."""

ALEXNET_CLEAN = 0.4348
"""AlexNet's clean top-1 error (torchvision's weights: accuracy 56.52 %)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Suite:
    """A set of corruptions with fixed parameters.

    Attributes:
        name: as written in benchmarks and on the command line.
        purpose: what it is for, one line.
        backend: the component that makes the images.
        parameters: corruption -> five rows, one a severity, in the order of `parameters.FIELDS`.
        style: traits that no number tells.
        image_size: side in pixels of the square images it is meant for; None: any size from `minimum_size` on.
        minimum_size: the smallest height and width that its corruptions can take.
        benchmark: names that enter means, in published order.
        extra: names that run and enter no mean.
        baselines: corruption -> the baseline model's error, mean over severities, for mCE; None: no baseline.
        baseline_clean: the baseline model's clean error, for relative mCE.
    """

    name: str
    purpose: str
    backend: Backend
    parameters: parameters.Table
    style: Style
    image_size: int | None = None
    minimum_size: int = 32
    benchmark: tuple[str, ...] = BENCHMARK
    extra: tuple[str, ...] = EXTRA
    baselines: Mapping[str, float] | None = None
    baseline_clean: float | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """All corruptions: the benchmark's, then the extra ones."""
        return self.benchmark + self.extra

    @property
    def families(self) -> Mapping[Family, tuple[str, ...]]:
        """Family -> names, for the 15."""
        return FAMILIES

    def version(self, name: str) -> str:
        """Version of the component that makes corruption `name`; it enters the identity of an evaluation.

        Raises:
            UnknownName: no such corruption in this suite.
        """
        self.check_name(name)
        return REFERENCE_VERSION if self.backend == "reference" else f"engine-{ENGINE_VERSIONS[name]}"

    def recipe(self, name: str, severity: int) -> Recipe:
        """Parameters and style of one corruption at severity 1 to 5.

        Raises:
            UnknownName: no such corruption in this suite.
        """
        self.check_name(name)
        return Recipe(row=self.parameters[name][severity - 1], style=self.style)

    def require_baselines(self) -> tuple[Mapping[str, float], float]:
        """(error per corruption, clean error) of the baseline model, for mCE and relative mCE.

        Raises:
            InvalidArgument: the suite has none; ask for mean corruption accuracy or error instead.
        """
        if self.baselines is None or self.baseline_clean is None:
            expected = "a suite with baseline errors (imagenet-c); use corruption_accuracy or corruption_error here"
            raise InvalidArgument("suite", self.name, expected)
        return self.baselines, self.baseline_clean

    def check_name(self, name: str) -> None:
        """Refuse a corruption that the suite does not have.

        Raises:
            UnknownName: with the nearest known name.
        """
        if name not in self.names:
            raise UnknownName("corruption", name, self.names)

    def check_size(self, height: int, width: int) -> None:
        """Refuse images that the suite is not meant for.

        Raises:
            InvalidArgument: too small, or another size than the suite's.
        """
        if height < self.minimum_size or width < self.minimum_size:
            least = f"at least {self.minimum_size}x{self.minimum_size} for suite {self.name}"
            raise InvalidArgument("images", f"{height}x{width} pixels", least)
        if self.image_size is not None and (height, width) != (self.image_size, self.image_size):
            meant = f"{self.image_size}x{self.image_size}, which suite {self.name} is for"
            advice = f"{meant} (its parameters on other sizes: {self.name}{ANY_SIZE})"
            raise InvalidArgument("images", f"{height}x{width} pixels", advice)


class SuiteRegistry(Registry[Suite]):
    """Suites by name; `NAME@any` is suite NAME's parameters on images of any size, asked for by name."""

    def get(self, name: str) -> Suite:
        """The suite called `name`.

        Raises:
            UnknownName: with the nearest known name.
        """
        plain = name.removesuffix(ANY_SIZE)
        suite = super().get(plain)
        if plain == name:
            return suite
        return replace(suite, name=name, image_size=None, baselines=None, baseline_clean=None)

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and super().__contains__(name.removesuffix(ANY_SIZE))


SUITES = SuiteRegistry("suite")
for _suite in (
    Suite(
        name="cifar-10-c",
        purpose="the published CIFAR-10-C and CIFAR-100-C: 32x32 photographs",
        backend="engine",
        parameters=parameters.CIFAR_10_C,
        style=Style(published=True, frost_scale=0.2),
        image_size=32,
    ),
    Suite(
        name="tiny-imagenet-c",
        purpose="the published Tiny-ImageNet-C: 64x64 photographs",
        backend="engine",
        parameters=parameters.TINY_IMAGENET_C,
        style=Style(published=True, frost_scale=0.3),
        image_size=64,
    ),
    Suite(
        name="imagenet-c",
        purpose="the published ImageNet-C: 224x224 photographs, with AlexNet as the baseline of mCE",
        backend="engine",
        parameters=parameters.IMAGENET_C,
        style=Style(published=True, frost_scale=1.0),
        image_size=224,
        baselines=ALEXNET,
        baseline_clean=ALEXNET_CLEAN,
    ),
    Suite(
        name="imagecorruptions",
        purpose="what the package imagecorruptions 1.1.2 does to images of any size, made by our engine",
        backend="engine",
        parameters=parameters.IMAGECORRUPTIONS,
        style=Style(published=False),
    ),
    Suite(
        name="imagecorruptions-reference",
        purpose="the package imagecorruptions 1.1.2 itself, one image at a time: the yardstick",
        backend="reference",
        parameters=parameters.IMAGECORRUPTIONS,
        style=Style(published=False),
    ),
):
    SUITES.add(_suite.name, _suite)
SUITES.freeze()
