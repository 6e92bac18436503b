"""``tiphys etcdctl``: etcd's command-line client, API version 3: its commands, flags, environment and output formats.

Source: https://github.com/etcd-io/etcd/blob/main/etcdctl/README.md
"""

from tiphys.store.etcdctl.main import main

__all__ = ["main"]
