"""What every ``CloudProvider`` keeps: for the tests' simulated cloud, and for EC2 as moto's server answers."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from tests.cloud import contract
from tests.cloud.contract import CLUSTER, World, service
from tests.cloud.simulated import SimulatedCloud
from tiphys.api.object import Object
from tiphys.cloud.provider import CloudError
from tiphys.cloud.providers.ec2.cloud import Ec2Cloud
from tiphys.cloud.providers.libcloud.cloud import LibcloudCloud
from tiphys.runtime.component import CannotStart
from tiphys.wire.client import SocketTransport, parse_url
from tiphys.wire.http import Request, Response
from tiphys.wire.server import serve


def simulated() -> World:
    cloud = SimulatedCloud()
    for number, name in enumerate(("one", "two"), 1):
        cloud.add_machine(name, number)

    async def stop(name: str) -> None:
        cloud.machines[name].shut_down = True

    async def end(name: str) -> None:
        del cloud.machines[name]

    async def backends(service: Object) -> list[str]:
        return [name for _, names in cloud.balancers.values() for name in names]

    return World(cloud, ("one", "two"), stop, end, backends)


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        yield f"http://{host}:{port}"
    finally:
        server.stop()


@asynccontextmanager
async def ec2(endpoint: str, folder: Path) -> AsyncIterator[World]:
    import boto3

    clients = [boto3.client(name, region_name="eu-west-1", endpoint_url=endpoint) for name in ("ec2", "elbv2")]
    machines, balancers = clients
    image = machines.describe_images()["Images"][0]["ImageId"]
    made = machines.run_instances(ImageId=image, MinCount=2, MaxCount=2, InstanceType="t3.small")["Instances"]
    by_name = {one["PrivateDnsName"]: one["InstanceId"] for one in made}
    config = folder / "ec2.json"
    config.write_text(json.dumps({"region": "eu-west-1", "endpoint": endpoint}))

    async def stop(name: str) -> None:
        await asyncio.to_thread(machines.stop_instances, InstanceIds=[by_name[name]])

    async def end(name: str) -> None:
        await asyncio.to_thread(machines.terminate_instances, InstanceIds=[by_name[name]])

    def targets() -> list[str]:
        groups = balancers.describe_target_groups()["TargetGroups"]
        health = [balancers.describe_target_health(TargetGroupArn=group["TargetGroupArn"]) for group in groups]
        found = {entry["Target"]["Id"] for one in health for entry in one["TargetHealthDescriptions"]}
        return sorted(name for name, identity in by_name.items() if identity in found)

    async def backends(service: Object) -> list[str]:
        return await asyncio.to_thread(targets)

    cloud = Ec2Cloud(config)
    try:
        yield World(cloud, tuple(sorted(by_name)), stop, end, backends)
    finally:
        await cloud.close()
        machines.terminate_instances(InstanceIds=list(by_name.values()))
        for client in clients:
            client.close()


@asynccontextmanager
async def slashed(endpoint: str) -> AsyncIterator[int]:
    """A port before moto that ends the namespace of its answers with a slash, as EC2 does, and Libcloud expects."""
    address = parse_url(endpoint)
    moto = SocketTransport(address.host, address.port)

    async def relay(request: Request) -> Response:
        answer = await moto.send(Request(request.method, request.path, request.query, request.headers, request.body))
        body = (await answer.read()).replace(b'/doc/2016-11-15"', b'/doc/2016-11-15/"')
        return Response(answer.status, {"Content-Type": answer.headers.get("content-type", "text/xml")}, body)

    server = await serve(relay, "127.0.0.1", 0)
    try:
        yield server.port
    finally:
        await server.close(grace=0)
        await moto.close()


@asynccontextmanager
async def libcloud(endpoint: str, folder: Path) -> AsyncIterator[World]:
    """EC2 as moto answers, by Libcloud's driver."""
    async with ec2(endpoint, folder) as made, slashed(endpoint) as port:
        arguments = {
            "region": "eu-west-1",
            "host": "127.0.0.1",
            "port": port,
            "secure": False,
            "signature_version": "4",
        }
        secrets = {"key": "AWS_ACCESS_KEY_ID", "secret": "AWS_SECRET_ACCESS_KEY"}
        config = folder / "libcloud.json"
        config.write_text(json.dumps({"provider": "ec2", "arguments": arguments, "secrets": secrets}))
        yield replace(made, cloud=LibcloudCloud(config))


