"""A Corefile: what kubeadm writes is understood, and what this server does not do is refused by name."""

from __future__ import annotations

import pytest

from tiphys.dns.corefile import parse
from tiphys.runtime.component import ConfigError

KUBEADMS = """
.:53 {
    errors
    health {
       lameduck 5s
    }
    ready
    kubernetes cluster.local in-addr.arpa ip6.arpa {
       pods insecure
       fallthrough in-addr.arpa ip6.arpa
       ttl 20  # seconds
    }
    prometheus :9153
    forward . /etc/resolv.conf {
       max_concurrent 1000
    }
    cache 30 {
       disable success cluster.local
       disable denial cluster.local
    }
    loop
    reload
    loadbalance
}
"""


def test_kubeadms_corefile() -> None:
    assert parse(KUBEADMS) == {
        "port": 53,
        "health_addresses": ("0.0.0.0:8080", "0.0.0.0:8181", "0.0.0.0:9153"),
        "cluster_domain": "cluster.local",
        "ttl": 20,
        "resolver_file": "/etc/resolv.conf",
    }


def test_servers_to_ask() -> None:
    assert parse(".:5353 {\n forward . 192.0.2.1 dns://192.0.2.2:54\n}") == {
        "port": 5353,
        "upstreams": ("192.0.2.1", "192.0.2.2:54"),
    }


def test_zones_with_servers_of_their_own() -> None:
    """As the page "Customizing DNS Service" has them, and CoreDNS's shorter form."""
    stub = "consul.local:53 {\n errors\n cache 30\n forward . 10.150.0.1 10.150.0.2:5353\n}"
    short = ".:53 {\n forward Corp.example 192.0.2.7\n forward . 192.0.2.1\n}"
    assert parse(f"{short}\n{stub}") == {
        "port": 53,
        "upstreams": ("192.0.2.1",),
        "stub_zones": (("corp.example", ("192.0.2.7",)), ("consul.local", ("10.150.0.1", "10.150.0.2:5353"))),
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (".:53 {\n rewrite name a b\n}", "plugin rewrite is not supported"),
        (".:53 {\n}\nexample.com:53 {\n}", "zone example.com: it needs `forward"),
        (".:53 {\n}\nexample.com:54 {\n forward . 192.0.2.1\n}", "every zone is served on one port, which is 53"),
        (".:53 {\n}\na.com b.com {\n}", "server block 'a.com b.com': one zone is supported"),
        (".:53 {\n}\na.com {\n kubernetes a.com\n}", "plugin kubernetes is not supported; supported are cache,"),
        (".:53 {\n}\na.com {\n forward . /etc/resolv.conf\n}", "forward a.com: name servers by their addresses"),
        ("example.com:53 {\n}", "one server block for the zone `.` is wanted; the Corefile has: example.com:53"),
        (".:53 {\n kubernetes cluster.local {\n  pods verified\n }\n}", "pods verified is not supported"),
        (".:53 {\n kubernetes cluster.local {\n  endpoint https://a\n }\n}", "kubernetes: option endpoint"),
        (".:53 {\n forward . tls://192.0.2.1\n}", "forward: tls://192.0.2.1 is not supported"),
        (".:53 {\n errors\n", "ends inside a block"),
        (".:53 {\n}\n}", "closes a block that is not open"),
        ("", "the Corefile has: none"),
    ],
)
def test_what_is_not_supported_is_refused_by_name(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse(text)
