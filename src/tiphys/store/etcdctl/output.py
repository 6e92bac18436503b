"""The output formats: ``simple``, ``json``, ``fields`` and ``table``; each takes etcd's responses as they came.

Source: https://github.com/etcd-io/etcd/tree/main/etcdctl
"""

from __future__ import annotations

import base64
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from tiphys.runtime.durations import seconds_text
from tiphys.store.etcdctl.flags import BAD_FEATURE, UsageError
from tiphys.store.etcdctl.gotext import plain, quote, size, to_json
from tiphys.store.snapshot import Status

PUT, DELETE = 0, 1
EVENT_NAMES = {PUT: "PUT", DELETE: "DELETE"}
ALARM_NAMES = {0: "NONE", 1: "NOSPACE", 2: "CORRUPT"}


@dataclass(frozen=True, slots=True)
class EndpointHealth:
    endpoint: str
    took: float
    error: str = ""


class Output:
    """What every format can be asked to print; a format that lacks something refuses it by name."""

    name = ""

    def __init__(self, *, hex: bool = False, value_only: bool = False) -> None:
        self._hex = hex
        self._value_only = value_only

    def _refuse(self) -> NoReturn:
        raise UsageError(f"{self.name} not supported as output format", BAD_FEATURE)

    def get(self, response: Any) -> None:
        self._refuse()

    def put(self, response: Any) -> None:
        self._refuse()

    def delete(self, response: Any) -> None:
        self._refuse()

    def txn(self, response: Any) -> None:
        self._refuse()

    def watch(self, response: Any) -> None:
        self._refuse()

    def grant(self, response: Any) -> None:
        self._refuse()

    def revoke(self, id: int, response: Any) -> None:
        self._refuse()

    def keep_alive(self, response: Any) -> None:
        self._refuse()

    def time_to_live(self, response: Any, *, keys: bool) -> None:
        self._refuse()

    def lease_list(self, response: Any) -> None:
        self._refuse()

    def alarms(self, response: Any) -> None:
        self._refuse()

    def members(self, response: Any) -> None:
        self._refuse()

    def status(self, statuses: Sequence[tuple[str, Any]]) -> None:
        self._refuse()

    def hash_kv(self, hashes: Sequence[tuple[str, Any]]) -> None:
        self._refuse()

    def health(self, results: Sequence[EndpointHealth]) -> None:
        self._refuse()

    def snapshot_status(self, status: Status) -> None:
        self._refuse()

    def say(self, text: str) -> None:
        sys.stdout.write(text + "\n")
        sys.stdout.flush()

    def raw(self, data: bytes) -> None:
        sys.stdout.flush()
        sys.stdout.buffer.write(data + b"\n")
        sys.stdout.buffer.flush()


