"""Public data sets by name: where they are looked for, and how they get there. Nothing leaves this machine."""

from __future__ import annotations

import hashlib
import io
import tarfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.data import DATASETS, PUBLIC, open_dataset
from harness.data.download import download
from harness.data.public import PublicSet, Remote
from harness.errors import DataError, UnknownName, WorkError
from tests.harness.data.public_files import CIFAR10, archive, write_cifar10, write_image


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty data folder."""
    folder = tmp_path / "data"
    monkeypatch.setenv("ROBUSTBOARD_DATA", str(folder))
    return folder


def served(entry: PublicSet, path: Path) -> PublicSet:
    """`entry` with its first file standing at `path`, under that file's MD5."""
    md5 = hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()
    return replace(entry, remotes=(replace(entry.remotes[0], url=path.as_uri(), md5=md5),))


def test_names_are_distinct_and_say_where_they_come_from() -> None:
    """Each is called as it is registered, none as a built-in one, and digests have the form of MD5."""
    assert PUBLIC.names() == ("cifar10", "cifar100", "svhn", "tiny-imagenet", "imagenet")
    assert not set(PUBLIC) & set(DATASETS)
    for name in PUBLIC:
        entry = PUBLIC.get(name)
        assert entry.name == name
        assert entry.source
        for remote in entry.remotes:
            assert len(bytes.fromhex(remote.md5)) == 16


def test_svhn_is_what_torchvision_downloads() -> None:
    """The addresses and digests are those that torchvision has."""
    import torchvision

    theirs = torchvision.datasets.SVHN.split_list
    ours = [(remote.url, remote.md5) for remote in PUBLIC.get("svhn").remotes]
    assert ours == [(theirs[split][0], theirs[split][2]) for split in ("train", "test")]


@pytest.mark.parametrize("name", ["cifar10", "cifar100", "svhn"])
def test_a_missing_set_names_command_and_folder(data: Path, name: str) -> None:
    """Opening never downloads."""
    with pytest.raises(DataError) as caught:
        open_dataset(name)
    assert f"`robustboard datasets download {name}`" in str(caught.value)
    assert str(data / PUBLIC.get(name).folder) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not data.exists()


@pytest.mark.parametrize("name", ["tiny-imagenet", "imagenet"])
def test_what_cannot_be_downloaded_says_what_to_put_where(data: Path, name: str) -> None:
    """Licence and size leave these to the user."""
    with pytest.raises(DataError, match=r"put .*val/.* there \(ROBUSTBOARD_DATA names the folder above\)"):
        open_dataset(name)
    with pytest.raises(DataError, match="cannot be downloaded; put"):
        download(PUBLIC.get(name))


def test_a_declared_folder_of_the_same_name_goes_first(data: Path, tmp_path: Path) -> None:
    """Boards made before the public set was known stay as they are."""
    write_cifar10(data / "cifar-10-batches-bin")
    for label in ("cat", "dog"):
        write_image(tmp_path / "own" / "test" / label / "1.png", 5, (32, 32))
    assert open_dataset("cifar10").classes == CIFAR10
    assert open_dataset("cifar10", folders={"cifar10": tmp_path / "own"}).classes == ("cat", "dog")
    with pytest.raises(UnknownName, match="did you mean 'cifar10'"):
        open_dataset("cifar-10")


def test_an_archive_is_fetched_checked_and_unpacked(data: Path, tmp_path: Path) -> None:
    """Only the wanted files come out, nothing beside them; a second call fetches nothing."""
    write_cifar10(tmp_path / "cifar-10-batches-bin")
    (tmp_path / "cifar-10-batches-bin" / "readme.html").write_text("x", encoding="ascii")
    entry = served(PUBLIC.get("cifar10"), archive(tmp_path / "cifar-10-batches-bin", tmp_path / "c.tar.gz"))
    told: list[tuple[str, int, int | None]] = []
    assert download(entry, progress=lambda *step: told.append(step))
    size = (tmp_path / "c.tar.gz").stat().st_size
    assert told[-1] == ("c.tar.gz", size, size)
    assert [path.name for path in data.iterdir()] == ["cifar-10-batches-bin"]
    assert sorted(path.name for path in entry.path.iterdir()) == sorted(PUBLIC.get("cifar10").remotes[0].members)
    assert not (tmp_path / "outside.txt").exists()
    assert open_dataset("cifar10", "train").images().shape == (60, 32, 32, 3)
    assert not download(entry)


