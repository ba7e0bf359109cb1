"""Figures of a process in plain Python: counters, gauges and histograms, their snapshots, and the sum of those.

Here: how figures are kept and added up. Which there are is `core.metric_families`; how they are written for
Prometheus is `app.metrics_page`. No locks: all of it belongs to the thread of the edge's loop, and a figure
costs its users one attribute and no call.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeVar

Labels = tuple[str, ...]
Row = list[Any]
"""Label values and a number; or label values, the counts of a histogram's buckets and the sum."""
Snapshot = dict[str, list[Row]]
"""Rows by family. JSON holds it."""


@dataclass(frozen=True)
class Family:
    """One metric, whatever its labels.

    Attributes:
        name: with its unit, and without the `_total` of a counter.
        kind: of Prometheus.
        meaning: one line for a person.
        labels: their names. Their values are of closed sets, or are configured: none comes from a client.
        bounds: upper bounds of a histogram's buckets, the last of which, without a bound, goes unsaid.
        merging: what several processes' values are together.
    """

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    meaning: str
    labels: tuple[str, ...] = ()
    bounds: tuple[float, ...] = ()
    merging: Literal["sum", "min", "max"] = "sum"


class Value:
    """A counter or gauge: add to `number`, or set it."""

    __slots__ = ("number",)

    def __init__(self) -> None:
        self.number: float = 0

    def as_row(self, labels: Labels) -> Row:
        """Its row in a snapshot."""
        return [list(labels), self.number]


class Histogram:
    """How often values fell into each bucket, and their sum.

    Args:
        bounds: as in `Family`.
    """

    __slots__ = ("_bounds", "counts", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    @property
    def count(self) -> int:
        """How many values were counted."""
        return sum(self.counts)

    def observe(self, value: float) -> None:
        """Count a value; one that is equal to a bound is below it."""
        self.counts[bisect_left(self._bounds, value)] += 1
        self.total += value

    def as_row(self, labels: Labels) -> Row:
        """Its row in a snapshot."""
        return [list(labels), self.counts.copy(), self.total]


Figure = TypeVar("Figure", Value, Histogram)


class _ByLabels(ABC, Generic[Figure]):
    """The figures of a family, by labels. Keep what `of` returns where it is used often."""

    def __init__(self, family: Family) -> None:
        self.family = family
        self._by_labels: dict[Labels, Figure] = {}

    def of(self, *labels: str) -> Figure:
        """The figure for these labels, in the family's order."""
        figure = self._by_labels.get(labels)
        if figure is None:
            figure = self._by_labels[labels] = self._make()
        return figure

    def as_rows(self) -> list[Row]:
        """Their rows in a snapshot."""
        return [figure.as_row(labels) for labels, figure in self._by_labels.items()]

    @abstractmethod
    def _make(self) -> Figure:
        """A new one."""


class Values(_ByLabels[Value]):
    """The counters or gauges of a family."""

    def add(self, *labels: str, amount: float = 1) -> None:
        """Add to one."""
        self.of(*labels).number += amount

    def zero(self) -> None:
        """Set them all to 0. They stay: of a series that ends, graphs show the last value for minutes."""
        for value in self._by_labels.values():
            value.number = 0

    def _make(self) -> Value:
        return Value()


class Histograms(_ByLabels[Histogram]):
    """The histograms of a family."""

    def _make(self) -> Histogram:
        return Histogram(self.family.bounds)


class Registry:
    """Families together. Subclassed with the families as attributes."""

    def __init__(self) -> None:
        self._families: list[Values | Histograms] = []
        self._refreshers: list[Callable[[], None]] = []

    def refresh_with(self, refresher: Callable[[], None]) -> None:
        """Call before each snapshot: sets the gauges that nobody keeps up to date in between."""
        self._refreshers.append(refresher)

    def snapshot(self) -> Snapshot:
        """All figures at this moment."""
        for refresher in self._refreshers:
            refresher()
        return {values.family.name: values.as_rows() for values in self._families}

    def merge(self, snapshots: Iterable[Snapshot]) -> Snapshot:
        """What several processes' snapshots are together.

        What this process does not know is left out: another may be of a later version.
        """
        families = {values.family.name: values.family for values in self._families}
        merged: dict[str, dict[Labels, Row]] = {name: {} for name in families}
        for snapshot in snapshots:
            for name in merged.keys() & snapshot.keys():
                family = families[name]
                for row in snapshot[name]:
                    if _fits(family, row):
                        labels = tuple(row[0])
                        known = merged[name].get(labels)
                        merged[name][labels] = row if known is None else _merge_rows(known, row, family.merging)
        return {name: list(rows.values()) for name, rows in merged.items()}

    def keep_totals(self, snapshot: Snapshot) -> Snapshot:
        """What stays of a snapshot whose process has ended: counters and histograms, and no gauges."""
        names = {values.family.name for values in self._families if values.family.kind != "gauge"}
        return {name: rows for name, rows in snapshot.items() if name in names}

    @property
    def families(self) -> Sequence[Family]:
        """What there is, in order."""
        return [values.family for values in self._families]

    def _counter(self, name: str, meaning: str, *labels: str, known: Iterable[Labels] = ()) -> Values:
        """A family of counters.

        Those without labels, and those whose labels are known, are there from the beginning: the first count is seen
        as an increase, which from nothing to something is none.
        """
        values = self._values(Family(name, "counter", meaning, labels))
        for each in known if labels else [()]:
            values.of(*each)
        return values

    def _gauge(self, name: str, meaning: str, *labels: str, merging: Literal["sum", "min", "max"] = "sum") -> Values:
        return self._values(Family(name, "gauge", meaning, labels, merging=merging))

    def _histogram(self, name: str, meaning: str, *labels: str, bounds: tuple[float, ...]) -> Histograms:
        histograms = Histograms(Family(name, "histogram", meaning, labels, bounds))
        self._families.append(histograms)
        return histograms

    def _values(self, family: Family) -> Values:
        values = Values(family)
        self._families.append(values)
        return values


_COMBINATIONS: Mapping[str, Callable[[list[float]], float]] = {"sum": sum, "min": min, "max": max}


def _fits(family: Family, row: Row) -> bool:
    if len(row[0]) != len(family.labels):
        return False
    if family.kind == "histogram":
        return len(row) == 3 and len(row[1]) == len(family.bounds) + 1
    return len(row) == 2


def _merge_rows(one: Row, other: Row, merging: str) -> Row:
    labels = one[0]
    if len(one) == 2:
        return [labels, _COMBINATIONS[merging]([one[1], other[1]])]
    return [labels, [mine + theirs for mine, theirs in zip(one[1], other[1], strict=True)], one[2] + other[2]]
