"""`/health`, `/health/ready` and `/metrics`."""

from __future__ import annotations

from prometheus_client import CONTENT_TYPE_LATEST
from starlette.responses import JSONResponse, Response

from protocol.http_messages import RETRY_AFTER_SECONDS, Health, Readiness
from transport.app_context import AppContext


def health_answer(context: AppContext) -> Response:
    """Answer `GET /health`: 200 only while the engine is ready."""
    admission = context.admission
    answer = Health(
        status=admission.status,
        backend=context.lifecycle.backend.name,
        sessions=admission.sessions,
        max_sessions=admission.max_sessions,
    )
    ok = answer.status == "ok"
    headers = None if ok else {"Retry-After": str(RETRY_AFTER_SECONDS)}
    return JSONResponse(answer.model_dump(), 200 if ok else 503, headers)


def readiness_answer(context: AppContext) -> Response:
    """Answer `GET /health/ready`: 200 only while a new session would be admitted."""
    admission = context.admission
    answer = Readiness(
        status=admission.readiness,
        sessions=admission.sessions,
        max_sessions=admission.max_sessions,
        seconds_behind=round(admission.seconds_behind, 3),
    )
    ready = answer.status == "ready"
    headers = None if ready else {"Retry-After": str(RETRY_AFTER_SECONDS)}
    return JSONResponse(answer.model_dump(), 200 if ready else 503, headers)


def metrics_answer(context: AppContext) -> Response:
    """Answer `GET /metrics` in the text format of Prometheus."""
    return Response(context.metrics.render(), media_type=CONTENT_TYPE_LATEST)
