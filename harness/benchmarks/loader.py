"""From a benchmark's TOML to frozen values, and from there to evaluation specs."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from harness.attacks.flags import VERSION as CHECKS_VERSION
from harness.errors import DataError, InvalidArgument, RequestError, UnknownName
from harness.spec import (
    AttackSpec,
    ChecksSpec,
    CleanSpec,
    CorruptionSpec,
    DataRef,
    EvaluationSpec,
    MeasureSpec,
    ModelRef,
    Options,
    Perturbation,
    Precision,
    Scope,
    as_norm,
    freeze_options,
    parse_eps,
)
from harness.target import Target

if TYPE_CHECKING:
    from harness.corruptions.suites import Suite

FOLDER = Path(__file__).parent
_FILE = re.compile(r"(?P<name>[a-z0-9-]+?)-(?P<version>[0-9]+)\.toml")


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """One `[[evaluations]]` entry: one evaluation, or the grid of a corruption suite."""

    id: str
    kind: Literal["clean", "corruptions", "attack", "measure", "checks"]
    images: int
    suite: str = ""
    backend: str = ""
    """"reference": the suite's yardstick makes the images, one by one; else our engine."""
    corruptions: tuple[str, ...] = ()
    severities: tuple[int, ...] = ()
    attack: str = ""
    norm: str = ""
    eps: str = ""
    batch: int = 0
    """Batch cut of an attack backend that is not per-image; 0 for per-image ones."""
    search_precision: Precision = "float32"
    measure: str = ""
    options: Options = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ColumnSpec:
    """One `[[columns]]` entry: a score over the evaluations of some groups."""

    name: str
    title: str
    help: str
    score: str
    evaluations: tuple[str, ...]
    higher_is_better: bool | None = None
    quantity: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """An evaluation wanted on images [0, stop)."""

    group: str
    spec: EvaluationSpec
    stop: int
    cell: tuple[str, int] | None = None
    """(corruption, severity), for corrupted images however they are made."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Benchmark:
    """A benchmark as its file declares it."""

    name: str
    version: int
    title: str
    description: str
    dataset: str
    classes: int
    image_size: tuple[int, int]
    seed: int
    ranked_by: str
    groups: tuple[Group, ...]
    columns: tuple[ColumnSpec, ...]

    @property
    def label(self) -> str:
        """`name@version`."""
        return f"{self.name}@{self.version}"

    def group(self, name: str) -> Group:
        """The group with this id."""
        return next(group for group in self.groups if group.id == name)

    def column(self, name: str) -> ColumnSpec:
        """The column called `name`.

        Raises:
            UnknownName: with the nearest known column.
        """
        for column in self.columns:
            if column.name == name:
                return column
        raise UnknownName("column", name, [column.name for column in self.columns])

    def group_images(self, group: Group, target: Target) -> int:
        """Images of a group's full range on a target."""
        return min(group.images, target.corrupted_images if group.kind == "corruptions" else target.clean.images)

    def column_images(self, column: ColumnSpec, target: Target) -> int:
        """Images of a column's full range on a target; all its evaluations share it."""
        return min(self.group_images(self.group(name), target) for name in column.evaluations)

    def column_bound(self, column: ColumnSpec) -> Literal["exact", "upper"]:
        """Whether a column shows a score or an upper bound on it: one bounding attack makes it a bound."""
        attacks = [group for name in column.evaluations if (group := self.group(name)).kind == "attack"]
        return "upper" if any(group_bound(group) == "upper" for group in attacks) else "exact"

    def check_data(self, data: DataRef, image_size: tuple[int, int]) -> None:
        """Refuse a data set that the benchmark is not made for.

        Raises:
            InvalidArgument: another number of classes or another image size.
        """
        if data.classes != self.classes:
            raise InvalidArgument(
                "dataset", data.name, f"{self.classes} classes for benchmark {self.label}, it has {data.classes}"
            )
        if image_size != self.image_size:
            wanted, got = ("x".join(map(str, size)) for size in (self.image_size, image_size))
            raise InvalidArgument("dataset", data.name, f"{wanted} images for benchmark {self.label}, its are {got}")

    def requests(self, model: ModelRef, target: Target, *, limit: int | None = None) -> tuple[Request, ...]:
        """All evaluations of one model on one target.

        Args:
            model: the model by content.
            target: what to run on. Corrupted files are evaluated as they are, each cell a data set of its own.
            limit: take at most the first `limit` images of each range.

        Raises:
            DataError: corrupted files lack a cell that the benchmark asks for.
        """
        wanted: list[Request] = []
        for group in self.groups:
            full = self.group_images(group, target)
            stop = full if limit is None else min(full, limit)
            for perturbation in perturbations(group, self.seed, full, stop):
                spec = EvaluationSpec(model=model, data=target.clean, perturbation=perturbation)
                cell = None
                if isinstance(perturbation, CorruptionSpec):
                    cell = perturbation.name, perturbation.severity
                    if target.cells:
                        spec = EvaluationSpec(model=model, data=_file_cell(target, *cell), perturbation=CleanSpec())
                wanted.append(Request(group=group.id, spec=spec, stop=stop, cell=cell))
        return tuple(wanted)


