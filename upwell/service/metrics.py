"""Prometheus figures of one server process."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from starlette.types import Scope

from upwell.regulator.trust.judge import FROZEN, NARROWED
from upwell.service.node import Node

HOT = ("/v1/recommend", "/v1/interactions")
"""Routes that are not FastAPI's, and so leave no trace in the scope."""
BUCKETS_S = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
GAUGES = {
    "upwell_users_in_memory": "Users in memory",
    "upwell_contents_live": "Live contents",
    "upwell_heated_share": "Heated impressions over impressions of this server, this hour",
    "upwell_throttle": "Factor on exploration and discretionary heating",
    "upwell_platform_ctr": "Click rate of the platform as the agents take it",
    "upwell_log_unsaved_seconds": "How far the store is behind what was acknowledged",
    "upwell_store_down": "1 while the store does not answer",
    "upwell_ticks": "Slow ticks so far",
    "upwell_decided": "Slates decided by this server so far",
    "upwell_compute_seconds": "Time that deciding and logging them took",
    "upwell_trust_narrowed": "Contents that are heated to trusted users only, or not at all",
    "upwell_trust_frozen": "Contents that are judged to cheat and get no heating",
    "upwell_trust_doubted_users": "Users who are judged to cheat",
    "upwell_trust_ring_creators": "Creators in rings",
    "upwell_tfserving_answered": "Batches whose networks TensorFlow Serving worked out",
    "upwell_tfserving_fallbacks": "Batches whose networks were worked out here in its place",
}


class Metrics:
    """Counts what the routes do; gauges are read from the node when asked for."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "upwell_requests", "Requests by route and status", ("route", "status"), registry=self._registry
        )
        self._seconds = Histogram(
            "upwell_request_seconds", "Time in the service", ("route",), buckets=BUCKETS_S, registry=self._registry
        )
        self._failures = Gauge("upwell_failures", "Failures by part", ("part",), registry=self._registry)
        self._gauges = {name: Gauge(name, text, registry=self._registry) for name, text in GAUGES.items()}

    def request(self, scope: Scope, status: int, seconds: float) -> None:
        """One request, by its route and never by what a caller wrote into its path."""
        plain = scope["path"] if scope["path"] in HOT else "none"
        route = getattr(scope.get("route"), "path", None) or plain
        self._requests.labels(route, status).inc()
        self._seconds.labels(route).observe(seconds)

    def text(self, node: Node) -> bytes:
        """All figures in Prometheus's text format."""
        live = node.live
        served = [] if live.learned is None or live.learned.served is None else live.learned.served.values()
        values = {
            "upwell_users_in_memory": len(live.users.rows),
            "upwell_contents_live": len(live.contents.rows),
            "upwell_heated_share": live.window_heated / max(live.window_shown, 1),
            "upwell_throttle": live.throttle,
            "upwell_platform_ctr": live.platform_ctr,
            "upwell_log_unsaved_seconds": node.saver.unsaved_s(),
            "upwell_store_down": float(node.store_down),
            "upwell_ticks": node.regulator.number,
            "upwell_decided": node.batcher.decided,
            "upwell_compute_seconds": node.batcher.compute_s,
            "upwell_trust_narrowed": int((live.contents.low >= NARROWED).sum()),
            "upwell_trust_frozen": int((live.contents.low >= FROZEN).sum()),
            "upwell_trust_doubted_users": len(node.trust.told.doubted),
            "upwell_trust_ring_creators": len(node.trust.told.ring),
            "upwell_tfserving_answered": sum(one.answered for one in served),
            "upwell_tfserving_fallbacks": sum(one.fallbacks for one in served),
        }
        for name, value in values.items():
            self._gauges[name].set(value)
        self._failures.labels("tfserving").set(sum(one.failed for one in served))
        for part, count in live.failures.items():
            self._failures.labels(part).set(count)
        return generate_latest(self._registry)
