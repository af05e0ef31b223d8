"""`python -m models_zoo.train`: training where nothing is installed but torch, numpy and safetensors.

Reads an `.npz` file or an image folder and writes a card and weights.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from harness.errors import RobustboardError
from models_zoo.checkpoints import save_state_dict
from models_zoo.recipes import RECIPES
from models_zoo.recipes.base import parse_assignments
from models_zoo.train import TrainResult, planned_card, train_planned
from models_zoo.training_files import read_training_data
from models_zoo.training_folders import make_ready, writing
from models_zoo.training_log import TrainingLog
from models_zoo.training_progress import LineWatch, Progress


def main(arguments: Sequence[str]) -> int:
    """Train by the words of a command line.

    Returns:
        The exit code: 0 fine, 1 the work failed, 2 the request was wrong.
    """
    options = _parser().parse_args(arguments)
    try:
        result = _train(options)
        write_result(result, options.out)
    except RobustboardError as error:
        sys.stderr.write(f"error: {' '.join(str(error).split())}\n")
        return error.exit_code
    if result.state is not None:
        result.state.discard()
    sys.stdout.write(f"{result.card.name} {result.card.weights_digest}\n")
    return 0


def write_result(result: TrainResult, folder: Path) -> None:
    """`NAME.toml` and `NAME.safetensors` in a folder, which is made.

    Raises:
        InvalidArgument: the folder cannot be made or written to.
    """
    with writing("out", folder):
        folder.mkdir(parents=True, exist_ok=True)
        save_state_dict(result.state_dict, folder / f"{result.card.name}.safetensors")
        (folder / f"{result.card.name}.toml").write_text(result.card.to_toml(), encoding="utf-8")


def _train(options: argparse.Namespace) -> TrainResult:
    data = read_training_data(options.data, name=options.dataset)
    card = planned_card(
        options.recipe,
        dataset=data,
        architecture=options.arch,
        settings=parse_assignments(options.set),
        seed=options.seed,
        name=options.name,
    )
    make_ready("out", options.out)
    watch = LineWatch(sys.stderr)
    log = TrainingLog(options.log, card.name, tensorboard=options.tensorboard) if options.log is not None else None

    def after_epoch(progress: Progress) -> None:
        watch.epoch(progress)
        if log is not None:
            log(progress)

    try:
        return train_planned(
            card,
            dataset=data,
            seed=options.seed,
            threads=options.threads,
            device=options.device,
            progress=after_epoch,
            on_step=watch.step,
            state_folder=options.state if options.state is not None else options.out / "training",
            fresh=options.fresh,
        )
    finally:
        if log is not None:
            log.close()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m models_zoo.train", description=__doc__)
    parser.add_argument("recipe", help=", ".join(RECIPES.names()))
    parser.add_argument("--data", type=Path, required=True, help="an .npz file or an image folder")
    parser.add_argument("--dataset", help="the data set's name [that of the file or folder]")
    parser.add_argument("--arch", default="small_cnn", help="architecture [small_cnn]")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="a setting; repeat for more")
    parser.add_argument("--seed", type=int, default=0, help="seed of all draws [0]")
    parser.add_argument("--threads", type=int, default=1, help="threads of torch; they decide the last bits [1]")
    parser.add_argument("--device", default="cpu", help="cpu, cuda or cuda:N [cpu]")
    parser.add_argument("--name", help="name of the model [made from the above]")
    parser.add_argument("--out", type=Path, default=Path(), help="folder for card and weights [the current one]")
    parser.add_argument("--state", type=Path, help="folder of interrupted runs [training, in --out]")
    parser.add_argument("--fresh", action="store_true", help="start over instead of going on with an interrupted run")
    parser.add_argument("--log", type=Path, help="write FOLDER/NAME/history.csv")
    parser.add_argument("--tensorboard", action="store_true", help="with --log: event files, too")
    return parser
