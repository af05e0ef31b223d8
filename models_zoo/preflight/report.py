"""What the pre-flight hands back: one finding a check, in words and as facts."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from harness.types import Json

Level: TypeAlias = Literal["ok", "warning", "problem"]
Channels: TypeAlias = tuple[float, float, float]
"""One number a colour, of images in [0, 1]."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What one check found.

    Attributes:
        check: its name.
        level: "problem" where the model should not be added as it is.
        found: one line.
        advice: what to do about it; empty if nothing.
        details: further lines, such as the rows of a table.
        facts: the same for machines; finite plain data.
    """

    check: str
    level: Level
    found: str
    advice: str = ""
    details: tuple[str, ...] = ()
    facts: Mapping[str, Json] = field(default_factory=dict, hash=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """A pre-flight.

    Attributes:
        file: the checkpoint as it was named.
        architecture: what it was laid out for.
        dataset: whose test images it was tried on.
        images: how many of them, at the most.
        findings: in the order of the checks; a checkpoint that does not fit ends them early.
        seconds: wall time.
        add: the words of the command that adds the model; empty if it should not be added as it is.
    """

    file: str
    architecture: str
    dataset: str
    images: int
    findings: tuple[Finding, ...]
    seconds: float
    add: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether no check is a problem."""
        return not self.named("problem")

    def named(self, level: Level) -> tuple[str, ...]:
        """The checks with this level."""
        return tuple(finding.check for finding in self.findings if finding.level == level)

    def finding(self, check: str) -> Finding | None:
        """The finding of a check; None where it did not come to it."""
        return next((finding for finding in self.findings if finding.check == check), None)

    def to_dict(self) -> Json:
        """Plain data: the same facts as the text."""
        return {
            "file": self.file,
            "architecture": self.architecture,
            "dataset": self.dataset,
            "images": self.images,
            "passed": self.passed,
            "findings": [
                {
                    "check": finding.check,
                    "level": finding.level,
                    "found": finding.found,
                    "advice": finding.advice,
                    "details": list(finding.details),
                    "facts": dict(finding.facts),
                }
                for finding in self.findings
            ],
            "seconds": round(self.seconds, 3),
            "add": shlex.join(self.add) if self.add else None,
        }


def share(right: int, n: int) -> str:
    """An accuracy as boards write it."""
    return f"{right / n:.3f} ({right} of {n})"
