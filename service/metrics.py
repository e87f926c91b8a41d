"""What the service counts, for Prometheus: GET /metrics."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from flask import Flask, Response
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from captioner.captions import Judged, Outcome
from captioner.decoding.options import DecodingOptions
from service.batching import BatchReport, Bounds
from service.captioning import Captioning, Engine, Picture
from service.settings import Settings

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
BATCHES = (1, 2, 4, 8, 16, 32, 64)
# Why a request was turned away: those of `batching.Shed`, its key's rate, and no room for its body.
SHED = ("full", "expired", "gone", "stopping", "rate", "held")


class Metrics:
    """The counts of one process. Each has its heading in docs/service.md.

    They outlive a reload of the model: the applications before and after it share one `Metrics`.
    """

    def __init__(self) -> None:
        # How many pictures wait or are in the model; whoever keeps the queue puts its own callback here.
        self.depth: Callable[[], float] = lambda: 0
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        self._requests = Counter(
            "captioner_requests",
            "Requests answered, by route, method and status.",
            ["route", "method", "status"],
            registry=registry,
        )
        self._seconds = Histogram(
            "captioner_request_seconds",
            "From the whole request to its answer, in seconds.",
            ["route", "method"],
            buckets=SECONDS,
            registry=registry,
        )
        Gauge("captioner_queue_depth", "Pictures that wait or are in the model.", registry=registry).set_function(
            lambda: self.depth()
        )
        self._batches = Histogram(
            "captioner_batch_size", "Pictures captioned together.", buckets=BATCHES, registry=registry
        )
        self._model_seconds = Histogram(
            "captioner_batch_seconds", "What a batch took in the model.", buckets=SECONDS, registry=registry
        )
        self._waited = Histogram(
            "captioner_queue_seconds",
            "From a picture's arrival to its batch, reading included.",
            buckets=SECONDS,
            registry=registry,
        )
        self._failures = Counter(
            "captioner_reading_failures", "Pictures that could not be used, by error.", ["error"], registry=registry
        )
        self._shed = Counter("captioner_shed", "Requests turned away, by reason.", ["reason"], registry=registry)
        for reason in SHED:
            self._shed.labels(reason)  # so that a first one is a step from 0, which alerts see
        self._model = Gauge(
            "captioner_model_info", "The model in use: always 1.", ["name", "digest"], registry=registry
        )
        self._reloads = Counter("captioner_reloads", "Reloads of the model, by result.", ["result"], registry=registry)

    def answered(self, route: str, method: str, status: int, seconds: float) -> None:
        """One request was answered. `route` is a rule of the application or `unmatched`, never what was asked for."""
        self._requests.labels(route, method, str(status)).inc()
        self._seconds.labels(route, method).observe(seconds)

    def shed(self, reason: str) -> None:
        """One request was turned away, for one of the reasons in `SHED`."""
        self._shed.labels(reason).inc()

    def batch(self, report: BatchReport) -> None:
        """Some pictures went through the model together."""
        self._batches.observe(len(report.waited_seconds))
        self._model_seconds.observe(report.seconds)
        for seconds in report.waited_seconds:
            self._waited.observe(seconds)

    def read(self, outcomes: Iterable[Outcome | Judged]) -> None:
        """Count those of the `outcomes` that failed."""
        for outcome in outcomes:
            if outcome.error is not None:
                self._failures.labels(type(outcome.error).__name__).inc()

    def serves(self, model: str) -> None:
        """The `model` (name@digest) that is in use from now on."""
        name, _, digest = model.partition("@")
        self._model.clear()
        self._model.labels(name, digest).set(1)

    def reloaded(self, result: str) -> None:
        """A reload ended: `done` or `failed`."""
        self._reloads.labels(result).inc()

    def register(self, app: Flask) -> None:
        """GET /metrics of `app`, in Prometheus' text format."""

        def show() -> Response:
            return Response(generate_latest(self.registry), content_type=CONTENT_TYPE_LATEST)

        app.add_url_rule("/metrics", "metrics", show)


class MeasuredCaptioning(Captioning):
    """A `Captioning` that tells the metrics what it does."""

    def __init__(self, engine: Engine, settings: Settings, metrics: Metrics) -> None:
        bounds = Bounds(
            max_pictures=settings.max_queued_pictures,
            max_batch=settings.max_batch,
            deadline_seconds=settings.deadline_seconds,
        )
        super().__init__(engine, settings, bounds=bounds, on_batch=metrics.batch, on_shed=metrics.shed)
        self._metrics = metrics
        metrics.depth = lambda: self.depth
        metrics.serves(engine.model)

    def outcomes(self, pictures: Sequence[Picture], options: DecodingOptions) -> list[Outcome]:
        """As the parent; those that failed are counted."""
        outcomes = super().outcomes(pictures, options)
        self._metrics.read(outcomes)
        return outcomes

    def judged(self, pictures: Sequence[Picture], sentences: Sequence[str]) -> list[Judged]:
        """As the parent; those that failed are counted."""
        judged = super().judged(pictures, sentences)
        self._metrics.read(judged)
        return judged
