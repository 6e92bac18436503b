"""Batches of nftables commands in this process: that they arrive in the kernel, and what a wrong one says."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess

import pytest

from tests.proxy.lab import Lab, lab
from tiphys.proxy.libnftables import Libnftables, Tools
from tiphys.runtime.system.hosttools import CommandError

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("nft"), reason="needs root and nft"),
]


def listing(net: Lab) -> str:
    return asyncio.run(net.run(("nft", "list", "ruleset")))


def test_a_batch_is_one_transaction_and_an_error_is_said() -> None:
    with lab() as net:
        nft = net.inside(net.client, Libnftables)
        nft.execute("add table ip one\nadd chain ip one c\n")
        with pytest.raises(CommandError, match="No such file"):
            nft.execute("add table ip two\nflush chain ip none c\n")
        with pytest.raises(CommandError, match="syntax error"):
            nft.execute("add nonsense\n")
        nft.execute("add rule ip one c accept\n")
        made = subprocess.run(
            ("ip", "netns", "exec", net.client, "nft", "list", "ruleset"), capture_output=True, text=True, check=True
        ).stdout
        assert "chain c {\n\t\taccept" in made
        assert "two" not in made


def test_what_is_no_small_batch_goes_to_a_process() -> None:
    assert "nftables" in asyncio.run(Tools()(("nft", "--version")))
    large = "# a long comment\n" * 10_000
    assert asyncio.run(Tools()(("nft", "-f", "-"), large)) == ""