@asynccontextmanager
async def world(kind: str, request: pytest.FixtureRequest, folder: Path) -> AsyncIterator[World]:
    if kind == "simulated":
        yield simulated()
    else:
        async with ec2(request.getfixturevalue("endpoint"), folder) as made:
            yield made


@pytest.fixture(autouse=True)
def keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")


KINDS = pytest.mark.parametrize("kind", ["simulated", "ec2"])


@KINDS
@pytest.mark.parametrize("part", [contract.machines, contract.load_balancers, contract.routes, contract.volumes])
def test_every_cloud_keeps_the_contract(
    part: Callable[[World], Awaitable[None]], kind: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    async def scene() -> None:
        async with world(kind, request, tmp_path) as made:
            await part(made)

    asyncio.run(scene())


def test_libcloud_keeps_the_contract_of_machines(endpoint: str, tmp_path: Path) -> None:
    async def scene() -> None:
        async with libcloud(endpoint, tmp_path) as made:
            await contract.machines(made)
            with pytest.raises(
                CloudError, match="aws:///z/i-1 is not the id of a machine of ec2; it begins with libcloud://ec2/"
            ):
                await made.cloud.instances.exists(made.node("n", "aws:///z/i-1"))  # type: ignore[union-attr]

    asyncio.run(scene())


def test_a_cloud_that_does_not_answer_is_an_error_of_one_line(tmp_path: Path) -> None:
    config = tmp_path / "libcloud.json"
    arguments = {"key": "k", "secret": "s", "host": "127.0.0.1", "port": 1, "secure": False}
    config.write_text(json.dumps({"provider": "ec2", "arguments": arguments}))
    node = {"metadata": {"name": "n"}, "spec": {}}
    with pytest.raises(CloudError, match=r"^ec2: .*127\.0\.0\.1"):
        asyncio.run(LibcloudCloud(config).instances.exists(node))


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (None, "--cloud-config is needed"),
        ("{", "is not JSON"),
        ("{}", "provider is needed, such as ec2 or openstack"),
        ('{"provider": "ec2", "keys": {}}', "keys is not known; there are provider, arguments, secrets, region"),
        ('{"provider": "ec2", "secrets": "x"}', "secrets has to be an object"),
        ('{"provider": "ec2", "secrets": {"key": "NOT_IN_THE_ENVIRONMENT"}}', "names NOT_IN_THE_ENVIRONMENT, which"),
        ('{"provider": "nonsense"}', "Libcloud has no provider nonsense"),
        ('{"provider": "ec2"}', "arguments of ec2: "),
    ],
)
def test_a_config_of_libcloud_that_makes_no_sense(text: str | None, sentence: str, tmp_path: Path) -> None:
    path = None
    if text is not None:
        path = tmp_path / "libcloud.json"
        path.write_text(text)
    with pytest.raises(CannotStart, match=sentence):
        LibcloudCloud(path)


def test_what_ec2_cannot_do_is_said(request: pytest.FixtureRequest, tmp_path: Path) -> None:
    async def scene() -> None:
        async with world("ec2", request, tmp_path) as made:
            balancers, instances = made.cloud.load_balancers, made.cloud.instances
            assert balancers is not None
            assert instances is not None
            node = await made.known(made.names[0])
            with pytest.raises(CloudError, match="EC2's load balancers do not carry SCTP, as port 9 wants"):
                await balancers.ensure(CLUSTER, service({"port": 9, "nodePort": 30009, "protocol": "SCTP"}), [node])
            with pytest.raises(CloudError, match="no subnet is known for the load balancer"):
                await balancers.ensure(CLUSTER, service(), [])
            with pytest.raises(CloudError, match="gce://x is not the id of an EC2 instance"):
                await instances.exists(made.node("n", "gce://x"))

    asyncio.run(scene())


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (None, "--cloud-config is needed"),
        ("{", "is not JSON"),
        ("{}", "region is needed"),
        ('{"region": "r", "subnet": "s"}', "subnet is not known; there are region, endpoint, vpc, subnets"),
    ],
)
def test_a_config_that_makes_no_sense(text: str | None, sentence: str, tmp_path: Path) -> None:
    path = None
    if text is not None:
        path = tmp_path / "ec2.json"
        path.write_text(text)
    with pytest.raises(CannotStart, match=sentence):
        Ec2Cloud(path)
