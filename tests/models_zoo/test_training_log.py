"""What a run leaves to be read: the table, event files, and plain lines."""

from __future__ import annotations

import csv
import io
import sys
from pathlib import Path

import pytest

from harness.errors import MissingDependency
from models_zoo.train import Progress, Step, train
from models_zoo.training_log import TrainingLog, table
from models_zoo.training_progress import LineWatch, duration
from tests.models_zoo.tiny import quarters


def an_epoch(epoch: int, *, restored: bool = False, extras: tuple[tuple[str, float], ...] = ()) -> Progress:
    """Some epoch of three."""
    return Progress(
        epoch=epoch, epochs=3, loss=0.5 / epoch, accuracy=0.25, objective=1.5, eta_seconds=3661.0, rate=0.1,
        seconds=2.0, restored=restored, extras=extras,
    )  # fmt: skip


def test_history_of_a_real_run(tmp_path: Path) -> None:
    """history.csv holds a row an epoch with the numbers of the history, the recipe's own last."""
    log = TrainingLog(tmp_path / "logs", "a.b.c")
    result = train(
        "selectivity", dataset=quarters(80), architecture="small_cnn", settings={"epochs": 3, "batch_size": 32},
        progress=log,
    )  # fmt: skip
    rows = list(csv.DictReader(io.StringIO((tmp_path / "logs" / "a.b.c" / "history.csv").read_text("utf-8"))))
    assert list(rows[0]) == ["epoch", "rate", "loss", "objective", "accuracy", "seconds", "selectivity"]
    assert [int(row["epoch"]) for row in rows] == [1, 2, 3]
    for row, progress in zip(rows, result.history, strict=True):
        assert float(row["loss"]) == progress.loss
        assert float(row["objective"]) == progress.objective
        assert float(row["rate"]) == progress.rate
        assert 0 < float(row["selectivity"]) < 1
    assert float(rows[0]["rate"]) > float(rows[2]["rate"]) > 0
    assert [path.name for path in (tmp_path / "logs" / "a.b.c").iterdir()] == ["history.csv"]


def test_table_of_epochs_without_a_note() -> None:
    """An epoch in which the recipe noted nothing has an empty cell."""
    rows = list(csv.reader(io.StringIO(table([an_epoch(1), an_epoch(2, extras=(("selectivity", 0.5),))]))))
    assert rows[1:] == [
        ["1", "0.1", "0.5", "1.5", "0.25", "2.0", ""],
        ["2", "0.1", "0.25", "1.5", "0.25", "2.0", "0.5"],
    ]


def test_restored_epochs_stay_in_the_table(tmp_path: Path) -> None:
    """After an interruption the table is whole again, whatever stood there."""
    log = TrainingLog(tmp_path, "m")
    (tmp_path / "m" / "history.csv").write_text("half a li")
    for progress in (an_epoch(1, restored=True), an_epoch(2, restored=True), an_epoch(3)):
        log(progress)
    assert len((tmp_path / "m" / "history.csv").read_text().splitlines()) == 4


def test_events_can_be_read_back(tmp_path: Path) -> None:
    """TensorBoard's own reader finds the numbers, and of an epoch that was run twice only the second."""
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    first = TrainingLog(tmp_path, "m", tensorboard=True)
    first(an_epoch(1))
    first(an_epoch(2))
    first.close()
    second = TrainingLog(tmp_path, "m", tensorboard=True)
    second(an_epoch(1, restored=True))
    second(an_epoch(2, extras=(("selectivity", 0.5),)))
    second.close()
    events = EventAccumulator(str(tmp_path / "m"))
    events.Reload()
    assert [(event.step, event.value) for event in events.Scalars("loss")] == [(1, 0.5), (2, 0.25)]
    assert [event.step for event in events.Scalars("selectivity")] == [2]


def test_events_need_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without tensorboard the wish is refused before training, with the command that installs it."""
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    monkeypatch.setattr("models_zoo.training_log.find_spec", lambda _name: None)
    with pytest.raises(MissingDependency, match=r"pip install 'robustboard\[tensorboard\]'"):
        TrainingLog(tmp_path, "m", tensorboard=True)


def test_plain_lines() -> None:
    """One line an epoch, one a minute inside epochs, and where an interrupted run goes on."""
    now = [0.0]
    stream = io.StringIO()
    watch = LineWatch(stream, clock=lambda: now[0])
    watch.epoch(an_epoch(1, restored=True))
    assert stream.getvalue() == ""
    for seconds in range(0, 200, 10):
        now[0] = float(seconds)
        watch.step(Step(epoch=2, epochs=3, step=seconds // 10 + 1, steps=20, eta_seconds=100 - seconds / 10))
    watch.epoch(an_epoch(2, extras=(("selectivity", 0.5),)))
    validated = "validation objective 1.5000, validation accuracy 0.2500"
    assert stream.getvalue().splitlines() == [
        "going on after epoch 1 of 3",
        "epoch 2/3: step 7 of 20, 0:01:34 left",
        "epoch 2/3: step 13 of 20, 0:01:28 left",
        "epoch 2/3: step 19 of 20, 0:01:22 left",
        f"epoch 2/3: loss 0.2500, selectivity 0.5000, {validated}, 1:01:01 left",
    ]


def test_durations() -> None:
    """Hours, minutes, seconds."""
    assert [duration(seconds) for seconds in (0, 59.6, 3599, 360000)] == ["0:00:00", "0:01:00", "0:59:59", "100:00:00"]


def test_steps_are_told_with_the_time_that_is_left() -> None:
    """Each step is told once, in order; the first already has an estimate, the last has none left."""
    steps: list[Step] = []
    train(
        "supervised", dataset=quarters(80), architecture="small_cnn", settings={"epochs": 2, "batch_size": 32},
        on_step=steps.append,
    )  # fmt: skip
    assert [(step.epoch, step.step, step.steps) for step in steps] == [(1, 1, 2), (1, 2, 2), (2, 1, 2), (2, 2, 2)]
    assert steps[0].eta_seconds > 0
    assert steps[-1].eta_seconds == 0