class Simple(Output):
    name = "simple"

    def _text(self, data: bytes) -> bytes:
        return "".join(f"\\x{byte:02x}" for byte in data).encode() if self._hex else data

    def _kv(self, kv: Any) -> None:
        if not self._value_only:
            self.raw(self._text(kv.key))
        self.raw(self._text(kv.value))

    def get(self, response: Any) -> None:
        for kv in response.kvs:
            self._kv(kv)

    def put(self, response: Any) -> None:
        self.say("OK")
        if response.HasField("prev_kv"):
            self._kv(response.prev_kv)

    def delete(self, response: Any) -> None:
        self.say(str(response.deleted))
        for kv in response.prev_kvs:
            self._kv(kv)

    def txn(self, response: Any) -> None:
        self.say("SUCCESS" if response.succeeded else "FAILURE")
        for op in response.responses:
            self.say("")
            kind = op.WhichOneof("response")
            print_one = {
                "response_put": self.put,
                "response_range": self.get,
                "response_delete_range": self.delete,
                "response_txn": self.txn,
            }[kind]
            print_one(getattr(op, kind))

    def watch(self, response: Any) -> None:
        for event in response.events:
            self.say(EVENT_NAMES[event.type])
            if event.HasField("prev_kv"):
                self._kv(event.prev_kv)
            self._kv(event.kv)

    def grant(self, response: Any) -> None:
        self.say(f"lease {response.ID:016x} granted with TTL({response.TTL}s)")

    def revoke(self, id: int, response: Any) -> None:
        self.say(f"lease {id:016x} revoked")

    def keep_alive(self, response: Any) -> None:
        self.say(f"lease {response.ID:016x} keepalived with TTL({response.TTL})")

    def time_to_live(self, response: Any, *, keys: bool) -> None:
        if response.grantedTTL == 0 and response.TTL == -1:
            self.say(f"lease {response.ID:016x} already expired")
            return
        text = f"lease {response.ID:016x} granted with TTL({response.grantedTTL}s), remaining({response.TTL}s)"
        if keys:
            names = " ".join(key.decode(errors="replace") for key in response.keys)
            text += f", attached keys([{names}])"
        self.say(text)

    def lease_list(self, response: Any) -> None:
        self.say(f"found {len(response.leases)} leases")
        for lease in response.leases:
            self.say(f"{lease.ID:016x}")

    def alarms(self, response: Any) -> None:
        for alarm in response.alarms:
            self.say(f"memberID:{alarm.memberID} alarm:{ALARM_NAMES[alarm.alarm]} ")

    def members(self, response: Any) -> None:
        for row in member_rows(response):
            self.say(", ".join(row))

    def status(self, statuses: Sequence[tuple[str, Any]]) -> None:
        for row in status_rows(statuses):
            self.say(", ".join(row))

    def hash_kv(self, hashes: Sequence[tuple[str, Any]]) -> None:
        for endpoint, response in hashes:
            self.say(f"{endpoint}, {response.hash}")

    def health(self, results: Sequence[EndpointHealth]) -> None:
        for each in results:
            if each.error:
                text = f"{each.endpoint} is unhealthy: failed to commit proposal: {each.error}"
            else:
                text = f"{each.endpoint} is healthy: successfully committed proposal: took = {seconds_text(each.took)}"
            print(text, file=sys.stderr)

    def snapshot_status(self, status: Status) -> None:
        self.say(", ".join(snapshot_row(status)))


class Json(Output):
    name = "json"

    def _print(self, message: Any) -> None:
        self.say(to_json(plain(message)))

    def get(self, response: Any) -> None:
        self._print(response)

    put = delete = txn = alarms = members = get

    def watch(self, response: Any) -> None:
        message = {
            "Header": plain(response.header),
            "Events": [plain(event) for event in response.events],
            "CompactRevision": response.compact_revision,
            "Canceled": response.canceled,
            "Created": response.created,
        }
        self.say(to_json(message))

    def grant(self, response: Any) -> None:
        more = {"ID": response.ID, "TTL": response.TTL, "Error": response.error}
        self.say(to_json(plain(response.header) | more))

    def revoke(self, id: int, response: Any) -> None:
        self._print(response)

    def keep_alive(self, response: Any) -> None:
        self.say(to_json(plain(response.header) | {"ID": response.ID, "TTL": response.TTL}))

    def time_to_live(self, response: Any, *, keys: bool) -> None:
        attached = [base64.b64encode(key).decode() for key in response.keys] or None
        more = {"id": response.ID, "ttl": response.TTL, "granted-ttl": response.grantedTTL, "keys": attached}
        self.say(to_json(plain(response.header) | more))

    def lease_list(self, response: Any) -> None:
        self.say(to_json(plain(response.header) | {"leases": [{"id": lease.ID} for lease in response.leases]}))

    def status(self, statuses: Sequence[tuple[str, Any]]) -> None:
        self.say(to_json([{"Endpoint": endpoint, "Status": plain(response)} for endpoint, response in statuses]))

    def hash_kv(self, hashes: Sequence[tuple[str, Any]]) -> None:
        self.say(to_json([{"Endpoint": endpoint, "HashKV": plain(response)} for endpoint, response in hashes]))

    def health(self, results: Sequence[EndpointHealth]) -> None:
        rows = []
        for each in results:
            row: dict[str, Any] = {
                "endpoint": each.endpoint,
                "health": not each.error,
                "took": seconds_text(each.took),
            }
            rows.append(row | ({"error": each.error} if each.error else {}))
        self.say(to_json(rows))

    def snapshot_status(self, status: Status) -> None:
        message = {"hash": status.hash, "revision": status.revision}
        self.say(to_json(message | {"totalKey": status.total_keys, "totalSize": status.total_size}))