def _file_cell(target: Target, corruption: str, severity: int) -> DataRef:
    found = target.cell(corruption, severity)
    if found is None:
        raise DataError(f"data set {target.data.name!r} has no files for {corruption} at severity {severity}")
    return found


def perturbations(group: Group, seed: int, full: int, stop: int) -> tuple[Perturbation, ...]:
    """The perturbations of a group, with the versions of the components that make them today.

    Args:
        group: the benchmark's entry.
        seed: the benchmark's seed.
        full: images of the full range on the data set at hand.
        stop: images asked for; it enters the identity of what is not per-image (measures).
    """
    if group.kind == "clean":
        return (CleanSpec(),)
    if group.kind == "corruptions":
        from harness.corruptions.suites import SUITES

        suite = SUITES.get(f"{group.suite}-{group.backend}" if group.backend else group.suite)
        return tuple(
            CorruptionSpec(suite=group.suite, name=name, severity=severity, seed=seed, version=suite.version(name))
            for name in group.corruptions
            for severity in group.severities
        )
    if group.kind == "attack":
        return (_attack(group, seed, full),)
    if group.kind == "checks":
        norm, eps = as_norm(group.norm), parse_eps(group.eps)
        return (ChecksSpec(norm=norm, eps=eps, seed=seed, version=CHECKS_VERSION, start=0, stop=stop),)
    from harness.measures import MEASURES

    measure = MEASURES.get(group.measure)
    options = measure.complete(dict(group.options), seed=seed)
    version = measure.version_with(options)
    return (MeasureSpec(measure=measure.name, version=version, start=0, stop=stop, options=freeze_options(options)),)


def group_bound(group: Group) -> Literal["exact", "upper"]:
    """Whether the robust accuracy of an attack group is meant as an upper bound."""
    from harness.attacks.catalogue import ATTACKS, attack_bound

    return attack_bound(group.attack, ATTACKS.get(group.attack).complete(dict(group.options)))


def _attack(group: Group, seed: int, full: int) -> AttackSpec:
    from harness.attacks.catalogue import ATTACKS, attack_version, check_precision

    attack = ATTACKS.get(group.attack)
    options = attack.complete(dict(group.options))
    check_precision(group.attack, options, group.search_precision)
    scope = None if attack.per_image else Scope(start=0, stop=full, batch=group.batch)
    return AttackSpec(
        attack=group.attack,
        norm=as_norm(group.norm),
        eps=parse_eps(group.eps),
        seed=seed,
        version=attack_version(group.attack, options),
        options=freeze_options(options),
        search_precision=group.search_precision,
        scope=scope,
    )


def benchmark_names() -> tuple[tuple[str, int], ...]:
    """(name, version) of all benchmarks, by name, oldest version first."""
    found = [match for path in FOLDER.glob("*.toml") if (match := _FILE.fullmatch(path.name))]
    return tuple(sorted((match["name"], int(match["version"])) for match in found))


def load_benchmark(label: str) -> Benchmark:
    """A benchmark by `name` (its newest version) or `name@version`.

    Raises:
        UnknownName: no such benchmark or version.
    """
    known = benchmark_names()
    name, _, version = label.partition("@")
    versions = [number for known_name, number in known if known_name == name]
    if not versions:
        raise UnknownName("benchmark", label, {known_name for known_name, _ in known})
    if version and (not version.isdecimal() or int(version) not in versions):
        raise UnknownName("benchmark", label, [f"{name}@{number}" for number in versions])
    number = int(version) if version else versions[-1]
    return parse_benchmark((FOLDER / f"{name}-{number}.toml").read_text("utf-8"))


def parse_benchmark(text: str) -> Benchmark:
    """A benchmark from TOML text, checked strictly.

    Raises:
        RequestError: not TOML, a missing, unknown or wrong field, or a reference to something that is not declared.
    """
    try:
        raw = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise RequestError(f"benchmark: not valid TOML ({error})") from None
    label = f"benchmark {raw.get('name')!r}"
    groups = tuple(_group(_table(item, _GROUP_FIELDS, f"{label}, evaluations")) for item in raw.pop("evaluations", []))
    columns = tuple(_column(_table(item, _COLUMN_FIELDS, f"{label}, columns")) for item in raw.pop("columns", []))
    values = _table(raw, _BENCHMARK_FIELDS, label)
    height, width = values.pop("image_size")
    benchmark = Benchmark(image_size=(height, width), groups=groups, columns=columns, **values)
    _check(benchmark)
    return benchmark


