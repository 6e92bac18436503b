"""Records of pulls, and who must show a credential before it starts from an image that is there."""

from __future__ import annotations

import asyncio
import json
import logging
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from tests.kubelet.handclock import HandClock
from tiphys.kubelet.container.image_names import ImageNameError, without_tag
from tiphys.kubelet.images.figures import ImageFigures
from tiphys.kubelet.images.keyring import Coordinates, Credential, KeyringError, PodCredentials
from tiphys.kubelet.images.pulls import MOST_SECRETS, PullManager
from tiphys.kubelet.images.records import Access, BrokenRecord, PulledRecord, PullRecords
from tiphys.kubelet.images.verification import Verification, VerificationPolicy, problems
from tiphys.kubelet.runtime.service import Image

NEVER, PRELOADED, LISTED, ALWAYS = VerificationPolicy
DIGEST = "sha256:38a8906435c4dd5f4258899d46621bfd8eea3ad6ff494ee3c2f17ef0321625bd"
IMAGE, NAME = "docker.io/testing/test:latest", "docker.io/testing/test"
SECRET = Coordinates("testsecretuid", "default", "pull-secret")
ACCOUNT = Coordinates("test-sa-uid", "default", "test-sa")


def at(where: Coordinates, **changed: str) -> Coordinates:
    given = {"uid": where.uid, "namespace": where.namespace, "name": where.name, **changed}
    return Coordinates(**given)


# -- names, policies


@pytest.mark.parametrize(
    ("image", "name"),
    [
        *((f"{name}{rest}", name) for name in ("myimage", "registry.io/myimage", "registry.io/myorg/myimage")
          for rest in ("", ":latest", f"@{DIGEST}", f":v1@{DIGEST}")),
        ("registry.io/a/b/c/myimage:latest", "registry.io/a/b/c/myimage"),
        ("localhost:5000/myimage:v1", "localhost:5000/myimage"),
        ("myregistry:5000/myorg/myimage:v1", "myregistry:5000/myorg/myimage"),
        ("docker.io/taghere/image:taghere", "docker.io/taghere/image"),
        (f"registry.io/{DIGEST[7:]}/myorg/image@{DIGEST}", f"registry.io/{DIGEST[7:]}/myorg/image"),
    ],
)  # fmt: skip
def test_names_without_tags(image: str, name: str) -> None:
    assert without_tag(image) == name


@pytest.mark.parametrize("image", ["registry.io/myorg/", "registry.io/myorg/:tag", f"registry.io/myorg/@{DIGEST}", ""])
def test_names_of_nothing(image: str) -> None:
    with pytest.raises(ImageNameError):
        without_tag(image)


@pytest.mark.parametrize(
    ("policy", "pulled", "needed"),
    [
        (NEVER, True, False),
        (NEVER, False, False),
        (PRELOADED, True, True),
        (PRELOADED, False, False),
        (ALWAYS, True, True),
        (ALWAYS, False, True),
    ],
)
def test_policies(policy: VerificationPolicy, pulled: bool, needed: bool) -> None:
    assert Verification(policy).needed("test.io/test/test-image:tag", pulled=pulled) is needed


SOME = ("test.io/test/image1", "test.io/test/image2")


