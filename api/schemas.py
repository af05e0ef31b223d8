"""What goes in and out over HTTP: query parameters with their bounds, and the shapes of the answers for OpenAPI."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from harness.errors import UnknownName
from harness.leaderboard import ColumnKind
from harness.types import Cell

MAX_LIMIT: Final = 1000
Name = Annotated[str, Field(max_length=200)]


class Params(BaseModel):
    """Query parameters: unknown ones are refused by name, empty ones (an untouched form field) count as not given."""

    model_config = ConfigDict(frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _known(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        for name in data:
            if name not in cls.model_fields:
                raise ValueError(str(UnknownName("query parameter", str(name), cls.model_fields)))
        return {name: value for name, value in data.items() if value != ""}


class Window(Params):
    """A slice of a long list."""

    limit: Annotated[int | None, Field(ge=1, le=MAX_LIMIT, description=f"rows at most, {MAX_LIMIT} by default")] = None
    offset: Annotated[int, Field(ge=0, le=10**9, description="rows to skip")] = 0


class BoardChoice(Window):
    """What every form of a board can be asked for."""

    dataset: Annotated[Name | None, Field(description="the board of another data set")] = None
    family: Annotated[Name | None, Field(description="only models of this family")] = None
    sort: Annotated[Name | None, Field(description="a column's name; the benchmark's own ranking by default")] = None
    order: Annotated[Literal["asc", "desc"] | None, Field(description="the column's better end first by default")] = (
        None
    )
    stale: Annotated[bool, Field(description="also show cells of outdated component versions; they never rank")] = False


class BoardParams(BoardChoice):
    """Query of /api/v1/leaderboard."""

    benchmark: Annotated[
        Name, Field(description="a benchmark (`digits`, its newest version) or one version (`digits@1`)")
    ]


SEARCH: Final = "text that name, family, architecture or flags contain"


class PlotParams(BoardParams):
    """Query of /api/v1/leaderboard.svg."""

    x: Annotated[Name | None, Field(description="score column across; `corruption_accuracy` by default")] = None
    y: Annotated[Name | None, Field(description="score column upwards; robust accuracy, else PGD by default")] = None
    colour: Annotated[Name | None, Field(description="score column as colour; `selectivity` by default")] = None
    q: Annotated[Name | None, Field(description=SEARCH)] = None


class PageParams(BoardChoice):
    """Query of the page at /."""

    benchmark: Name | None = None
    q: Annotated[Name | None, Field(description=SEARCH)] = None


class GridParams(Params):
    """Which grids of a model to draw; all by default."""

    suite: Annotated[Name | None, Field(description="only the grids of this suite")] = None
    dataset: Annotated[Name | None, Field(description="only the grids of this data set")] = None


class RobustnessParams(Params):
    """Which boards of a model under attack to draw; all by default."""

    benchmark: Annotated[Name | None, Field(description="only this benchmark, `digits` or `digits@1`")] = None
    dataset: Annotated[Name | None, Field(description="only the boards of this data set")] = None


class ColumnModel(BaseModel):
    """One column of a board."""

    name: str
    title: str
    help: str
    kind: ColumnKind
    higher_is_better: bool | None
    norm: str | None
    eps: str | None
    attack: str | None
    images: int | None
    source: Annotated[str | None, Field(description="where corrupted images come from")]


class Envelope(BaseModel):
    """A board; rows are flat objects with the columns' names and, for each score X, X_low, X_high, X_n and X_bound."""

    benchmark: str
    version: int
    columns: list[ColumnModel]
    total: Annotated[int, Field(description="rows before limit and offset")]
    rows: list[dict[str, Cell]]


class BenchmarkModel(BaseModel):
    """One board that can be asked for."""

    name: str
    version: int
    title: str
    description: str
    dataset: str
    datasets: Annotated[list[str], Field(description="data sets that there are boards for")]
    models: Annotated[int, Field(description="models on the board of `dataset`")]
    ranked_by: str
    columns: Annotated[list[str], Field(description="the declared score columns; the board explains them")]


class BenchmarksModel(BaseModel):
    """Answer of /api/v1/benchmarks."""

    total: int
    benchmarks: list[BenchmarkModel]


class ModelModel(BaseModel):
    """One model in a list."""

    name: str
    family: str
    architecture: str
    dataset: str
    parameters: int
    digest: str
    status: str
    revision: int


class ModelsModel(BaseModel):
    """Answer of /api/v1/models."""

    total: int
    models: list[ModelModel]


class AttributionModel(BaseModel):
    """Whose checked adversarial images count in a best-known figure."""

    author: Annotated[str, Field(description="as given; text of a stranger, may be empty")]
    source: Annotated[str, Field(description="an http or https address, or empty")]
    added_at: str
    sha256: Annotated[str, Field(description="of the file")]
    broken: Annotated[int, Field(description="images of the figure that they break within the radius")]
    first: Annotated[int, Field(description="those of them that nobody had broken before")]


class BestKnownModel(BaseModel):
    """The smallest robust accuracy that is known in one threat model, with Wilson's 95 % interval."""

    dataset: str
    norm: str
    eps_text: str
    eps: float
    images: Annotated[int, Field(description="leading images that the store's attack covers")]
    store_value: Annotated[float, Field(description="robust accuracy by that attack")]
    attack: str
    evaluation: Annotated[str, Field(description="digest of its evaluation")]
    value: float
    low: float
    high: float
    broken_by_others: Annotated[int, Field(description="images that only other attacks of the store broke")]
    broken_by_examples: Annotated[int, Field(description="images that only checked adversarial images broke")]
    attributions: list[AttributionModel]


