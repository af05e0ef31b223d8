"""What a training run leaves to be read: `history.csv`, and event files for TensorBoard where it is installed."""

from __future__ import annotations

import csv
import io
import os
import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from harness.errors import MissingDependency
from models_zoo.training_folders import make_ready, writing

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

    from models_zoo.training_progress import Progress

COLUMNS = ("epoch", "rate", "loss", "objective", "accuracy", "seconds")


class TrainingLog:
    """Writes `FOLDER/NAME/history.csv`, anew after each epoch, and TensorBoard's event files beside it.

    Call it with each epoch's progress, those of before an interruption included: the table always holds the whole run.

    Args:
        folder: FOLDER/NAME is made at once.
        name: of the model.
        tensorboard: write event files, too.

    Raises:
        MissingDependency: event files are wanted and tensorboard is not installed.
        InvalidArgument: the folder cannot be made or written to; also where an epoch is written down.
    """

    def __init__(self, folder: Path, name: str, *, tensorboard: bool = False) -> None:
        if tensorboard and find_spec("tensorboard") is None:
            raise MissingDependency("tensorboard is not installed: pip install 'robustboard[tensorboard]'")
        self.folder = folder / name
        self.tensorboard = tensorboard
        self._history: list[Progress] = []
        self._writer: SummaryWriter | None = None
        make_ready("log", self.folder)

    def __call__(self, progress: Progress) -> None:
        """Write down an epoch; see `models_zoo.train`."""
        self._history.append(progress)
        with writing("log", self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            _replace(self.folder / "history.csv", table(self._history))
            if self.tensorboard and not progress.restored:
                self._write_events(progress)

    def close(self) -> None:
        """Let the event file go."""
        if self._writer is not None:
            self._writer.close()

    def _write_events(self, progress: Progress) -> None:
        from torch.utils.tensorboard import SummaryWriter

        if self._writer is None:
            # What a killed run wrote of this epoch and later ones is void.
            self._writer = SummaryWriter(str(self.folder), purge_step=progress.epoch)
        values = {column: getattr(progress, column) for column in COLUMNS[1:]} | dict(progress.extras)
        for name, value in values.items():
            self._writer.add_scalar(name, value, progress.epoch)
        self._writer.flush()


def table(history: list[Progress]) -> str:
    """The history as CSV: a row an epoch, a column for each quantity, those of the recipe last.

    Args:
        history: at least one epoch.
    """
    extras = sorted({name for progress in history for name, _ in progress.extras})
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow((*COLUMNS, *extras))
    for progress in history:
        noted = dict(progress.extras)
        writer.writerow([*(getattr(progress, column) for column in COLUMNS), *(noted.get(name, "") for name in extras)])
    return text.getvalue()


def _replace(path: Path, text: str) -> None:
    """Write a file by an atomic rename: who reads it meanwhile gets a whole one."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
    temporary = Path(name)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        temporary.chmod(0o644)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
