"""Three control planes and a worker, and kill -9 of all that runs on the leader: how long kubectl waits, what is lost.

By hand, as root: ``python -m bench.failover [address|controllers]``, by what the node that is killed leads: the virtual
address, or the controllers (and mostly etcd, which began there). Each node is a namespace of its own
(tests/kubeadmnode.py), with real containerd and etcd. A writer on the worker creates ConfigMaps through the virtual
address all the time, and notes each that was acknowledged; in the end each of those has to be there.
"""

from __future__ import annotations

import sys

from tests import lastingcluster
from tests.kubeadmnode import Machines, Node, machines


def main(what: str) -> int:
    with machines("failover") as made:
        first = made.add("cp1")
        first.import_image()
        print(f"init took {lastingcluster.init(first):.1f} s", flush=True)
        authority = lastingcluster.pin(first)
        for name in ("cp2", "cp3", "w1"):
            node = made.add(name)
            node.import_image()
            took = lastingcluster.join(node, authority, control_plane=name.startswith("cp"))
            print(f"join of {name} took {took:.1f} s", flush=True)
        worker = made.nodes["w1"]
        lastingcluster.let_administer(worker, first)
        print(worker.kubectl("get", "pods", "-n", "kube-system", "-o", "wide"), flush=True)
        return _fail_over(made, worker, what)


def _fail_over(made: Machines, worker: Node, what: str) -> int:
    leaders = lastingcluster.leaders(worker)
    victim = leaders[lastingcluster.LEASES[what]]
    print(f"{', '.join(f'{name}: {node}' for name, node in leaders.items())}; killing {victim}", flush=True)
    outage = lastingcluster.kill(made, victim, worker)
    print(f"kubectl answered again after {outage.answered:.1f} s, a hundred more writes were acknowledged after "
          f"{outage.writing:.1f} s")  # fmt: skip
    print(f"{outage.acknowledged} writes were acknowledged, {len(outage.lost)} of them are lost")
    return 1 if outage.lost or outage.answered > 10 else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1] if sys.argv[1:] else "controllers"))