def test_a_file_that_is_no_archive_is_kept_as_it_is(data: Path, tmp_path: Path) -> None:
    """SVHN's two files."""
    (tmp_path / "test_32x32.mat").write_bytes(b"matlab")
    assert download(served(PUBLIC.get("svhn"), tmp_path / "test_32x32.mat"))
    assert (data / "svhn" / "test_32x32.mat").read_bytes() == b"matlab"


def test_failures_leave_nothing_behind(data: Path, tmp_path: Path) -> None:
    """No network, another MD5, too large, missing or odd members, a damaged archive: one line each, an empty folder."""
    write_cifar10(tmp_path / "cifar-10-batches-bin")
    good = served(PUBLIC.get("cifar10"), archive(tmp_path / "cifar-10-batches-bin", tmp_path / "good.tar.gz"))
    (tmp_path / "cut.tar.gz").write_bytes((tmp_path / "good.tar.gz").read_bytes()[:9000])
    (tmp_path / "cifar-10-batches-bin" / "test_batch.bin").unlink()
    archive(tmp_path / "cifar-10-batches-bin", tmp_path / "less.tar.gz")
    with tarfile.open(tmp_path / "link.tar.gz", "w:gz") as tar:
        link = tarfile.TarInfo("cifar-10-batches-bin/test_batch.bin")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link, io.BytesIO())
    remote = good.remotes[0]
    cases: list[tuple[PublicSet, str]] = [
        (_with(good, replace(remote, url=(tmp_path / "nowhere").as_uri())), "cannot be downloaded"),
        (_with(good, replace(remote, md5="0" * 32)), "expected 00000000"),
        (_with(good, replace(remote, limit=100)), "more than 100 bytes"),
        (_with(good, replace(remote, member_limit=100)), "no regular file of the published size"),
        (served(good, tmp_path / "cut.tar.gz"), "damaged archive"),
        (served(good, tmp_path / "less.tar.gz"), r"cifar-10-batches-bin/test_batch\.bin is missing"),
        (served(good, tmp_path / "link.tar.gz"), "no regular file"),
    ]
    for entry, message in cases:
        with pytest.raises(WorkError, match=message) as caught:
            download(entry)
        assert "\n" not in str(caught.value)
        assert list(data.iterdir()) == []


def test_the_later_of_two_downloads_finds_the_set_there(data: Path, tmp_path: Path) -> None:
    """Another process ends while this one is at it: its folder stands, and nothing is left beside it."""
    write_cifar10(tmp_path / "cifar-10-batches-bin")
    entry = served(PUBLIC.get("cifar10"), archive(tmp_path / "cifar-10-batches-bin", tmp_path / "c.tar.gz"))

    def overtaken(*_step: object) -> None:
        entry.path.mkdir(exist_ok=True)
        (entry.path / "of the other").touch()

    assert not download(entry, progress=overtaken)
    assert [path.name for path in data.iterdir()] == ["cifar-10-batches-bin"]
    assert [path.name for path in entry.path.iterdir()] == ["of the other"]


def test_a_name_that_something_else_has_taken_is_no_set(data: Path, tmp_path: Path) -> None:
    """A file stands there when the download ends."""
    (tmp_path / "test_32x32.mat").write_bytes(b"matlab")
    entry = served(PUBLIC.get("svhn"), tmp_path / "test_32x32.mat")
    with pytest.raises(DataError, match=r"cannot be written \(Not a directory\)"):
        download(entry, progress=lambda *_step: entry.path.touch())
    assert list(data.iterdir()) == [entry.path]


def test_a_full_disk_is_no_damaged_archive(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Unpacking says what the system says, and cleans up."""
    write_cifar10(tmp_path / "cifar-10-batches-bin")
    entry = served(PUBLIC.get("cifar10"), archive(tmp_path / "cifar-10-batches-bin", tmp_path / "c.tar.gz"))
    real = Path.open

    def full(path: Path, mode: str = "r", **options: Any) -> Any:
        if path.name.startswith("data_batch"):
            return real(Path("/dev/full"), mode, **options)
        return real(path, mode, **options)

    monkeypatch.setattr(Path, "open", full)
    with pytest.raises(DataError, match=r"data_batch_\d\.bin: cannot be written.*No space left on device") as caught:
        download(entry)
    assert "\n" not in str(caught.value)
    assert list(data.iterdir()) == []


def test_a_data_folder_that_cannot_be_made_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file stands in its place."""
    (tmp_path / "file").write_text("x", encoding="ascii")
    monkeypatch.setenv("ROBUSTBOARD_DATA", str(tmp_path / "file" / "data"))
    with pytest.raises(DataError, match=r"data folder .*cannot be written"):
        download(PUBLIC.get("svhn"))


def _with(entry: PublicSet, remote: Remote) -> PublicSet:
    return replace(entry, remotes=(remote,))
