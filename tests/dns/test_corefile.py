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


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (".:53 {\n rewrite name a b\n}", "plugin rewrite is not supported"),
        (".:53 {\n}\nexample.com:53 {\n}", r"one server block.*\.:53, example.com:53"),
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
