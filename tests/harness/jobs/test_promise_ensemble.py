"""Promise A and resume with AutoAttack at its full budget, where two images of the first block survive everything."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

from harness.benchmarks import parse_benchmark
from harness.data import open_dataset
from harness.jobs.context import Settings, find_models
from harness.jobs.executors.local import ProcessExecutor, SerialExecutor
from harness.jobs.runner import Job, run_job
from harness.storage import open_store
from harness.storage.store import Store
from tests.harness.jobs.conftest import outcome_state, stored_verdicts

ROOT = Path(__file__).parents[3]
MODELS = (
    "small_cnn.supervised.digits.s0",
    "small_cnn.selectivity-am1.digits.s0",
    "small_cnn.selectivity-ap2.digits.s0",
)
ENSEMBLE = """
name = "ensemble"
version = 1
title = "Ensemble"
description = "AutoAttack standard where the supervised model keeps two images of 150."
dataset = "digits"
classes = 10
image_size = [32, 32]
seed = 0
ranked_by = "robust_accuracy_linf"

[[evaluations]]
id = "standard"
kind = "attack"
attack = "autoattack"
norm = "Linf"
eps = "63/2550"
images = 150

[[columns]]
name = "robust_accuracy_linf"
title = "AutoAttack"
help = "robust accuracy"
score = "accuracy"
evaluations = ["standard"]
higher_is_better = true
"""
SCRIPT = """
import sys
from harness.jobs.context import Settings
from harness.jobs.executors.local import ProcessExecutor
from harness.jobs.runner import run_job
from harness.storage import open_store
from tests.harness.jobs.test_promise_ensemble import ensemble_job
if __name__ == "__main__":
    store = open_store(sys.argv[1])
    run_job(store, ensemble_job(store), ProcessExecutor(3), settings=Settings(batch_size=17))
"""


def ensemble_job(store: Store) -> Job:
    """Three models, two blocks each."""
    return Job(benchmark=parse_benchmark(ENSEMBLE), models=find_models(store, MODELS), data=open_dataset("digits"))


def test_the_full_ensemble_is_bit_identical_however_it_runs(tmp_path: Path) -> None:
    """One process at 256 rows, three at 1, and three at 17 killed inside the attack and resumed: the same bits."""
    states = []
    for name, executor, batch in (("one.db", SerialExecutor(), 256), ("three.db", ProcessExecutor(3), 1)):
        with closing(open_store(str(tmp_path / name))) as store:
            job = ensemble_job(store)
            assert not run_job(store, job, executor, settings=Settings(batch_size=batch)).failures
            states.append(outcome_state(store, job))
    db = tmp_path / "killed.db"
    stored = _run_and_kill(tmp_path, db)
    with closing(open_store(str(db))) as store:
        job = ensemble_job(store)
        report = run_job(store, job, SerialExecutor(), settings=Settings(batch_size=17))
        assert report.computed == 3 * 150 - stored
        states.append(outcome_state(store, job))
    assert states[0] == states[1] == states[2]
    assert len(states[0]) == 2 * len(MODELS)  # verdicts and records of each
    assert any(b"'apgd-t'" in state for state in states[0].values())


def _run_and_kill(folder: Path, db: Path) -> int:
    """Start the run in a process, kill it hard while the survivors are under attack; verdicts stored by then."""
    script = folder / "script.py"
    script.write_text(SCRIPT)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen([sys.executable, str(script), str(db)], cwd=ROOT, env=environment)
    until = time.monotonic() + 120
    # all blocks but the one with the survivors (128 images) are done early; the survivors take thousands of passes
    while stored_verdicts(db) < 3 * 150 - 128:
        assert process.poll() is None, "the run ended before it could be killed"
        assert time.monotonic() < until, "the run stored nothing in time"
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    return stored_verdicts(db)
