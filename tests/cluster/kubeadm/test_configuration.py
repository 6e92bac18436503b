"""kubeadm.k8s.io/v1beta4: fields, defaults, rules; the messages are those of kubeadm v1.36."""

from pathlib import Path

import pytest
import yaml

from tiphys.cli.kubeadm import config as config_command
from tiphys.cluster.kubeadm.configuration import documents, dynamic, fromflags, load
from tiphys.cluster.kubeadm.failures import ConfigurationError

DATA = Path(__file__).parent / "data"
"""A file of v1beta3 for each command, and what kubeadm v1.36's `config migrate` writes for it."""
HOST = dynamic.Host("cp1", "10.5.6.7")
HEAD = "apiVersion: kubeadm.k8s.io/v1beta4\nkind: "
TOKEN = "abcdef.0123456789abcdef"


def read(*parts: str) -> documents.Documents:
    return documents.read_text("\n---\n".join(HEAD + part for part in parts), "cfg.yaml")


def refusal(*parts: str) -> str:
    with pytest.raises(ConfigurationError) as caught:
        load.check_all(read(*parts), HOST)
    return str(caught.value)


def test_an_empty_file_gives_upstreams_defaults():
    made = load.init_configuration(read("InitConfiguration"), HOST)
    assert made.node["nodeRegistration"] == {
        "name": "cp1",
        "criSocket": "unix:///run/containerd/containerd.sock",
        "taints": [{"effect": "NoSchedule", "key": "node-role.kubernetes.io/control-plane"}],
        "imagePullPolicy": "IfNotPresent",
        "imagePullSerial": True,
    }
    assert made.node["localAPIEndpoint"] == {"advertiseAddress": "10.5.6.7", "bindPort": 6443}
    assert made.node["timeouts"]["etcdAPICall"] == "2m0s"
    (token,) = made.node["bootstrapTokens"]
    assert (token["ttl"], token["usages"]) == ("24h0m0s", ["signing", "authentication"])
    assert token["groups"] == ["system:bootstrappers:kubeadm:default-node-token"]
    assert len(token["token"]) == 23
    assert made.cluster["networking"] == {"serviceSubnet": "10.96.0.0/12", "dnsDomain": "cluster.local"}
    assert made.cluster["etcd"] == {"local": {"dataDir": "/var/lib/etcd"}}
    assert made.cluster["encryptionAlgorithm"] == "RSA-2048"
    assert made.kubelet["clusterDNS"] == ["10.96.0.10"]


def test_no_taints_and_an_empty_list_of_taints_are_two_things():
    made = load.init_configuration(read("InitConfiguration\nnodeRegistration: {taints: []}"), HOST)
    assert made.node["nodeRegistration"]["taints"] == []


def test_every_unknown_field_is_named_at_once_and_a_wrong_type_beside_them():
    message = refusal(
        "ClusterConfiguration\nfooBar: 1\nnetworking: {podsubnet: 10.1.0.0/16}\napiServer: {extraArgs: {a: b}}"
    )
    assert (
        'cfg.yaml: ClusterConfiguration of kubeadm.k8s.io/v1beta4: strict decoding error: unknown field "fooBar"'
        in message
    )
    assert 'unknown field "networking.podsubnet" (did you mean "podSubnet"?)' in message
    assert "apiServer.extraArgs: a list is wanted, not an object; since v1beta4" in message


