"""Measures of a model, made up and known to the last digit."""

from __future__ import annotations

from harness.measure_view import MeasureTable, Quantity, Spread

LAYERS = ("stem.relu", "layer1.0.relu1", "<b>layer2</b>&\"'")


def spread(middle: float, n: int = 16) -> Spread:
    """A distribution around a value."""
    return Spread(p05=middle / 4, p25=middle / 2, p50=middle, p75=1.5 * middle, p95=1.9 * middle, n=n)


def table(model: str, measure: str, values: dict[str, float], **changed: object) -> MeasureTable:
    """A table whose layers hold the values times 1, 2 and 3."""
    fields: dict[str, object] = {
        "model": model,
        "measure": measure,
        "version": "1",
        "current": True,
        "options": {},
        "parts": "units",
        "dataset": "digits",
        "split": "test",
        "dataset_digest": "d" * 64,
        "images": 500,
        "dataset_images": 500,
        "evaluation": "ab" * 32,
        "network": {name: Quantity(mean=2 * value, spread=None) for name, value in values.items()},
        "layers": {
            layer: {
                name: Quantity(mean=factor * value, spread=spread(factor * value)) for name, value in values.items()
            }
            for factor, layer in enumerate(LAYERS, start=1)
        },
        "conditions": {},
    }
    return MeasureTable(**{**fields, **changed})  # type: ignore[arg-type]


def measured(model: str) -> tuple[MeasureTable, ...]:
    """Five measures: of units, of a change under corruptions and under an attack, and of the logits."""
    change = {"change_fraction_95": 0.2, "clean_fraction_95": 0.1}
    logits = {"margin": Quantity(mean=4.5, spread=spread(4.5, 500)), "margin_p50": Quantity(mean=4.25, spread=None)}
    return (
        table(model, "selectivity", {"selectivity_index": 0.15, "dead_units": 0.0}),
        table(model, "selectivity_floor", {"floor": 0.03, "above_floor": 0.12}, options={"shuffles": 20, "seed": 0}),
        table(
            model,
            "dimensionality_corruptions",
            change,
            options={"suite": "cifar-10-c", "corruptions": "fog,snow", "severities": "3", "seed": 0},
            parts="conditions",
            conditions={"fog/3": {"change_fraction_95": 0.3}, "snow/3": {"change_fraction_95": 0.5}},
        ),
        table(
            model,
            "dimensionality_attack",
            {name: 1.2 * value for name, value in change.items()},
            options={"norm": "Linf", "eps": "4/255", "steps": 40},
            version="0",
            current=False,
            images=100,
        ),
        table(model, "margin", {}, network=logits, layers={}, parts="images"),
    )
