"""What an endpoint has done since the workspace started, in Prometheus' text format."""

from bisect import bisect_left
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

BUCKETS_MS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000, 30_000, 60_000)
LABEL = "endpoint_name"


@dataclass
class Metrics:
    """The counts of one endpoint."""

    endpoint: str
    requests: int = 0
    client_errors: int = 0
    server_errors: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    milliseconds: float = 0
    buckets: list[int] = field(default_factory=lambda: [0] * (len(BUCKETS_MS) + 1))

    def count(self, status: int, milliseconds: float, input_tokens: int, output_tokens: int) -> None:
        """Count an answered request."""
        self.requests += 1
        self.client_errors += 400 <= status < 500
        self.server_errors += status >= 500
        self.input_tokens += input_tokens
        self.output_tokens += output_tokens
        self.milliseconds += milliseconds
        self.buckets[bisect_left(BUCKETS_MS, milliseconds)] += 1

    def text(self, process_ids: Iterable[int]) -> bytes:
        """The counts, and the load of the processes behind the endpoint."""
        registry = CollectorRegistry()
        registry.register(_Collector(self, process_ids))
        return generate_latest(registry)


class _Collector:
    def __init__(self, metrics: Metrics, process_ids: Iterable[int]):
        self._metrics = metrics
        self._process_ids = process_ids

    def collect(self) -> Iterator[Metric]:
        found = self._metrics
        for name, what, value in (
            ("request_count", "Requests", found.requests),
            ("request_4xx_count", "Requests answered 4xx", found.client_errors),
            ("request_5xx_count", "Requests answered 5xx", found.server_errors),
            ("input_token_count", "Tokens read", found.input_tokens),
            ("output_token_count", "Tokens generated", found.output_tokens),
        ):
            counter = CounterMetricFamily(name, what, labels=[LABEL])
            counter.add_metric([found.endpoint], value)
            yield counter
        bounds, total = [], 0
        for bound, count in zip([*map(str, BUCKETS_MS), "+Inf"], found.buckets, strict=True):
            total += count
            bounds.append((bound, total))
        latency = HistogramMetricFamily("request_latency_ms", "Time until the whole answer was there", labels=[LABEL])
        latency.add_metric([found.endpoint], buckets=bounds, sum_value=found.milliseconds)
        yield latency
        for name, what, load in self._load():
            gauge = GaugeMetricFamily(name, what, labels=[LABEL])
            gauge.add_metric([found.endpoint], load)
            yield gauge

    def _load(self) -> Iterator[tuple[str, str, float]]:
        import psutil  # needed by a scrape only

        processes = []
        for process_id in self._process_ids:
            if psutil.pid_exists(process_id):
                processes.append(psutil.Process(process_id))
        cpu = sum(process.cpu_percent(0.1) for process in processes)
        yield "cpu_usage_percentage", "CPU of the endpoint's processes, of one core", cpu
        memory = sum(process.memory_percent() for process in processes)
        yield "mem_usage_percentage", "Memory of the endpoint's processes, of the machine's", memory
