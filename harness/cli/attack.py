"""`robustboard attack`: run one attack, look at kept adversarial images, check somebody else's."""

from __future__ import annotations

import contextlib
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli.options import BatchOption, DbOption, DeviceOption, JsonOption
from harness.cli.output import emit, emit_json, emit_table, say

if TYPE_CHECKING:
    from harness.attacks import Attack
    from harness.attacks.options import Option
    from harness.data import Dataset
    from harness.jobs.context import ModelSource
    from harness.jobs.once import Request, Verdict
    from harness.jobs.subject import Subject
    from harness.spec import Precision, Scalar
    from harness.storage.queries import Reader
    from harness.types import Json

app = typer.Typer(help="Attacks: list, run one, and check adversarial images of others.", no_args_is_help=True)

_PRECISIONS: dict[str, Precision] = {"float32": "float32", "bf16": "bfloat16"}
_CLASSES = 10

ModelArgument = Annotated[str, typer.Argument(help="A model's name.")]
NormOption = Annotated[str, typer.Option("--norm", help="Linf, L2 or L1.")]
EpsOption = Annotated[str, typer.Option("--eps", help="Radius: a number or a fraction such as 8/255.")]
DataOption = Annotated[str | None, typer.Option("--dataset", help="The clean images [the model's own data set].")]


@app.command("list")
def list_attacks(
    name: Annotated[str | None, typer.Argument(help="Only this attack.", show_default=False)] = None,
    as_json: JsonOption = False,
) -> None:
    """List attacks: norms, what an image can cost with 10 classes, options with their domains, sources.

    Examples:
        robustboard attack list

        robustboard attack list autoattack --json
    """
    from harness.attacks import ATTACKS

    attacks = [ATTACKS.get(name)] if name else [ATTACKS.get(item) for item in ATTACKS.names()]
    if as_json:
        emit_json([_attack_json(attack) for attack in attacks])
        return
    rows = []
    for attack in attacks:
        forwards, backwards = attack.budget(attack.complete({}), _CLASSES)
        bound = "<=" if attack.bound == "upper" else ""
        norms = " ".join(attack.norms)
        rows.append((attack.name, norms, f"{forwards:,}", f"{backwards:,}", bound, attack.summary, attack.source))
    emit_table(("attack", "norms", "forwards", "backwards", "bound", "what it does", "source"), rows, right=(2, 3))
    emit("")
    options = [
        (attack.name, option, _scalar(known.default), known.domain(), known.help)
        for attack in attacks
        for option, known in attack.options.items()
    ]
    emit_table(("attack", "option", "default", "domain", "meaning"), options)


@app.command("run")
def run_attack(
    model: ModelArgument,
    attack: Annotated[str, typer.Option("--attack", "-a", help="Its name; `attack list` has them.")] = "autoattack",
    norm: NormOption = "Linf",
    eps: EpsOption = "8/255",
    settings: Annotated[list[str] | None, typer.Option("--set", help="OPTION=VALUE of the attack; repeat.")] = None,
    dataset: DataOption = None,
    limit: Annotated[int | None, typer.Option("--limit", help="Only the first N images [all].")] = None,
    batch_size: BatchOption = 128,
    device: DeviceOption = "cpu",
    precision: Annotated[
        str, typer.Option("--precision", help="Of the search: float32 or bf16; verdicts are always float32.")
    ] = "float32",
    seed: Annotated[int, typer.Option("--seed", help="Seed of all draws.")] = 0,
    save: Annotated[Path | None, typer.Option("--save", help="Write the images that it broke to FILE.npz.")] = None,
    as_json: JsonOption = False,
    db: DbOption = None,
) -> None:
    """Attack a model once. The store is read for models and data sets, and nothing is written to it.

    Examples:
        robustboard attack run small_cnn.supervised.digits.s0 --attack pgd --eps 4/255 --limit 64

        robustboard attack run small_cnn.supervised.digits.s0 --norm L2 --eps 0.5 --set version=plus --save broken.npz
    """
    from harness.cli.progress import CountProgress
    from harness.cli.run import existing
    from harness.jobs.once import Request, attack_once
    from harness.jobs.subject import open_subject

    options, radius, search = _checked(attack, norm, eps, settings or [], precision, seed, batch_size)
    with existing(db) as reader:
        source, data = find_subject(reader, model, dataset)
        request = Request(
            attack=attack,
            norm=norm,
            eps=radius,
            images=len(data) if limit is None else limit,
            options=options,
            seed=seed,
            batch_size=batch_size,
            precision=search,
            collect=save is not None,
        )
        _check_request(request, data, save)
        subject = open_subject(source, data, device)
    with CountProgress(f"{attack} on {model}") as progress:
        verdict = attack_once(subject, request, progress)
    if save is not None:
        _save(save, verdict, request, subject)
    _show_verdict(verdict, request, subject, _reproduce(request, subject), as_json=as_json)


