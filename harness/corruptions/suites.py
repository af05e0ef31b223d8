"""Corruption suites: which corruptions, with which parameters, on which images, made by which component.

Listing suites imports nothing heavy.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal, TypeAlias

from harness.errors import InvalidArgument, UnknownName
from harness.registry import Registry

Family: TypeAlias = Literal["noise", "blur", "weather", "digital"]
Backend: TypeAlias = Literal["reference"]

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Suite:
    """A set of corruptions with fixed parameters.

    Attributes:
        name: as written in benchmarks and on the command line.
        purpose: what it is for, one line.
        backend: the component that makes the images.
        image_size: side in pixels of the square images it is meant for; None: any size from `minimum_size` on.
        minimum_size: the smallest height and width that its corruptions can take.
        benchmark: names that enter means, in published order.
        extra: names that run and enter no mean.
        parameters: corruption -> five rows, one a severity; None where the backend keeps them to itself.
        baselines: corruption -> the baseline model's error, mean over severities, for mCE; None: no baseline.
    """

    name: str
    purpose: str
    backend: Backend
    image_size: int | None = None
    minimum_size: int = 32
    benchmark: tuple[str, ...] = BENCHMARK
    extra: tuple[str, ...] = EXTRA
    parameters: Mapping[str, tuple[tuple[float, ...], ...]] | None = None
    baselines: Mapping[str, float] | None = None

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
        return REFERENCE_VERSION

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
            raise InvalidArgument("images", f"{height}x{width} pixels", meant)


SUITES: Registry[Suite] = Registry("suite")
SUITES.add(
    "imagecorruptions",
    Suite(
        name="imagecorruptions",
        purpose="what the package imagecorruptions 1.1.2 does to images of any size: ImageNet-C, approximately",
        backend="reference",
    ),
)
