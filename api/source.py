"""Where the service gets its boards from: a narrow protocol, and the store behind it."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import Final, Protocol

from harness.catalogue import BenchmarkSummary, ModelDetail, ModelSummary, list_benchmarks, list_models, model_detail
from harness.curves import CorruptionGrid, Fingerprint, corruption_curves, fingerprint
from harness.leaderboard import Board, BoardQuery, load_board
from harness.measure_view import MeasureTable, model_measures
from harness.robustness import BoardRobustness, robustness
from harness.storage import open_store
from harness.storage.engine import parse_url, sqlite_path
from harness.storage.queries import Reader

_KEPT_GRIDS: Final = 64
"""Models whose grids are kept: the bootstraps of a large data set take seconds."""


class BoardSource(Protocol):
    """What the service reads. Calls come from several threads at once.

    Every method raises `StoreNotReady` while there is no store of this version.
    """

    def ready(self) -> None:
        """Return if boards can be read now."""
        ...

    def load_board(self, query: BoardQuery) -> Board:
        """One board.

        Raises:
            UnknownName: no such benchmark, data set, family or column.
            InvalidArgument: a value outside its domain.
        """
        ...

    def list_benchmarks(self) -> tuple[BenchmarkSummary, ...]:
        """All boards that can be asked for."""
        ...

    def list_models(self) -> tuple[ModelSummary, ...]:
        """All models of the store, sorted by name."""
        ...

    def model_detail(self, name: str) -> ModelDetail:
        """One model with its card, scores and evaluations.

        Raises:
            UnknownName: no such model.
        """
        ...

    def corruption_curves(self, name: str) -> tuple[CorruptionGrid, ...]:
        """One model's accuracies by corruption and severity, a grid for each suite and data set; maybe none.

        Raises:
            UnknownName: no such model.
        """
        ...

    def robustness(self, name: str) -> tuple[BoardRobustness, ...]:
        """One model under attack, an entry for each board; maybe none.

        Raises:
            UnknownName: no such model.
        """
        ...

    def measures(self, name: str) -> tuple[MeasureTable, ...]:
        """What was measured of one model; maybe nothing.

        Raises:
            UnknownName: no such model.
        """
        ...


class StoreSource:
    """Boards of a store that is opened read-only.

    A missing or older store is looked for again at each call, so the service may start before the first run; a SQLite
    file that was replaced by another (a fresh snapshot, say) is opened anew.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._file = sqlite_path(parse_url(url))
        self._lock = threading.Lock()
        self._opened: Reader | None = None
        self._identity: tuple[int, int] | None = None
        self._grids: OrderedDict[tuple[str, Fingerprint], tuple[CorruptionGrid, ...]] = OrderedDict()

    def _store(self) -> Reader:
        with self._lock:
            identity = self._current()
            if self._opened is not None and identity != self._identity:
                self._opened.close()
                self._opened = None
            if self._opened is None:
                self._opened = open_store(self._url, read_only=True)
                self._identity = identity
            return self._opened

    def _current(self) -> tuple[int, int] | None:
        """Which file stands under the store's path now: device and inode; None without one, or for a server."""
        try:
            status = self._file.stat() if self._file is not None else None
        except FileNotFoundError:
            return None
        return None if status is None else (status.st_dev, status.st_ino)

    def ready(self) -> None:
        """See `BoardSource`."""
        self._store().check()

    def load_board(self, query: BoardQuery) -> Board:
        """See `BoardSource`."""
        return load_board(self._store(), query)

    def list_benchmarks(self) -> tuple[BenchmarkSummary, ...]:
        """See `BoardSource`."""
        return list_benchmarks(self._store())

    def list_models(self) -> tuple[ModelSummary, ...]:
        """See `BoardSource`."""
        return list_models(self._store())

    def model_detail(self, name: str) -> ModelDetail:
        """See `BoardSource`."""
        return model_detail(self._store(), name)

    def corruption_curves(self, name: str) -> tuple[CorruptionGrid, ...]:
        """See `BoardSource`. Kept as long as no evaluation of the model gained an image."""
        store = self._store()
        key = (name, fingerprint(store, name))
        with self._lock:
            if key in self._grids:
                self._grids.move_to_end(key)
                return self._grids[key]
        grids = corruption_curves(store, name)
        with self._lock:
            self._grids[key] = grids
            while len(self._grids) > _KEPT_GRIDS:
                self._grids.popitem(last=False)
        return grids

    def robustness(self, name: str) -> tuple[BoardRobustness, ...]:
        """See `BoardSource`."""
        return robustness(self._store(), name)

    def measures(self, name: str) -> tuple[MeasureTable, ...]:
        """See `BoardSource`."""
        return model_measures(self._store(), name)