@app.command("examples")
def examples(
    what: Annotated[str, typer.Argument(help="A model's name, or the first digits of an evaluation's digest.")],
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Write those of one evaluation to FILE.npz.")] = None,
    as_json: JsonOption = False,
    db: DbOption = None,
) -> None:
    """List adversarial images that `run --keep-examples N` kept, or write those of one evaluation to a file.

    Examples:
        robustboard attack examples small_cnn.supervised.digits.s0

        robustboard attack examples 3c606073f4ad --out broken.npz
    """
    import dataclasses

    from harness.cli.board import find_evaluation
    from harness.errors import InvalidArgument
    from harness.storage import open_store
    from harness.storage.blobs import EXAMPLES

    if out is not None:
        _check_file("out", out)
    with contextlib.closing(open_store(db, read_only=True)) as store:
        known = store.find_model(what) is not None
        evaluations = store.evaluations(model=what) if known else (find_evaluation(store, what),)
        found = store.kept_examples(item.digest for item in evaluations)
        if out is not None:
            if len(found) != 1:
                kept = ", ".join(item.evaluation[:12] for item in found) or "none; `run --keep-examples N` keeps some"
                raise InvalidArgument("evaluation", what, f"one evaluation with kept images (there are: {kept})")
            content = store.blobs.checked_path(found[0].blob, EXAMPLES).read_bytes()
            _write(out, content, "out")
            say(f"wrote {out}: {found[0].images} images that {found[0].label} broke")
    if as_json:
        emit_json([dataclasses.asdict(item) for item in found])
    elif out is None:
        rows = [
            (item.evaluation[:12], item.label, item.data.name, str(item.images), f"{item.bytes:,}", item.blob[:12])
            for item in found
        ]
        emit_table(("evaluation", "attack", "data set", "images", "bytes", "file"), rows, right=(3, 4))
        if not rows:
            say("none is kept; `robustboard run --keep-examples N` keeps images as it computes")


def _attack_json(attack: Attack) -> Json:
    forwards, backwards = attack.budget(attack.complete({}), _CLASSES)
    return {
        "name": attack.name,
        "version": attack.version,
        "norms": list(attack.norms),
        "bound": attack.bound,
        "per_image": attack.per_image,
        "forwards": forwards,
        "backwards": backwards,
        "summary": attack.summary,
        "source": attack.source,
        "options": [
            {"name": name, "default": option.default, "domain": option.domain(), "help": option.help}
            for name, option in attack.options.items()
        ],
    }


def _scalar(value: Scalar) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _parse(attack: Attack, texts: list[str]) -> dict[str, Scalar]:
    """`--set` texts in the types of the attack's options, defaults written out."""
    from harness.errors import InvalidArgument, UnknownName

    given: dict[str, Scalar] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or name in given:
            raise InvalidArgument("set", text, "OPTION=VALUE, each option once")
        if name not in attack.options:
            raise UnknownName(f"option of {attack.name}", name, attack.options)
        given[name] = _typed(name, value, attack.options[name])
    return attack.complete(given)


def _typed(name: str, text: str, option: Option) -> Scalar:
    from harness.errors import InvalidArgument
    from harness.spec import parse_eps

    try:
        if isinstance(option.default, bool):
            return {"true": True, "false": False}[text.lower()]
        if isinstance(option.default, int):
            return int(text)
    except (ValueError, KeyError):
        raise InvalidArgument(name, text, option.domain()) from None
    return parse_eps(text, argument=name) if isinstance(option.default, float) else text


def _checked(
    attack: str, norm: str, eps: str, settings: list[str], precision: str, seed: int, batch_size: int
) -> tuple[dict[str, Scalar], float, Precision]:
    """Options, radius and precision, checked before anything is opened."""
    from harness.attacks.catalogue import ATTACKS, check_precision
    from harness.errors import InvalidArgument
    from harness.rng import stream_key
    from harness.spec import parse_eps

    known = ATTACKS.get(attack)
    options = _parse(known, settings)
    known.check_norm(norm)
    stream_key(seed, "check")
    if precision not in _PRECISIONS:
        raise InvalidArgument("precision", precision, f"one of {', '.join(_PRECISIONS)}")
    check_precision(attack, known.complete(options), _PRECISIONS[precision])
    if not 1 <= batch_size <= 2**20:
        raise InvalidArgument("batch-size", batch_size, "1 to 1048576")
    return options, parse_eps(eps), _PRECISIONS[precision]


