"""The gRPC health check. Source: https://github.com/grpc/grpc/blob/master/doc/health-checking.md"""

from __future__ import annotations

from functools import cache

from tiphys.kubelet.probes.outcome import Outcome, ProbeOutcome
from tiphys.wire.protobuf import Schema

_SCHEMA = """
syntax = "proto3";
package grpc.health.v1;

service Health {
  rpc Check(HealthCheckRequest) returns (HealthCheckResponse);
}
message HealthCheckRequest { string service = 1; }
message HealthCheckResponse {
  enum ServingStatus {
    UNKNOWN = 0;
    SERVING = 1;
    NOT_SERVING = 2;
    SERVICE_UNKNOWN = 3;
  }
  ServingStatus status = 1;
}
"""
_STATUSES = ("UNKNOWN", "SERVING", "NOT_SERVING", "SERVICE_UNKNOWN")


@cache
def _schema() -> Schema:
    return Schema(_SCHEMA, "tiphys/grpc_health.proto")


async def check_health(target: str, service: str, timeout: float) -> ProbeOutcome:
    """One health check of ``service`` at ``target`` (host:port); ``timeout`` in seconds."""
    import grpc
    import grpc.aio

    check = _schema().methods("Health")["Check"]
    async with grpc.aio.insecure_channel(target, options=[("grpc.primary_user_agent", "kube-probe/1.36")]) as channel:
        call = channel.unary_unary(
            check.path,
            request_serializer=check.request.SerializeToString,
            response_deserializer=check.response.FromString,
        )
        try:
            answer = await call(check.request(service=service), timeout=timeout, wait_for_ready=False)
        except grpc.aio.AioRpcError as error:
            return ProbeOutcome(Outcome.FAILURE, _explain(error, target, timeout))
    if answer.status == 1:
        return ProbeOutcome(Outcome.SUCCESS, "service healthy")
    name = _STATUSES[answer.status] if answer.status < len(_STATUSES) else str(answer.status)
    return ProbeOutcome(Outcome.FAILURE, f'service unhealthy (responded with "{name}")')


def _explain(error: object, target: str, timeout: float) -> str:
    import grpc

    code = error.code()  # type: ignore[attr-defined]
    details = error.details()  # type: ignore[attr-defined]
    if code == grpc.StatusCode.UNIMPLEMENTED:
        return f"error: this server does not implement the grpc health protocol (grpc.health.v1.Health): {details}"
    if code == grpc.StatusCode.DEADLINE_EXCEEDED:
        return f"timeout: health rpc did not complete within {timeout:g}s"
    if code == grpc.StatusCode.UNAVAILABLE:
        return f'timeout: failed to connect service "{target}" within {timeout:g}s: {details}'
    return f"error: health rpc probe failed: {details}"