@pytest.mark.parametrize(
    ("part", "message"),
    [
        ("ClusterConfiguration\nkubernetesVersion: v1.20.0", "kubernetesVersion v1.20.0 is not supported"),
        (
            "ClusterConfiguration\ncontrolPlaneEndpoint: 'foo:99999'",
            "port 99999 must be a valid number between 1 and 65535",
        ),
        (
            "ClusterConfiguration\ncontrolPlaneEndpoint: foo_",
            "must be a valid IP address or a valid RFC-1123 DNS subdomain",
        ),
        ("ClusterConfiguration\ncertificatesDir: rel", 'certificatesDir: Invalid value: "rel": path is not absolute'),
        ("ClusterConfiguration\nimageRepository: a b", 'Invalid value: "a b": invalid image repository format'),
        ("ClusterConfiguration\nfeatureGates: {Foo: true}", "Foo is not a valid feature name."),
        ("ClusterConfiguration\nfeatureGates: {RootlessControlPlane: true}", "is not supported by Tiphys"),
        (
            "ClusterConfiguration\nencryptionAlgorithm: FOO",
            'Invalid encryption algorithm "FOO". Must be one of [ECDSA-P256',
        ),
        ("ClusterConfiguration\napiServer: {certSANs: [a_b]}", "altname is not a valid IP address, DNS label or"),
        (
            "ClusterConfiguration\nscheduler: {extraArgs: [{value: x}]}",
            'Invalid value: "index 0": argument has no name',
        ),
        (
            "ClusterConfiguration\nnetworking: {serviceSubnet: 10.0.0.0/29}",
            "subnet with 8 address(es) is too small, the minimum is 10",
        ),
        (
            "ClusterConfiguration\nnetworking: {serviceSubnet: 10.0.0.0/8}",
            "for 32-bit addresses, the mask must be >= 12",
        ),
        (
            "ClusterConfiguration\nnetworking: {podSubnet: 10.0.0.0/26}",
            "with mask 26 is smaller than the size of node subnet with mask 24",
        ),
        ("ClusterConfiguration\nnetworking: {podSubnet: 10.0.0.0/7}", "difference is greater than 16"),
        ("ClusterConfiguration\nnetworking: {dnsDomain: x_y}", "networking.dnsDomain"),
        (
            "ClusterConfiguration\netcd: {local: {}, external: {}}",
            ".Etcd.Local and .Etcd.External are mutually exclusive",
        ),
        (
            "ClusterConfiguration\netcd: {external: {endpoints: ['http://x'], caFile: /a}}",
            "the URL must be using the HTTPS scheme",
        ),
        ("InitConfiguration\nbootstrapTokens: [{token: abc.def}]", 'the bootstrap token "abc.def" was not of the form'),
        ("InitConfiguration\nnodeRegistration: {name: foo_bar}", "a lowercase RFC 1123 subdomain must consist of"),
        (
            "InitConfiguration\nnodeRegistration: {criSocket: 'tcp://x'}",
            'only URL scheme "unix" is supported, got "tcp"',
        ),
        ("InitConfiguration\nnodeRegistration: {imagePullPolicy: X}", "invalid pull policy"),
        (
            "InitConfiguration\nlocalAPIEndpoint: {advertiseAddress: 1.2.3}",
            'couldn\'t use "1.2.3" as "apiserver-advertise-address"',
        ),
        ("InitConfiguration\nlocalAPIEndpoint: {bindPort: 99999}", "port number is not valid"),
        (
            "InitConfiguration\ncertificateKey: abcd",
            "invalid certificate key size 2, the key must be an AES key of size 32",
        ),
        (
            f"InitConfiguration\nbootstrapTokens: [{{token: {TOKEN}, usages: [foo]}}]",
            "invalid bootstrap token usage string: foo",
        ),
        (f"InitConfiguration\nbootstrapTokens: [{{token: {TOKEN}, groups: [x]}}]", 'bootstrap group "x" is invalid'),
        ("InitConfiguration\ntimeouts: {discovery: soon}", "timeouts.discovery: 'soon' is not a duration"),
        ("JoinConfiguration\ndiscovery: {}", 'discovery: Invalid value: "": bootstrapToken or file must be set'),
        (
            f"JoinConfiguration\ndiscovery: {{bootstrapToken: {{token: {TOKEN}, apiServerEndpoint: '1.2.3.4:6443'}}}}",
            "using token-based discovery without caCertHashes can be unsafe.",
        ),
        (
            (
                f"JoinConfiguration\ndiscovery: {{bootstrapToken: {{token: {TOKEN}, apiServerEndpoint: h,"
                " unsafeSkipCAVerification: true}}"
            ),
            "address h: missing port in address",
        ),
        (
            (
                f"JoinConfiguration\ndiscovery: {{bootstrapToken: {{token: {TOKEN}, apiServerEndpoint: 'h:1',"
                " caCertHashes: ['md5:aa']}}"
            ),
            "a hash is written sha256: and 64 hexadecimal digits",
        ),
        (
            "JoinConfiguration\ndiscovery: {file: {kubeConfigPath: 'http://x'}}",
            "if a URL is used, the scheme must be https",
        ),
        ("ResetConfiguration\nunmountFlags: [MNT_FOO]", 'Invalid value: "index 0": unknown unmount flag MNT_FOO'),
    ],
)
def test_what_is_wrong_is_named_with_its_field(part, message):
    assert message in refusal(part)


def test_versions_kinds_and_repeats_that_cannot_be_read():
    for text, message in (
        ("apiVersion: kubeadm.k8s.io/v1beta3\nkind: ClusterConfiguration", "deprecated API version"),
        (
            HEAD + "FooConfiguration",
            "unknown configuration API kubeadm.k8s.io/v1beta4 FooConfiguration; known kinds: Init",
        ),
        ("kind: X", "kind and apiVersion is mandatory information"),
        (f"{HEAD}InitConfiguration\n---\n{HEAD}InitConfiguration", "is specified twice"),
    ):
        with pytest.raises(ConfigurationError, match=message):
            documents.read_text(text, "cfg.yaml")