_BENCHMARK_FIELDS: Mapping[str, tuple[type, bool]] = {
    "name": (str, True),
    "version": (int, True),
    "title": (str, True),
    "description": (str, True),
    "dataset": (str, True),
    "classes": (int, True),
    "image_size": (list, True),
    "seed": (int, True),
    "ranked_by": (str, True),
}
_GROUP_FIELDS: Mapping[str, tuple[type, bool]] = {
    "id": (str, True),
    "kind": (str, True),
    "images": (int, True),
    "suite": (str, False),
    "backend": (str, False),
    "corruptions": (object, False),
    "severities": (list, False),
    "attack": (str, False),
    "norm": (str, False),
    "eps": (str, False),
    "batch": (int, False),
    "search_precision": (str, False),
    "measure": (str, False),
    "options": (dict, False),
}
_KINDS = ("clean", "corruptions", "attack", "measure", "checks")
_COLUMN_FIELDS: Mapping[str, tuple[type, bool]] = {
    "name": (str, True),
    "title": (str, True),
    "help": (str, True),
    "score": (str, True),
    "evaluations": (list, True),
    "higher_is_better": (bool, False),
    "quantity": (str, False),
}


def _table(raw: Mapping[str, Any], fields: Mapping[str, tuple[type, bool]], where: str) -> dict[str, Any]:
    """The table with its fields checked: known names, right types, none missing."""
    for name, value in raw.items():
        if name not in fields:
            raise UnknownName(f"field of {where}", name, fields)
        if not isinstance(value, fields[name][0]):
            raise InvalidArgument(f"{where}, {name}", value, f"a {fields[name][0].__name__}")
    missing = [name for name, (_, needed) in fields.items() if needed and name not in raw]
    if missing:
        raise RequestError(f"{where}: missing {', '.join(missing)}")
    return dict(raw)


def _group(values: dict[str, Any]) -> Group:
    if values["kind"] not in _KINDS:
        raise InvalidArgument("kind", values["kind"], f"one of {', '.join(_KINDS)}")
    if values["images"] < 1:
        raise InvalidArgument("images", values["images"], "at least 1")
    values["severities"] = tuple(values.get("severities", ()))
    values["options"] = freeze_options(values.get("options", {}))
    names = values.get("corruptions", ())
    if isinstance(names, str):
        from harness.corruptions.suites import SUITES

        suite = SUITES.get(values["suite"])
        sets: dict[str, tuple[str, ...]] = {"benchmark": suite.benchmark, "extra": suite.extra, "all": suite.names}
        sets.update(suite.families.items())
        if names not in sets:
            raise UnknownName("set of corruptions", names, sets)
        names = sets[names]
    values["corruptions"] = tuple(names)
    return Group(**values)


def _column(values: dict[str, Any]) -> ColumnSpec:
    values["evaluations"] = tuple(values["evaluations"])
    return ColumnSpec(**values)


def _check(benchmark: Benchmark) -> None:
    from harness.measures import MEASURES

    _unique("evaluation", [group.id for group in benchmark.groups])
    _unique("column", [column.name for column in benchmark.columns])
    benchmark.column(benchmark.ranked_by)
    ids = [group.id for group in benchmark.groups]
    for column in benchmark.columns:
        for name in column.evaluations:
            if name not in ids:
                raise UnknownName(f"evaluation in column {column.name!r}", name, ids)
            if benchmark.group(name).kind == "checks":
                raise RequestError(f"column {column.name!r}: evaluation {name!r} gives flags, not verdicts")
        if column.score in ("mce", "relative_mce"):  # a missing baseline is an error before any compute
            _suite(benchmark, column).require_baselines()
    for group in benchmark.groups:
        if group.kind in ("attack", "measure", "checks"):
            perturbations(group, benchmark.seed, group.images, group.images)
    for column in benchmark.columns:
        for name in column.evaluations if column.score == "measure" else ():
            MEASURES.get(benchmark.group(name).measure).check_quantity(column.quantity)


def _suite(benchmark: Benchmark, column: ColumnSpec) -> Suite:
    """The one suite of a column's corruptions."""
    from harness.corruptions.suites import SUITES

    suites = {group.suite for name in column.evaluations if (group := benchmark.group(name)).kind == "corruptions"}
    if len(suites) != 1:
        raise RequestError(f"column {column.name!r}: score {column.score} needs the corruptions of one suite")
    return SUITES.get(suites.pop())


def _unique(kind: str, names: Iterable[str]) -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise RequestError(f"benchmark: {kind} {name!r} is declared twice")
        seen.add(name)