def find_subject(reader: Reader | None, model: str, dataset: str | None) -> tuple[ModelSource, Dataset]:
    """One model by name, and the data set that it is attacked on."""
    from harness.data import open_dataset
    from harness.errors import InvalidArgument
    from harness.jobs.context import find_models

    found = find_models(reader, [model])
    if len(found) != 1:
        raise InvalidArgument("model", model, f"the name of one model; {len(found)} match")
    declarations = {} if reader is None else reader.declarations()
    return found[0], open_dataset(dataset or found[0].card["dataset"], "test", folders=declarations)


def _check_request(request: Request, data: Dataset, save: Path | None) -> None:
    from harness.archive import MAX_BYTES
    from harness.errors import InvalidArgument

    if not 1 <= request.images <= len(data):
        raise InvalidArgument("limit", request.images, f"1 to {len(data)}, the images of {data.name}")
    if save is None:
        return
    _check_file("save", save)
    most = MAX_BYTES // (12 * data.image_size[0] * data.image_size[1])
    if request.images > most:
        raise InvalidArgument("save", str(save), f"at most {most} images of this size in a file: use --limit {most}")


def _check_file(argument: str, path: Path) -> None:
    from harness.errors import InvalidArgument

    if path.suffix.lower() != ".npz" or path.is_dir() or not path.parent.is_dir():
        raise InvalidArgument(argument, str(path), "a file name that ends in .npz, in a folder that exists")


def _write(path: Path, content: bytes, argument: str) -> None:
    from harness.errors import InvalidArgument

    try:
        path.write_bytes(content)
    except OSError as error:
        raise InvalidArgument(argument, str(path), f"a file that can be written ({error.strerror})") from None


def _save(path: Path, verdict: Verdict, request: Request, subject: Subject) -> None:
    from harness.attacks.examples import encode
    from harness.spec import as_norm, parse_eps

    if verdict.examples is None:
        raise TypeError("the attack was run without collecting its examples")
    content = encode(
        verdict.examples,
        norm=as_norm(request.norm),
        eps=parse_eps(request.eps),
        model=subject.source.digest,
        data=subject.data.digest,
    )
    _write(path, content, "save")
    say(f"wrote {path}: {len(verdict.examples)} images")


def _reproduce(request: Request, subject: Subject) -> str:
    """The command that does the same again, every choice written out."""
    from harness.spec import eps_text, parse_eps

    eps = parse_eps(request.eps)
    short = eps_text(eps)
    words = ["robustboard", "attack", "run", subject.source.name, "--attack", request.attack, "--norm", request.norm]
    words += ["--eps", short if parse_eps(short) == eps else repr(eps), "--dataset", subject.data.name]
    words += ["--limit", str(request.images), "--seed", str(request.seed)]
    words += ["--precision", next(name for name, kind in _PRECISIONS.items() if kind == request.precision)]
    words += ["--batch-size", str(request.batch_size), "--device", str(subject.device)]
    for name, value in request.options.items():
        words += ["--set", f"{name}={_scalar(value)}"]
    return shlex.join(words)


def _show_verdict(verdict: Verdict, request: Request, subject: Subject, command: str, *, as_json: bool) -> None:
    from harness import __version__
    from harness.attacks.catalogue import ATTACKS, attack_version
    from harness.spec import eps_text, parse_eps

    eps = parse_eps(request.eps)
    plain = verdict.to_dict()
    if as_json:
        version = attack_version(request.attack, ATTACKS.get(request.attack).complete(request.options))
        head: Json = {"model": subject.source.name, "digest": subject.source.digest, "dataset": subject.data.name}
        head |= {"data_digest": subject.data.digest, "attack": request.attack, "version": version}
        head |= {"norm": request.norm, "eps": eps, "seed": request.seed, "options": dict(request.options)}
        head |= {"precision": request.precision, "robustboard": __version__, "reproduce": command}
        emit_json(head | plain)
        return
    name = f"{request.attack} {request.norm} {eps_text(eps)}"
    emit(f"{subject.source.name} under {name} on {verdict.images} images of {subject.data.name}")
    for title, value in (("robust accuracy", plain["robust"]), ("clean accuracy", plain["clean"])):
        sign = "<= " if value.get("bound") == "upper" else ""
        emit(f"{title}: {sign}{value['value']:.4f}  95 % {value['low']:.4f} .. {value['high']:.4f}")
    broken = ", ".join(f"{count} by {who}" for who, count in verdict.broken_by.items() if who != "clean")
    emit(f"broken: {broken or 'none'}; misclassified clean: {verdict.images - verdict.clean}")
    emit(f"passes an image: {verdict.forwards:.1f} forward, {verdict.backwards:.1f} backward; {verdict.seconds:.1f} s")
    emit(f"borderline (margin within float32's differences): {verdict.borderline}")
    for flag, evidence in verdict.flags.items():
        emit(f"flag {flag}: {evidence}")
    emit(f"reproduce: {command}")