@pytest.mark.parametrize(
    ("image", "allowed", "needed"),
    [
        ("test.io/test/test-image:tag", SOME, True),
        ("test.io/test/test-image:tag", (*SOME, "test.io/test/test-image"), False),
        ("test.io/test/test-image:tag", (*SOME, "different.repo/test/*"), True),
        ("test.io/test/test-image:tag", (*SOME, "test.io/test/*"), False),
        ("test.io/test/test-image:tag", (*SOME, "test.io/*"), False),
        ("test.io/testing/image", ("test.io/test/*",), True),
        ("ubuntu", ("docker.io/library/ubuntu",), True),
        ("ubuntu", ("docker.io/library/*",), True),
        ("ubuntu", ("ubuntu",), False),
        ("ubuntu:tagged", ("ubuntu",), False),
        (f"ubuntu@{DIGEST}", ("ubuntu",), False),
        ("Not A Name", ("ubuntu",), True),
    ],
)
@pytest.mark.parametrize("pulled", [True, False])
def test_images_by_list(image: str, allowed: tuple[str, ...], needed: bool, pulled: bool) -> None:
    assert problems(LISTED, allowed) == []
    assert Verification(LISTED, allowed).needed(image, pulled=pulled) is needed


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("image.repo/pokus*/imagename", "not a valid wildcard pattern"),
        ("image.repo/pokus*", "not a valid wildcard pattern"),
        ("image.repo/*/imagename", "not a valid wildcard pattern"),
        ("/*", "at least registry hostname is required"),
        ("image.repo/", "failed to parse as an image name"),
        ("", "the supplied pattern is too short"),
        ("*", "not a valid wildcard pattern"),
        ("test.io/test/image1:tagged", "neither tag nor digest is accepted in an image reference"),
        (f"test.io/test/image1@{DIGEST}", "neither tag nor digest is accepted in an image reference"),
        ("test.io/test/image1 ", "leading/trailing spaces are not allowed"),
    ],
)
def test_patterns_that_are_refused(pattern: str, message: str) -> None:
    [text] = problems(LISTED, ["good.io/*", pattern])
    head = "invalid configuration: invalid image pattern in `preloadedImagesVerificationAllowlist`: "
    assert text.startswith(head + message)


def test_policies_that_are_refused() -> None:
    assert problems("other", []) == [
        'invalid configuration: option "other" specified for imagePullCredentialsVerificationPolicy. Valid options are'
        ' "NeverVerify", "NeverVerifyPreloadedImages", "NeverVerifyAllowlistedImages" or "AlwaysVerify"'
    ]
    assert problems(NEVER, ["test.test/repo"]) == [
        "invalid configuration: can't set `preloadedImagesVerificationAllowlist` if"
        ' `imagePullCredentialsVertificationPolicy` is not "NeverVerifyAllowlistedImages"'
    ]


# -- records


def access(*secrets: str, accounts: tuple[str, ...] = (), everybody: bool = False) -> Access:
    """``1`` for the Secret uid1 of namespace1 with the digest hash1; ``1=x`` with the digest x."""
    parts = [text.partition("=") for text in secrets]
    given = {Coordinates(f"uid{n}", f"namespace{n}", f"name{n}"): digest or f"hash{n}" for n, _, digest in parts}
    return Access(given, frozenset(Coordinates(f"uid{n}", "default", f"sa{n}") for n in accounts), everybody)


@pytest.mark.parametrize(
    ("known", "more", "both"),
    [
        (None, access("1"), access("1")),
        (access("1"), access("2"), access("1", "2")),
        (access("1", "2"), access("3"), access("1", "2", "3")),
        (access("1", "2"), access(everybody=True), access(everybody=True)),
        (access("1"), access("1=new"), access("1=new")),
        (access("1"), access("2=hash1"), access("1", "2=hash1")),
        (None, access(accounts=("1",)), access(accounts=("1",))),
        (access(accounts=("1",)), access(accounts=("2",)), access(accounts=("1", "2"))),
        (access(accounts=("1",)), access(accounts=("1",)), None),
        (access("1"), access(accounts=("1",)), access("1", accounts=("1",))),
        (access(accounts=("1",)), access("1"), access("1", accounts=("1",))),
        (access("1", accounts=("1",)), access(everybody=True), access(everybody=True)),
        (access(everybody=True), access("1"), None),
        (access(everybody=True), access(accounts=("1",)), None),
        (access("1"), access(), None),
        (None, access(), None),
    ],
)
def test_a_record_learns(known: Access | None, more: Access, both: Access | None) -> None:
    record = PulledRecord("ref", 1.0, {} if known is None else {"image": known})
    merged = record.merged("image", more, 2.0)
    if both is None:
        assert merged is record
    else:
        assert merged == PulledRecord("ref", 2.0, {"image": both})