class ModelDetailModel(ModelModel):
    """Answer of /api/v1/models/{name}."""

    card: dict[str, Any]
    scores: list[dict[str, Any]]
    evaluations: list[dict[str, Any]]
    flags: Annotated[dict[str, str], Field(description="doubts about the model's numbers, each with its evidence")]
    best_known: list[BestKnownModel]


class GridValueModel(BaseModel):
    """An accuracy, a fraction in 0..1, with its 95 % interval and the images that it rests on."""

    value: float
    low: float
    high: float
    n: int


class FamilyModel(BaseModel):
    """A family of corruptions."""

    name: str
    corruptions: list[str]
    mean: Annotated[GridValueModel | None, Field(description="over corruptions and severities; bootstrap over images")]


class CorruptionModel(BaseModel):
    """One corruption: a row of the heat map, a curve over severity."""

    name: str
    family: Annotated[str | None, Field(description="null for the extra corruptions, which enter no mean")]
    mean: Annotated[float | None, Field(description="over severities")]
    cells: Annotated[list[GridValueModel | None], Field(description="one a severity; Wilson's interval")]


class GridModel(BaseModel):
    """One model under one suite on one data set. A mean of which any part is missing is null."""

    suite: str
    component: Annotated[str, Field(description="what made the images, without its running number")]
    versions: Annotated[list[str], Field(description="versions of the component")]
    current: Annotated[bool, Field(description="false if made by a version that the service no longer has")]
    seed: int
    dataset: str
    split: str
    dataset_digest: str
    images: Annotated[int, Field(description="leading images that all cells which enter means share")]
    dataset_images: int
    complete: Annotated[bool, Field(description="every corruption of the families at every severity")]
    severities: list[int]
    clean: GridValueModel | None
    overall: GridValueModel | None
    families: list[FamilyModel]
    severity_means: Annotated[list[float | None], Field(description="over the corruptions of all families")]
    corruptions: list[CorruptionModel]


class GridsModel(BaseModel):
    """Answer of /api/v1/models/{name}/corruptions."""

    model: str
    grids: list[GridModel]


class ThreatModel(BaseModel):
    """Robust accuracy in one threat model under one attack."""

    group: Annotated[str, Field(description="name of the evaluation in its benchmark")]
    attack: Annotated[str, Field(description="with the attack that it runs inside, if any: `bisect (fast)`")]
    norm: str
    eps: float
    eps_text: Annotated[str, Field(description="the radius as people write it")]
    bound: Annotated[str, Field(description="`exact`, or `upper`: to be shown with <=")]
    images: Annotated[int, Field(description="images of the full range")]
    robust: GridValueModel
    evaluation: Annotated[str, Field(description="digest of the evaluation")]


class UnionModel(BaseModel):
    """Images that are right under several threat models at once, image by image."""

    column: Annotated[str | None, Field(description="the board's column that shows it, if any")]
    members: list[str]
    bound: Annotated[str, Field(description="`upper` if that of any member is")]
    images: Annotated[int, Field(description="images of the range that all members share")]
    robust: GridValueModel


class CurvePointModel(GridValueModel):
    """Robust accuracy at one radius."""

    eps: Annotated[float, Field(description="0 is clean")]


class RobustnessCurveModel(BaseModel):
    """Robust accuracy at many radii from one evaluation."""

    group: str
    attack: str
    norm: str
    bound: str
    images: int
    points: Annotated[list[CurvePointModel], Field(description="by eps; between two radii the first one's counts")]
    evaluation: str


class BoardRobustnessModel(BaseModel):
    """What one board's attacks say of a model."""

    benchmark: Annotated[str, Field(description="with its version")]
    dataset: str
    dataset_digest: str
    clean: GridValueModel | None
    threats: list[ThreatModel]
    unions: list[UnionModel]
    curves: list[RobustnessCurveModel]


class RobustnessModel(BaseModel):
    """Answer of /api/v1/models/{name}/robustness."""

    model: str
    boards: list[BoardRobustnessModel]


class SpreadModel(BaseModel):
    """Percentiles of the values behind a number."""

    p05: float
    p25: float
    p50: float
    p75: float
    p95: float
    n: Annotated[int, Field(description="values that count; see `parts`")]


class QuantityModel(BaseModel):
    """One number of a layer or of the network."""

    mean: float
    spread: SpreadModel | None


class MeasuredLayerModel(BaseModel):
    """One layer."""

    name: str
    values: dict[str, QuantityModel]


class ConditionModel(BaseModel):
    """One corruption at one severity: means over layers."""

    name: str
    values: dict[str, float]


class MeasureModel(BaseModel):
    """One measure of a model under one set of options on one data set."""

    measure: str
    version: str
    current: Annotated[bool, Field(description="false if the service would measure it in another version")]
    options: dict[str, str | int | float | bool]
    parts: Annotated[str, Field(description="what spreads are over: units, conditions or images")]
    dataset: str
    split: str
    dataset_digest: str
    images: int
    dataset_images: int
    evaluation: Annotated[str, Field(description="digest of the evaluation")]
    network: dict[str, QuantityModel]
    layers: Annotated[list[MeasuredLayerModel], Field(description="in forward order, classifier excluded")]
    conditions: list[ConditionModel]


class MeasuresModel(BaseModel):
    """Answer of /api/v1/models/{name}/measures."""

    model: str
    measures: list[MeasureModel]


class ErrorBody(BaseModel):
    """What went wrong."""

    type: Annotated[str, Field(description="a stable name, such as UnknownName or InvalidArgument")]
    message: Annotated[str, Field(description="one line that names the argument, the value and what would be right")]


class ErrorEnvelope(BaseModel):
    """Every failed answer under /api, /healthz, /readyz and /metrics."""

    error: ErrorBody