class Fields(Output):
    name = "fields"

    def _field(self, name: str, value: object) -> None:
        self.say(f'"{name}" : {value}')

    def _header(self, header: Any) -> None:
        for name, value in (
            ("ClusterID", header.cluster_id),
            ("MemberID", header.member_id),
            ("Revision", header.revision),
            ("RaftTerm", header.raft_term),
        ):
            self._field(name, value)

    def _kv(self, prefix: str, kv: Any) -> None:
        for name, value in (
            ("Key", quote(kv.key)),
            ("CreateRevision", kv.create_revision),
            ("ModRevision", kv.mod_revision),
            ("Version", kv.version),
            ("Value", quote(kv.value)),
            ("Lease", kv.lease),
        ):
            self._field(prefix + name, value)

    def get(self, response: Any) -> None:
        self._header(response.header)
        for kv in response.kvs:
            self._kv("", kv)
        self._field("More", str(response.more).lower())
        self._field("Count", response.count)

    def put(self, response: Any) -> None:
        self._header(response.header)
        if response.HasField("prev_kv"):
            self._kv("Prev", response.prev_kv)

    def delete(self, response: Any) -> None:
        self._header(response.header)
        self._field("Deleted", response.deleted)
        for kv in response.prev_kvs:
            self._kv("Prev", kv)

    def txn(self, response: Any) -> None:
        self._header(response.header)
        self._field("Succeeded", str(response.succeeded).lower())
        for op in response.responses:
            kind = op.WhichOneof("response")
            inner = getattr(op, kind)
            if kind == "response_put":
                self.put(inner)
            elif kind == "response_range":
                self.get(inner)
            elif kind == "response_delete_range":
                self.delete(inner)
            else:
                self.txn(inner)

    def watch(self, response: Any) -> None:
        self._header(response.header)
        for event in response.events:
            self._field("Type", EVENT_NAMES[event.type])
            if event.HasField("prev_kv"):
                self._kv("Prev", event.prev_kv)
            self._kv("", event.kv)

    def grant(self, response: Any) -> None:
        self._header(response.header)
        self._field("ID", response.ID)
        self._field("TTL", response.TTL)

    keep_alive = grant

    def revoke(self, id: int, response: Any) -> None:
        self._header(response.header)

    def time_to_live(self, response: Any, *, keys: bool) -> None:
        self.grant(response)
        self._field("GrantedTTL", response.grantedTTL)
        for key in response.keys:
            self._field("Key", quote(key))

    def lease_list(self, response: Any) -> None:
        self._header(response.header)
        for lease in response.leases:
            self._field("ID", lease.ID)

    def alarms(self, response: Any) -> None:
        self._header(response.header)
        for alarm in response.alarms:
            self._field("MemberID", alarm.memberID)
            self._field("AlarmType", ALARM_NAMES[alarm.alarm])
            self.say("")

    def members(self, response: Any) -> None:
        self._header(response.header)
        for member in response.members:
            self._field("ID", member.ID)
            self._field("Name", quote(member.name))
            for url in member.peerURLs:
                self._field("PeerURL", quote(url))
            for url in member.clientURLs:
                self._field("ClientURL", quote(url))
            self._field("IsLearner", str(member.isLearner).lower())
            self.say("")

    def status(self, statuses: Sequence[tuple[str, Any]]) -> None:
        """Print each endpoint's status, a field a line; sizes in bytes."""
        for endpoint, response in statuses:
            self._header(response.header)
            errors = " ".join(quote(error) for error in response.errors)
            for name, value in (
                ("Version", quote(response.version)),
                ("DBSize", response.dbSize),
                ("Leader", response.leader),
                ("IsLearner", str(response.isLearner).lower()),
                ("RaftIndex", response.raftIndex),
                ("RaftTerm", response.raftTerm),
                ("RaftAppliedIndex", response.raftAppliedIndex),
                ("Errors", f"[{errors}]"),
                ("Endpoint", quote(endpoint)),
            ):
                self._field(name, value)
            self.say("")

    def hash_kv(self, hashes: Sequence[tuple[str, Any]]) -> None:
        for endpoint, response in hashes:
            self._header(response.header)
            self._field("Endpoint", quote(endpoint))
            self._field("Hash", response.hash)
            self.say("")

    def health(self, results: Sequence[EndpointHealth]) -> None:
        for each in results:
            self._field("Endpoint", quote(each.endpoint))
            self._field("Health", str(not each.error).lower())
            self._field("Took", seconds_text(each.took))
            self._field("Error", each.error)
            self.say("")

    def snapshot_status(self, status: Status) -> None:
        self._field("Hash", status.hash)
        self._field("Revision", status.revision)
        self._field("Keys", status.total_keys)
        self._field("Size", status.total_size)


