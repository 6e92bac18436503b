"""containerd's own event stream, for its versions that do not have CRI's (before 1.7).

Source: containerd's api/services/events/v1/events.proto and api/events/task.proto.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from functools import cache
from typing import TYPE_CHECKING

from tiphys.kubelet.runtime.service import EventType, RuntimeEvent
from tiphys.wire.protobuf import Schema

if TYPE_CHECKING:
    import grpc.aio

# The package's name is part of the method's path. Any and Timestamp are spelled out, as they travel the same.
_SCHEMA = """
syntax = "proto3";
package containerd.services.events.v1;

service Events {
  rpc Subscribe(SubscribeRequest) returns (stream Envelope);
}
message SubscribeRequest { repeated string filters = 1; }
message Any {
  string type_url = 1;
  bytes value = 2;
}
message Envelope {
  string namespace = 2;
  string topic = 3;
  Any event = 4;
}
message TaskEvent { string container_id = 1; string id = 2; }
"""

_TOPICS = {"/tasks/exit": EventType.STOPPED, "/tasks/oom": EventType.STOPPED, "/tasks/delete": EventType.DELETED}


@cache
def _schema() -> Schema:
    return Schema(_SCHEMA, "tiphys/containerd_events.proto")


async def containerd_events(channel: grpc.aio.Channel) -> AsyncIterator[RuntimeEvent]:
    """The ends of containers, as containerd reports them. Raises ``grpc.aio.AioRpcError``."""
    subscribe = _schema().methods("Events")["Subscribe"]
    task_event = _schema().message("TaskEvent")
    call = channel.unary_stream(
        subscribe.path,
        request_serializer=subscribe.request.SerializeToString,
        response_deserializer=subscribe.response.FromString,
    )
    filters = [f'namespace==k8s.io,topic=="{topic}"' for topic in _TOPICS]
    async for envelope in call(subscribe.request(filters=filters)):
        event = task_event.FromString(envelope.event.value)
        # An exec's end has the exec's id in place of the container's own.
        if envelope.topic == "/tasks/exit" and event.id != event.container_id:
            continue
        yield RuntimeEvent(event.container_id, _TOPICS[envelope.topic])
