"""What a study is: which models it needs on which board, and how the board becomes a report."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from harness.storage.queries import Reader
from models_zoo.registry import bundled_cards


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """A study's findings."""

    markdown: str
    """The text; refers to the pictures by `NAME.svg` where it was asked to."""
    pictures: Mapping[str, str]
    """File name -> SVG."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Study:
    """A published finding that can be tested again."""

    name: str
    title: str
    description: str
    citation: str
    benchmark: str
    """With its version: a report must not change under a newer one."""
    dataset: str
    """The benchmark's own data set."""
    recipes: tuple[str, ...]
    """Of the models that take part."""
    architectures: Mapping[str, str]
    """Data set -> network of the bundled models that take part."""
    write: Callable[[Reader, str, str | None], Report]
    """Store, data set, and the stem of pictures' names or None without pictures, to the report.

    Raises:
        RequestError: the board holds too few models of the study.
    """

    def models(self, dataset: str | None = None) -> tuple[str, ...]:
        """Names of the bundled models that take part, sorted; none where none is bundled for the data set."""
        wanted = dataset or self.dataset
        return tuple(
            name
            for name, card in bundled_cards().items()
            if card.dataset == wanted
            and card.recipe in self.recipes
            and card.architecture == self.architectures.get(wanted, card.architecture)
        )
