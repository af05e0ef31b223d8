"""Public data sets in the data folder (`ROBUSTBOARD_DATA`): what there is, where it lies, and how it gets there.

Nothing is downloaded when a data set is opened. A folder that the user has declared under the same name goes first.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

from harness.errors import DataError
from harness.registry import Registry
from harness.settings import DATA, data_folder

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.data.base import Dataset

MEGABYTE = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Remote:
    """A file that can be downloaded.

    Attributes:
        url: where it is.
        md5: of its bytes, as published; 32 hexadecimal digits.
        limit: bytes that it may have at most.
        members: for an archive, the files to unpack from its folder; empty for a file that is kept as it is.
        member_limit: bytes that an unpacked file may have at most.
    """

    url: str
    md5: str
    limit: int
    members: tuple[str, ...] = ()
    member_limit: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class PublicSet:
    """A public data set.

    Attributes:
        name: what benchmarks and commands call it.
        folder: its folder inside the data folder.
        target: "module:function" that opens it: (folder, split) -> data set.
        layout: what lies in the folder, in words.
        remotes: what to download; empty where licence or size leave that to the user.
        source: whom it comes from.
    """

    name: str
    folder: str
    target: str
    layout: str
    source: str
    remotes: tuple[Remote, ...] = ()

    @property
    def path(self) -> Path:
        """Its folder."""
        return data_folder() / self.folder

    def open(self, split: str) -> Dataset:
        """The split "train" or "test".

        Raises:
            DataError: the folder is not there; missing, truncated or unreadable files.
        """
        if not self.path.is_dir():
            raise DataError(f"data set {self.name!r}: {self.path.absolute()} is not there; {self.way}")
        module, _, attribute = self.target.partition(":")
        function = cast("Callable[[Path, str], Dataset]", getattr(importlib.import_module(module), attribute))
        return function(self.path, split)

    @property
    def way(self) -> str:
        """How it gets there."""
        if self.remotes:
            return f"`robustboard datasets download {self.name}` fetches it ({DATA.name} names the folder above)"
        return f"put {self.layout} there ({DATA.name} names the folder above), or declare a folder of your own"


_KRIZHEVSKY = "Krizhevsky, Learning multiple layers of features from tiny images, 2009"
_SVHN = "http://ufldl.stanford.edu/housenumbers"

PUBLIC: Registry[PublicSet] = Registry("data set")
PUBLIC.add(
    "cifar10",
    PublicSet(
        name="cifar10",
        folder="cifar-10-batches-bin",
        target="harness.data.cifar:open_cifar10",
        layout="the binary version: data_batch_1.bin to data_batch_5.bin, test_batch.bin, batches.meta.txt",
        source=_KRIZHEVSKY,
        remotes=(
            Remote(
                url="https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
                md5="c32a1d4ab5d03f1284b67883e8d87530",
                limit=200 * MEGABYTE,
                members=(*(f"data_batch_{n}.bin" for n in range(1, 6)), "test_batch.bin", "batches.meta.txt"),
                member_limit=32 * MEGABYTE,
            ),
        ),
    ),
)
PUBLIC.add(
    "cifar100",
    PublicSet(
        name="cifar100",
        folder="cifar-100-binary",
        target="harness.data.cifar:open_cifar100",
        layout="the binary version: train.bin, test.bin, fine_label_names.txt",
        source=_KRIZHEVSKY,
        remotes=(
            Remote(
                url="https://www.cs.toronto.edu/~kriz/cifar-100-binary.tar.gz",
                md5="03b5dce01913d631647c71ecec9e9cb8",
                limit=200 * MEGABYTE,
                members=("train.bin", "test.bin", "fine_label_names.txt"),
                member_limit=160 * MEGABYTE,
            ),
        ),
    ),
)
PUBLIC.add(
    "svhn",
    PublicSet(
        name="svhn",
        folder="svhn",
        target="harness.data.svhn:open_svhn",
        layout="train_32x32.mat and test_32x32.mat",
        source="Netzer et al., Reading digits in natural images with unsupervised feature learning, 2011",
        remotes=(
            Remote(url=f"{_SVHN}/train_32x32.mat", md5="e26dedcc434d2e4c54c9b2d4a06d8373", limit=256 * MEGABYTE),
            Remote(url=f"{_SVHN}/test_32x32.mat", md5="eb5a983be6a315427106f1b164d9cef3", limit=128 * MEGABYTE),
        ),
    ),
)
PUBLIC.add(
    "tiny-imagenet",
    PublicSet(
        name="tiny-imagenet",
        folder="tiny-imagenet-200",
        target="harness.data.imagenet:open_tiny_imagenet",
        layout="train/WNID/images/*, val/images/* and val/val_annotations.txt, or val/WNID/*",
        source="Stanford CS231n, http://cs231n.stanford.edu/tiny-imagenet-200.zip",
    ),
)
PUBLIC.add(
    "imagenet",
    PublicSet(
        name="imagenet",
        folder="imagenet",
        target="harness.data.imagenet:open_imagenet",
        layout="val/WNID/* and, optionally, train/WNID/*",
        source="Russakovsky et al., ImageNet large scale visual recognition challenge, IJCV 2015",
    ),
)
