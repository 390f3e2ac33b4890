"""Numbers that a node shows to Prometheus, made from the statistics of its parts.

    CONSENSUS = Shown(counters={"votes"}, labels={"refused": "code"})

    def metrics(self) -> Iterator[Metric]:
        yield from from_statistics("outcry_mempool", self.mempool.statistics())
        yield from from_statistics("outcry_consensus", self.replica.statistics(), CONSENSUS)

A statistics dataclass becomes one gauge per number; a mapping in it becomes one family with the
key as a label; a dataclass in it is walked with its field's name in between. What `Shown` calls a
counter is one, and its name ends in `_total`. Milliseconds become seconds, which Prometheus
expects: `flush_ms_max` is shown as `flush_max_seconds`.
"""

import dataclasses
import re
from collections.abc import Iterable, Iterator, Mapping, Set
from functools import cache
from typing import Final, NamedTuple

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.registry import Collector

METRICS_CONTENT_TYPE: Final = CONTENT_TYPE_PLAIN_0_0_4
LABEL_VALUES_MAX: Final = 256  # further keys of one mapping are left out
_KEY: Final = "key"
_TOTAL: Final = "total"
_MS_PER_S: Final = 1_000


class Metric(NamedTuple):
    """One number with its name, what it means, and its labels; `grows` makes it a counter."""

    name: str
    help: str
    value: float
    labels: Mapping[str, str] = {}
    grows: bool = False


@dataclasses.dataclass(frozen=True)
class Shown:
    """How the fields of one statistics dataclass, and of those in it, are shown.

    counters   fields that count from the start of the process and never fall
    labels     by field that is a mapping: the name of the label that its keys become
    hidden     fields that are left out, because they are shown in another way
    """

    counters: Set[str] = frozenset()
    labels: Mapping[str, str] = dataclasses.field(default_factory=dict)
    hidden: Set[str] = frozenset()


_PLAIN: Final = Shown()


def from_statistics(prefix: str, statistics: object, shown: Shown = _PLAIN) -> Iterator[Metric]:
    """A metric for every number in a statistics dataclass; None and texts are left out."""
    if not dataclasses.is_dataclass(statistics):
        raise TypeError(f"{type(statistics).__name__} is not a statistics dataclass")
    about = type(statistics).__doc__ or ""
    for field in dataclasses.fields(statistics):
        value = getattr(statistics, field.name)
        if field.name in shown.hidden:
            continue
        if dataclasses.is_dataclass(value):
            yield from from_statistics(f"{prefix}_{field.name}", value, shown)
            continue
        grows = field.name in shown.counters
        name, scale = _named(prefix, field.name, grows=grows)
        told = _told(about, field.name)
        if isinstance(value, Mapping):
            label = shown.labels.get(field.name, _KEY)
            for key, number in list(value.items())[:LABEL_VALUES_MAX]:
                if isinstance(number, int | float):
                    yield Metric(name, told, number / scale, {label: str(key)}, grows)
        elif isinstance(value, int | float):
            yield Metric(name, told, value / scale, grows=grows)


@cache
def _named(prefix: str, field: str, *, grows: bool) -> tuple[str, int]:
    """The metric's name after Prometheus' conventions, and by what its values are divided."""
    words = field.split("_")
    scale = 1
    if grows and words[-1] == _TOTAL:
        words.pop()
    if "ms" in words:
        words.remove("ms")
        words.append("seconds")
        scale = _MS_PER_S
    if grows:
        words.append(_TOTAL)
    return "_".join([prefix, *words]), scale


@cache
def _told(about: str, field: str) -> str:
    """What a dataclass' docstring says of a field, or else of all of them."""
    row = re.search(rf"^ *{field}(?::|  ) *(\S.*)$", about, re.MULTILINE)
    return row[1] if row else about.strip().split("\n")[0]


class _Collected(Collector):
    def __init__(self, metrics: Iterable[Metric]) -> None:
        self._metrics = metrics

    def collect(self) -> Iterator[GaugeMetricFamily | CounterMetricFamily]:
        families: dict[str, GaugeMetricFamily | CounterMetricFamily] = {}
        for metric in self._metrics:
            family = families.get(metric.name)
            if family is None:
                kind = CounterMetricFamily if metric.grows else GaugeMetricFamily
                family = kind(metric.name, metric.help, labels=list(metric.labels))
                families[metric.name] = family
            family.add_metric(list(metric.labels.values()), metric.value)
        return iter(families.values())


def exposition(metrics: Iterable[Metric]) -> bytes:
    """The metrics in Prometheus' text format, of the type `METRICS_CONTENT_TYPE`."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Collected(list(metrics)))
    return generate_latest(registry)
