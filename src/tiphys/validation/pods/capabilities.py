"""What this process allows pods to be, whoever may create them: upstream's capabilities of a server.

Source: https://kubernetes.io/docs/reference/command-line-tools-reference/kube-apiserver/ (``--allow-privileged``)
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Capabilities:
    """``privileged``: whether containers may be privileged, and Windows containers processes of their host."""

    privileged: bool = True


ALLOWED = Capabilities()
"""Set once, by the command's flags, before anything is served."""