class Table(Output):
    name = "table"

    def _table(self, heads: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        widths = [max(len(cell) for cell in column) for column in zip(heads, *rows, strict=True)]
        line = "+" + "+".join("-" * (width + 2) for width in widths) + "+"
        centred = []
        for head, width in zip(heads, widths, strict=True):
            left = (width - len(head)) // 2
            centred.append(" " * left + head.upper() + " " * (width - len(head) - left))
        self.say(line)
        self.say("| " + " | ".join(centred) + " |")
        self.say(line)
        for row in rows:
            self.say("| " + " | ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) + " |")
        self.say(line)

    def members(self, response: Any) -> None:
        self._table(["ID", "Status", "Name", "Peer Addrs", "Client Addrs", "Is Learner"], member_rows(response))

    def status(self, statuses: Sequence[tuple[str, Any]]) -> None:
        heads = "endpoint|ID|version|db size|is leader|is learner|raft term|raft index|raft applied index|errors"
        self._table(heads.split("|"), status_rows(statuses))

    def hash_kv(self, hashes: Sequence[tuple[str, Any]]) -> None:
        self._table(["endpoint", "hash"], [(endpoint, str(response.hash)) for endpoint, response in hashes])

    def health(self, results: Sequence[EndpointHealth]) -> None:
        rows = [(each.endpoint, str(not each.error).lower(), seconds_text(each.took), each.error) for each in results]
        self._table(["endpoint", "health", "took", "error"], rows)

    def snapshot_status(self, status: Status) -> None:
        self._table(["hash", "revision", "total keys", "total size"], [snapshot_row(status)])


def member_rows(response: Any) -> list[list[str]]:
    return [
        [
            f"{member.ID:x}",
            "started" if member.name else "unstarted",
            member.name,
            ",".join(member.peerURLs),
            ",".join(member.clientURLs),
            str(member.isLearner).lower(),
        ]
        for member in response.members
    ]


def status_rows(statuses: Sequence[tuple[str, Any]]) -> list[list[str]]:
    """The rows of the ``simple`` and ``table`` formats, a row for each endpoint."""
    return [
        [
            endpoint,
            f"{response.header.member_id:x}",
            response.version,
            size(response.dbSize),
            str(response.leader == response.header.member_id).lower(),
            str(response.isLearner).lower(),
            str(response.raftTerm),
            str(response.raftIndex),
            str(response.raftAppliedIndex),
            ", ".join(response.errors),
        ]
        for endpoint, response in statuses
    ]


def snapshot_row(status: Status) -> list[str]:
    return [f"{status.hash:x}", str(status.revision), str(status.total_keys), size(status.total_size)]


FORMATS: dict[str, type[Output]] = {each.name: each for each in (Simple, Json, Fields, Table)}
