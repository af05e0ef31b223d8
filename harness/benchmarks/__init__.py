"""Benchmarks: named, versioned lists of evaluations on a fixed range of images; they define a board's columns."""

from __future__ import annotations

from harness.benchmarks.loader import (
    Benchmark,
    ColumnSpec,
    Group,
    Request,
    benchmark_names,
    load_benchmark,
    parse_benchmark,
)

__all__ = ["Benchmark", "ColumnSpec", "Group", "Request", "benchmark_names", "load_benchmark", "parse_benchmark"]
