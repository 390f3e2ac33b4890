"""Numbers that a node shows to Prometheus, made from the statistics of its parts.

    def metrics(self) -> Iterator[Metric]:
        yield from from_statistics("outcry_mempool", self.mempool.statistics())

A statistics dataclass becomes one gauge per number; a mapping in it becomes one gauge with the
key as a label; a dataclass in it is walked with its field's name in between.
"""

import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from typing import Final, NamedTuple

from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.registry import Collector

METRICS_CONTENT_TYPE: Final = CONTENT_TYPE_PLAIN_0_0_4
LABEL_VALUES_MAX: Final = 256  # further keys of one mapping are left out
_KEY: Final = "key"


class Metric(NamedTuple):
    """One number with its name, what it means, and its labels."""

    name: str
    help: str
    value: float
    labels: Mapping[str, str] = {}


def from_statistics(prefix: str, statistics: object) -> Iterator[Metric]:
    """A metric for every number in a statistics dataclass; None and texts are left out."""
    if not dataclasses.is_dataclass(statistics):
        raise TypeError(f"{type(statistics).__name__} is not a statistics dataclass")
    about = (type(statistics).__doc__ or "").strip().split("\n")[0]
    for field in dataclasses.fields(statistics):
        name, value = f"{prefix}_{field.name}", getattr(statistics, field.name)
        if dataclasses.is_dataclass(value):
            yield from from_statistics(name, value)
        elif isinstance(value, Mapping):
            for key, number in list(value.items())[:LABEL_VALUES_MAX]:
                if isinstance(number, int | float):
                    yield Metric(name, about, float(number), {_KEY: str(key)})
        elif isinstance(value, int | float):
            yield Metric(name, about, float(value))


class _Collected(Collector):
    def __init__(self, metrics: Iterable[Metric]) -> None:
        self._metrics = metrics

    def collect(self) -> Iterator[GaugeMetricFamily]:
        families: dict[str, GaugeMetricFamily] = {}
        for metric in self._metrics:
            family = families.get(metric.name)
            if family is None:
                family = families[metric.name] = GaugeMetricFamily(
                    metric.name, metric.help, labels=list(metric.labels)
                )
            family.add_metric(list(metric.labels.values()), metric.value)
        return iter(families.values())


def exposition(metrics: Iterable[Metric]) -> bytes:
    """The metrics in Prometheus' text format, of the type `METRICS_CONTENT_TYPE`."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Collected(list(metrics)))
    return generate_latest(registry)
