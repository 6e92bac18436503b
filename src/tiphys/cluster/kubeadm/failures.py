"""What ends a command of this package: one hierarchy, whose messages name the field, flag or file and the remedy."""

from __future__ import annotations


class KubeadmError(Exception):
    """A phase or command cannot go on; the message is what the user reads after ``error:``."""


class ConfigurationError(KubeadmError):
    """A configuration document or a flag that cannot be used."""


class PreflightError(KubeadmError):
    """The machine is not fit; each check has been printed."""
