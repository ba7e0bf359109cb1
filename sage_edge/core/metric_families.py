"""Every metric of the edge, once: its name, meaning, labels and buckets. docs/metrics.md says how to read them.

Names follow Prometheus: `sage_edge_`, the unit, and `_total`, which the writer adds to counters. Label values are
OpenTelemetry's where it has some (HTTP semantic conventions: protocol versions as "1.1" and "2").
"""

from __future__ import annotations

from sage_edge.core.metrics import Registry

GENERATION_BOUNDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0)
"""Seconds: from a cached answer to a long generation."""
GAP_BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
"""Seconds between two events: from a thousand tokens a second to a generation that hangs."""
SHORT_BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Seconds that should be few: handshakes, and the end of what nobody waits for."""


AWAITED = ("head", "first_event")
"""What a request waits for of its answer; the second, where that is an event stream."""
CONNECTION_REFUSALS = ("limit", "client_limit", "no_resources")
"""Why a connection is not served."""
HANDSHAKE_FAILURES = (
    "timeout",
    "client_left",
    "no_protocol",
    "not_tls",
    "version",
    "no_shared_cipher",
    "client_certificate",
    "alert",
    "other",
)
"""Why a TLS handshake is not completed."""
LIMITS = ("streams", "buffered_bytes", "reset", "refusal", "ping", "settings", "priority", "empty", "window_update")
"""Of an HTTP/2 connection: the bounds of what is open and waits, and the budgets of frames."""
PROTOCOL_ERRORS = (
    ("proxy", "malformed_header"),
    ("proxy", "timeout"),
    ("websocket", "protocol_error"),
    ("websocket", "invalid_frame_payload_data"),
    ("websocket", "message_too_big"),
)
"""Protocols and kinds, where these are few. HTTP's are phrases of statuses, and HTTP/2's error codes."""


class Metrics(Registry):
    """The figures of one process."""

    def __init__(self) -> None:
        super().__init__()
        counter, gauge, histogram = self._counter, self._gauge, self._histogram
        self.requests = counter(
            "sage_edge_requests", "Requests and WebSockets that have ended.", "mount", "protocol", "method", "status"
        )
        self.requests_in_flight = gauge(
            "sage_edge_requests_in_flight", "Requests and WebSockets that have not ended.", "mount", "protocol"
        )
        self.received_bytes = counter(
            "sage_edge_request_body_bytes", "Bytes of bodies and WebSocket frames received.", "mount", "protocol"
        )
        self.sent_bytes = counter(
            "sage_edge_response_body_bytes",
            "Bytes of bodies and WebSocket frames sent, without what was still waiting when an answer was cut.",
            "mount",
            "protocol",
        )
        self.events = counter(
            "sage_edge_events", "Pieces of event streams that the application sent.", "mount", "protocol"
        )
        self.first_byte_seconds = histogram(
            "sage_edge_time_to_first_byte_seconds",
            "From the end of a request to the head of its answer, or until the wait was given up.",
            "mount",
            "protocol",
            bounds=GENERATION_BOUNDS,
        )
        self.first_event_seconds = histogram(
            "sage_edge_time_to_first_event_seconds",
            "From the end of a request to the first event of its answer, or until the wait was given up.",
            "mount",
            "protocol",
            bounds=GENERATION_BOUNDS,
        )
        self.waits_given_up = counter(
            "sage_edge_waits_given_up",
            "Waits for the head of an answer, or for its first event, that ended because the client left or the edge "
            "cut the answer.",
            "mount",
            "awaited",
        )
        self.longest_wait_seconds = gauge(
            "sage_edge_longest_wait_seconds",
            "How long the request that has waited longest for its answer has waited so far.",
            "mount",
            "awaited",
            merging="max",
        )
        self.between_events_seconds = histogram(
            "sage_edge_time_between_events_seconds",
            "From one event of an answer, or from when there was room for the next, to the next.",
            "mount",
            "protocol",
            bounds=GAP_BOUNDS,
        )
        self.client_wait_seconds = histogram(
            "sage_edge_client_wait_seconds",
            "How long an answer had to wait until its client read what was sent.",
            "mount",
            "protocol",
            bounds=GAP_BOUNDS,
        )
        self.answers_waiting_for_client = gauge(
            "sage_edge_answers_waiting_for_client",
            "Answers that are waiting for their client to read what was sent.",
            "mount",
            "protocol",
        )
        self.duration_seconds = histogram(
            "sage_edge_request_duration_seconds",
            "From a request's head to the end of its answer.",
            "mount",
            "protocol",
            bounds=GENERATION_BOUNDS,
        )
        self.cancellations = counter(
            "sage_edge_cancellations", "Requests that ended before their answer was complete.", "mount", "cause"
        )
        self.cancellation_seconds = histogram(
            "sage_edge_cancellation_seconds",
            "From when a request was cut (its client left, say) to the end of the application's work for it.",
            "mount",
            "cause",
            bounds=SHORT_BOUNDS,
        )
        self.loop_lag_seconds = gauge(
            "sage_edge_loop_lag_seconds",
            "Delay of the edge's own event loop: the longest of the last 30 seconds.",
            merging="max",
        )
        self.gateway_lag_seconds = gauge(
            "sage_edge_gateway_loop_lag_seconds",
            "How long a gateway's event loop took, or has taken so far, to answer: the longest of the last 30 seconds.",
            "mount",
            merging="max",
        )
        self.bridge_queue = gauge(
            "sage_edge_bridge_queue_calls", "Calls that wait for the other event loop.", "mount", "direction"
        )
        self.connections_open = gauge("sage_edge_connections_open", "Connections that are open.")
        self.connections_limit = gauge(
            "sage_edge_connections_limit", "Connections that may be open at once: --max-connections of each process."
        )
        self.connections_accepted = counter("sage_edge_connections_accepted", "Connections that were accepted.")
        self.connections_refused = counter(
            "sage_edge_connections_refused",
            "Connections that were not served.",
            "reason",
            known=[(reason,) for reason in CONNECTION_REFUSALS],
        )
        self.handshake_seconds = histogram(
            "sage_edge_tls_handshake_seconds", "TLS handshakes that were completed.", bounds=SHORT_BOUNDS
        )
        self.handshake_failures = counter(
            "sage_edge_tls_handshake_failures",
            "TLS handshakes that were not completed.",
            "reason",
            known=[(reason,) for reason in HANDSHAKE_FAILURES],
        )
        self.protocol_errors = counter(
            "sage_edge_protocol_errors",
            "Protocol errors of clients.",
            "protocol",
            "kind",
            known=PROTOCOL_ERRORS,
        )
        self.limits_exceeded = counter(
            "sage_edge_limits_exceeded",
            "Limits of an HTTP/2 connection that a client exceeded.",
            "kind",
            known=[(kind,) for kind in LIMITS],
        )
        self.certificate_reloads = counter(
            "sage_edge_certificate_reloads",
            "Changed certificates that were loaded, or refused.",
            "result",
            known=[("done",), ("refused",)],
        )
        self.phase = gauge("sage_edge_phase", "1 for the phase that the edge is in.", "phase")
        self.readiness_check = gauge(
            "sage_edge_readiness_check",
            "1 if a check of /readyz has passed, 0 if it has failed.",
            "check",
            merging="min",
        )
        self.workers_wanted = gauge("sage_edge_workers_wanted", "Workers that should be ready: --workers.")
        self.workers_ready = gauge("sage_edge_workers_ready", "Workers that are ready.")
        self.worker_failures = counter("sage_edge_worker_failures", "Workers that ended without having been asked to.")
        self.certificate_expiry_seconds = gauge(
            "sage_edge_certificate_expiry_timestamp_seconds",
            "When the certificate that is served expires, as a Unix time.",
            merging="min",
        )
        self.process_cpu_seconds = counter("sage_edge_process_cpu_seconds", "Processor time of the edge's processes.")
        self.process_resident_bytes = gauge(
            "sage_edge_process_resident_memory_bytes", "Resident memory of the edge's processes, summed."
        )
        self.process_open_fds = gauge(
            "sage_edge_process_open_fds", "Open file descriptors, of the process that has the most.", merging="max"
        )
        self.process_max_fds = gauge(
            "sage_edge_process_max_fds", "File descriptors that a process may have open.", merging="min"
        )
        self.dropped_log_lines = counter("sage_edge_log_lines_dropped", "Log lines that could not be written in time.")
        self.build_info = gauge(
            "sage_edge_build_info", "Always 1; the labels tell what runs.", "version", "python", merging="max"
        )