def test_the_endpoint_takes_the_bind_port_and_names_are_lower_case():
    made = load.init_configuration(
        read(
            "InitConfiguration\nlocalAPIEndpoint: {bindPort: 7443}",
            "ClusterConfiguration\ncontrolPlaneEndpoint: cp.example\napiServer: {certSANs: [ELB.Example]}",
        ),
        HOST,
    )
    assert (made.server, made.local_server) == ("https://cp.example:7443", "https://10.5.6.7:7443")
    assert made.cluster["apiServer"]["certSANs"] == ["elb.example"]


def test_two_container_runtimes_have_to_be_told_apart():
    host = dynamic.Host("a", "10.0.0.1", ("/run/containerd/containerd.sock", "/run/crio/crio.sock"))
    with pytest.raises(ConfigurationError, match="found multiple CRI endpoints"):
        load.init_configuration({}, host)


def test_flags_make_the_documents_that_a_file_would():
    given = {
        "apiserver-bind-port": 7443,
        "pod-network-cidr": "10.244.0.0/16",
        "apiserver-cert-extra-sans": ["a.example"],
    }
    made = load.init_configuration(fromflags.documents_of(given, fromflags.INIT_FLAGS), HOST)
    assert made.port == 7443
    assert made.cluster["networking"]["podSubnet"] == "10.244.0.0/16"
    assert made.cluster["apiServer"]["certSANs"] == ["a.example"]


def test_flags_beside_a_file_that_says_the_same_are_refused():
    fromflags.refuse_mixture({"config": "x", "skip-phases": "addon", "node-name": "a", "dry-run": True})
    with pytest.raises(
        ConfigurationError, match=r"can not mix '--config' with arguments \[pod-network-cidr service-cidr\]"
    ):
        fromflags.refuse_mixture({"config": "x", "service-cidr": "a", "pod-network-cidr": "b"})


def test_the_kubelets_fields_of_the_user_win_and_rotation_stays():
    text = (
        "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\nmaxPods: 30\nrotateCertificates:"
        " false\nauthentication: {webhook: {cacheTTL: 1m}}"
    )
    made = load.init_configuration(documents.read_text(text, "f") | read("ClusterConfiguration"), HOST)
    assert made.kubelet["maxPods"] == 30
    assert made.kubelet["rotateCertificates"] is True
    assert made.kubelet["authentication"]["webhook"] == {"enabled": True, "cacheTTL": "1m"}


def test_printed_defaults_can_be_read_again():
    for kind in ("init", "join", "reset", "upgrade"):
        import yaml

        text = "---\n".join(yaml.safe_dump(document) for document in load.printed_defaults(kind))
        load.check_all(documents.read_text(text, kind), HOST)


@pytest.mark.parametrize("kind", ["init", "join"])
def test_a_file_of_the_version_before_is_migrated_as_kubeadm_migrates_it(kind: str, tmp_path: Path):
    new = tmp_path / "new.yaml"
    words = ["migrate", f"--old-config={DATA}/v1beta3-{kind}.yaml", f"--new-config={new}"]
    assert config_command.main(words) == 0
    made = list(yaml.safe_load_all(new.read_text()))
    wanted = list(yaml.safe_load_all((DATA / f"v1beta4-{kind}.yaml").read_text()))
    for document in (*made, *wanted):
        document.pop("imageRepository", None)  # each has its own
    assert made == wanted
    load.check_all(documents.read_file(new), HOST)


def test_what_cannot_be_migrated_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    old = tmp_path / "old.yaml"
    for text, problem in (
        ("kind: Pod\napiVersion: v1", "no document of kubeadm.k8s.io/v1beta3 or kubeadm.k8s.io/v1beta4 is in it"),
        ("kind: ClusterConfiguration\napiVersion: kubeadm.k8s.io/v1beta3\nfooBar: 1", 'unknown field "fooBar"'),
        ("kind: InitConfiguration\napiVersion: kubeadm.k8s.io/v1beta3\nnodeRegistration: 1", "nodeRegistration"),
        ("a: [", "is not YAML"),
    ):
        old.write_text(text)
        assert config_command.main(["migrate", f"--old-config={old}"]) == 1
        assert problem in capsys.readouterr().err
    assert config_command.main(["migrate"]) == 1
    assert config_command.main(["migrate", "--old-config=/none"]) == 1
    assert '--old-config: unable to read "/none"' in capsys.readouterr().err


def test_a_file_of_the_version_before_is_refused_with_the_command_that_migrates_it():
    with pytest.raises(ConfigurationError, match=r"`tiphys config migrate --old-config cfg\.yaml"):
        documents.read_text("apiVersion: kubeadm.k8s.io/v1beta3\nkind: InitConfiguration", "cfg.yaml")