def test_files_are_upstreams(tmp_path: Path) -> None:
    records = PullRecords(tmp_path)
    everything = {NAME: access("2", "1", accounts=("b", "a")), "other": access(everybody=True)}
    records.put(PulledRecord("testimageref", 1729513600.9, everything))
    records.intend(IMAGE)
    [pulled] = (tmp_path / "image_manager" / "pulled").iterdir()
    assert pulled.name == "sha256-b3c0cc4278800b03a308ceb2611161430df571ca733122f0a40ac8b9792a9064"
    assert (pulled.stat().st_mode & 0o777, pulled.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    assert pulled.read_text() == (
        '{"kind":"ImagePulledRecord","apiVersion":"kubelet.config.k8s.io/v1beta1",'
        '"lastUpdatedTime":"2024-10-21T12:26:40Z","imageRef":"testimageref","credentialMapping":{'
        f'"{NAME}":{{"kubernetesSecrets":['
        '{"uid":"uid1","namespace":"namespace1","name":"name1","credentialHash":"hash1"},'
        '{"uid":"uid2","namespace":"namespace2","name":"name2","credentialHash":"hash2"}],'
        '"kubernetesServiceAccounts":[{"uid":"uida","namespace":"default","name":"saa"},'
        '{"uid":"uidb","namespace":"default","name":"sab"}]},"other":{"nodePodsAccessible":true}}}\n'
    )
    [pulling] = (tmp_path / "image_manager" / "pulling").iterdir()
    assert pulling.name == "sha256-aef2af226629a35d5f3ef0fdbb29fdbebf038d0acd8850590e8c48e1e283aa56"
    assert pulling.read_text() == (
        f'{{"kind":"ImagePullIntent","apiVersion":"kubelet.config.k8s.io/v1beta1","image":"{IMAGE}"}}\n'
    )
    assert records.get("testimageref") == PulledRecord("testimageref", 1729513600.0, everything)
    pulled.write_text(pulled.read_text().replace("v1beta1", "v1alpha1"))  # of a kubelet v1.33
    assert records.get("testimageref") == PulledRecord("testimageref", 1729513600.0, everything)
    assert records.counts() == (1, 1)
    records.done(IMAGE)
    records.remove("testimageref")
    records.remove("testimageref")
    assert records.counts() == (0, 0)


BROKEN = (
    "",
    "{",
    "[]",
    '{"kind":"ImagePulledRecord","apiVersion":"kubelet.config.k8s.io/v9","imageRef":"ref"}',
    '{"kind":"Other","apiVersion":"kubelet.config.k8s.io/v1beta1"}',
    '{"kind":"ImagePulledRecord","apiVersion":"kubelet.config.k8s.io/v1beta1"}',
    '{"kind":"ImagePulledRecord","apiVersion":"kubelet.config.k8s.io/v1beta1","imageRef":"ref","credentialMapping":[1]}',
)


@pytest.mark.parametrize("text", BROKEN)
def test_a_broken_file_is_no_record_and_nobodys_loss(tmp_path: Path, text: str) -> None:
    records, folder = PullRecords(tmp_path), tmp_path / "image_manager" / "pulled"
    records.put(PulledRecord("good", 1.0, {}))
    records.put(PulledRecord("ref", 1.0, {}))
    [broken] = [path for path in folder.iterdir() if '"ref"' in path.read_text()]
    broken.write_text(text)
    (folder / "sha256-unfinished.tmp").write_text("{")
    (folder / "other").write_text("{")
    (folder / "sha256-folder").mkdir()
    with pytest.raises(BrokenRecord):
        records.get("ref")
    assert [record.reference for record in records.records()] == ["good"]
    manager = make(tmp_path)
    manager.prune([], 1e12)
    assert list(records.records()) == []
    manager.begin(IMAGE)
    manager.pulled(IMAGE, "ref", None)  # it is made again
    assert records.get("ref").by_name == {NAME: access(everybody=True)}  # type: ignore[union-attr]


# -- who must pull


def make(root: Path, policy: VerificationPolicy = PRELOADED, allowed: tuple[str, ...] = ()) -> PullManager:
    return PullManager(PullRecords(root), Verification(policy, allowed), HandClock(1000.0), ImageFigures())


class Shown:
    """A pod's credentials, and whether anybody has asked for them."""

    def __init__(self, *secrets: tuple[Coordinates, str], account: Coordinates | None = None) -> None:
        self.credentials = PodCredentials(secrets, account)
        self.asked = False

    async def __call__(self) -> PodCredentials:
        self.asked = True
        return self.credentials


KNOWN: dict[str, dict[str, Access]] = {
    "ref": {NAME: Access({SECRET: "hash"})},
    "no-hash": {NAME: Access({SECRET: ""})},
    "account": {NAME: Access(accounts=frozenset((ACCOUNT,)))},
    "everybody": {NAME: Access(everybody=True)},
    "nobody": {},
}
OTHER = "docker.io/testing/different:latest"
SAME = (SECRET, "hash")


@pytest.mark.parametrize(
    ("reference", "shown", "must", "asked", "after"),
    [
        ("ref", Shown(SAME), False, True, None),
        ("ref", Shown(), True, True, None),
        ("ref", Shown((SECRET, "new")), False, True, {SECRET: "new"}),
        ("ref", Shown((at(SECRET, uid="other"), "new")), True, True, None),
        ("ref", Shown((at(SECRET, namespace="other"), "new")), True, True, None),
        ("ref", Shown((at(SECRET, namespace="other"), "hash")), False, True,
         {SECRET: "hash", at(SECRET, namespace="other"): "hash"}),
        ("no-hash", Shown((at(SECRET, namespace="other"), "")), True, True, None),
        ("no-hash", Shown((SECRET, "")), False, True, None),
        ("ref", Shown((at(SECRET, uid="other"), "new"), SAME), False, True, None),
        ("ref", Shown(account=ACCOUNT), True, True, None),
        ("account", Shown(account=ACCOUNT), False, True, None),
        ("account", Shown(account=at(ACCOUNT, uid="other")), True, True, None),
        ("account", Shown(account=at(ACCOUNT, namespace="other")), True, True, None),
        ("account", Shown(SAME), True, True, None),
        ("everybody", Shown(), False, False, None),
        ("everybody", Shown(SAME, account=ACCOUNT), False, False, None),
        ("nobody", Shown(SAME), True, False, None),
        ("preloaded", Shown(SAME), False, False, None),
    ],
)  # fmt: skip
def test_who_must_pull(tmp_path: Path, reference: str, shown: Shown, must: bool, asked: bool, after: Any) -> None:
    records = PullRecords(tmp_path)
    for name, by_name in KNOWN.items():
        records.put(PulledRecord(name, 10.0, by_name))
    manager = make(tmp_path)
    assert asyncio.run(manager.must_pull(IMAGE, reference, shown)) is must
    assert shown.asked is asked
    record = records.get(reference)
    if record is None:
        assert reference == "preloaded"
    elif after is None:
        assert (record.updated, record.by_name) == (10.0, KNOWN[reference])
    else:
        assert (record.updated, record.by_name[NAME].secrets) == (1000.0, after)
    if must and asked:  # another image of the same reference is not known at all
        shown.asked = False
        assert asyncio.run(manager.must_pull(OTHER, reference, shown))
        assert not shown.asked


def test_an_image_under_another_name_is_another(tmp_path: Path) -> None:
    PullRecords(tmp_path).put(PulledRecord("ref", 10.0, KNOWN["ref"]))
    shown = Shown(SAME)
    assert asyncio.run(make(tmp_path).must_pull(OTHER, "ref", shown))
    assert not shown.asked
    assert not asyncio.run(make(tmp_path).must_pull(f"{NAME}@{DIGEST}", "ref", shown))


def test_what_is_under_way_was_pulled_by_the_kubelet(tmp_path: Path) -> None:
    manager = make(tmp_path)
    assert not asyncio.run(manager.must_pull(IMAGE, "new", Shown(SAME)))
    manager.begin(IMAGE)
    assert asyncio.run(manager.must_pull(IMAGE, "new", Shown(SAME)))
    assert not asyncio.run(manager.must_pull(OTHER, "new", Shown(SAME)))
    assert asyncio.run(make(tmp_path).must_pull(IMAGE, "new", Shown(SAME)))  # the next kubelet's
    assert not asyncio.run(make(tmp_path, NEVER).must_pull(IMAGE, "new", Shown(SAME)))


def test_policies_without_records(tmp_path: Path) -> None:
    assert asyncio.run(make(tmp_path, ALWAYS).must_pull(IMAGE, "ref", Shown(SAME)))
    assert not asyncio.run(make(tmp_path, LISTED, (NAME,)).must_pull(IMAGE, "ref", Shown()))
    assert asyncio.run(make(tmp_path, LISTED, (NAME,)).must_pull(OTHER, "ref", Shown()))


def test_what_cannot_be_read_must_be_pulled(tmp_path: Path) -> None:
    records = PullRecords(tmp_path)
    records.put(PulledRecord("ref", 10.0, KNOWN["everybody"]))
    next((tmp_path / "image_manager" / "pulled").iterdir()).write_text("{")
    assert asyncio.run(make(tmp_path, NEVER).must_pull(IMAGE, "ref", Shown()))
    records.put(PulledRecord("ref", 10.0, KNOWN["ref"]))

    async def broken() -> PodCredentials:
        raise KeyringError("no secret")

    with pytest.raises(KeyringError):
        asyncio.run(make(tmp_path).must_pull(IMAGE, "ref", broken))


def test_a_record_does_not_grow_without_end(tmp_path: Path) -> None:
    records, manager = PullRecords(tmp_path), make(tmp_path)
    full = {at(SECRET, uid=str(n)): "hash" for n in range(MOST_SECRETS)}
    records.put(PulledRecord("ref", 10.0, {NAME: Access(full)}))
    assert not asyncio.run(manager.must_pull(IMAGE, "ref", Shown((SECRET, "hash"))))
    assert asyncio.run(manager.must_pull(IMAGE, "ref", Shown((at(SECRET, uid="1"), "new"))))
    assert records.get("ref").by_name[NAME].secrets == full  # type: ignore[union-attr]
    manager.begin(IMAGE)
    manager.pulled(IMAGE, "ref", Credential("u", "p", secret=SECRET))  # it has pulled: it is added
    assert len(records.get("ref").by_name[NAME].secrets) == MOST_SECRETS + 1  # type: ignore[union-attr]


# -- pulls from their beginning to their end


def test_a_pull_is_recorded(tmp_path: Path) -> None:
    records, manager = PullRecords(tmp_path), make(tmp_path)
    secret, account = Credential("u", "p", secret=SECRET), Credential("u", "p", account=ACCOUNT)
    for credential, wanted in (
        (secret, Access({SECRET: secret.digest})),
        (account, Access({SECRET: secret.digest}, frozenset((ACCOUNT,)))),
        (Credential("u", "p"), Access(everybody=True)),  # the node's own credentials
        (None, Access(everybody=True)),
    ):
        manager.begin(IMAGE)
        assert records.intentions() == [IMAGE]
        manager.pulled(IMAGE, "ref", credential)
        assert records.intentions() == []
        assert records.get("ref") == PulledRecord("ref", 1000.0, {NAME: wanted})
    manager.begin(OTHER)
    manager.pulled(OTHER, "ref", secret)
    assert set(records.get("ref").by_name) == {NAME, "docker.io/testing/different"}  # type: ignore[union-attr]


def test_several_pulls_of_one_image(tmp_path: Path) -> None:
    records, manager = PullRecords(tmp_path), make(tmp_path)
    for _ in range(3):
        manager.begin(IMAGE)
    manager.failed(IMAGE)
    manager.pulled(IMAGE, "ref", None)
    assert records.intentions() == [IMAGE]
    manager.failed(IMAGE)
    assert records.intentions() == []
    manager.failed(IMAGE)  # one too many does no harm
    assert asyncio.run(manager.must_pull(IMAGE, "ref", Shown())) is False


def test_a_pull_that_is_broken_off_may_still_end_well(tmp_path: Path) -> None:
    records, manager = PullRecords(tmp_path), make(tmp_path)
    manager.begin(IMAGE)
    manager.broken_off(IMAGE)
    assert asyncio.run(manager.must_pull(IMAGE, "ref", Shown(SAME)))
    make(tmp_path).take_over([Image("ref", (IMAGE,), (), 1)])
    assert (records.intentions(), records.get("ref")) == ([], PulledRecord("ref", 1000.0, {}))
    assert asyncio.run(manager.must_pull(IMAGE, "ref", Shown(SAME)))
    manager.begin(IMAGE)
    manager.pulled(IMAGE, "ref", None)
    assert not asyncio.run(manager.must_pull(IMAGE, "ref", Shown()))


def test_a_record_that_cannot_be_written_leaves_the_intent(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    records, manager = PullRecords(tmp_path), make(tmp_path)
    manager.begin(IMAGE)
    (tmp_path / "image_manager" / "pulled").write_text("in the way")
    with caplog.at_level(logging.ERROR):
        manager.pulled(IMAGE, "ref", None)
    assert "cannot record that image" in caplog.text
    assert records.intentions() == [IMAGE]


def test_the_next_kubelet_takes_over(tmp_path: Path) -> None:
    records = PullRecords(tmp_path)
    tagged, by_digest = "repo.repo/test/test:v1", f"repo.repo/test/test@{DIGEST}"
    records.put(PulledRecord("known", 10.0, {"repo.repo/test/known": access("1")}))
    for image in (tagged, by_digest, "repo.repo/test/known:1", "gone:1"):
        records.intend(image)
    images = [
        Image("one", (tagged, "other:1"), (), 1),
        Image("two", (), (by_digest,), 1),
        Image("known", ("repo.repo/test/known:1",), (), 1),
        Image("not-ours", ("mine:1",), (), 1),
    ]
    make(tmp_path).take_over(images)
    assert records.intentions() == ["gone:1"]
    found = {record.reference: record for record in records.records()}
    assert set(found) == {"one", "two", "known"}
    assert (found["one"].by_name, found["known"].by_name) == ({}, {"repo.repo/test/known": access("1")})


def test_records_of_images_that_are_gone_are_forgotten(tmp_path: Path) -> None:
    records, manager = PullRecords(tmp_path), make(tmp_path)
    for name, updated in (("there", 10.0), ("gone", 10.0), ("newer", 2000.0), ("same-second", 1500.0)):
        records.put(PulledRecord(name, updated, {}))
    manager.prune(["there"], 1500.7)
    assert {record.reference for record in records.records()} == {"there", "newer", "same-second"}


def test_what_is_measured(tmp_path: Path) -> None:
    figures = ImageFigures()
    manager = PullManager(PullRecords(tmp_path), Verification(PRELOADED), HandClock(), figures)
    asyncio.run(manager.must_pull(IMAGE, "ref", Shown()))
    manager.begin(IMAGE)
    asyncio.run(manager.must_pull(IMAGE, "ref", Shown()))
    manager.begin(OTHER)
    manager.pulled(IMAGE, "ref", None)
    asyncio.run(manager.must_pull(IMAGE, "ref", Shown()))
    next((tmp_path / "image_manager" / "pulled").iterdir()).write_text("{")
    asyncio.run(manager.must_pull(IMAGE, "ref", Shown()))
    registry = CollectorRegistry()
    registry.register(figures)
    text = generate_latest(registry).decode()
    for result in ("credentialPolicyAllowed", "mustAuthenticate", "credentialRecordFound", "error"):
        assert f'kubelet_imagemanager_image_mustpull_checks_total{{result="{result}"}} 1.0' in text
    assert "kubelet_imagemanager_ondisk_pullintents 1.0" in text
    assert "kubelet_imagemanager_ondisk_pulledrecords 1.0" in text


def test_records_are_json_that_others_read(tmp_path: Path) -> None:
    PullRecords(tmp_path).put(PulledRecord("<ref>", 1.0, {"a&b": access("1")}))
    [file] = (tmp_path / "image_manager" / "pulled").iterdir()
    assert json.loads(file.read_text())["imageRef"] == "<ref>"
