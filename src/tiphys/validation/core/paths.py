"""Paths on a file system, as fields of volumes and mounts name them.

Source: https://kubernetes.io/docs/reference/generated/kubernetes-api/v1.36/#volumemount-v1-core
"""

from __future__ import annotations

from tiphys.api import fielderrors as field
from tiphys.validation.shared.common import Errors

FILE_MODE = "must be a number between 0 and 0777 (octal), both inclusive"


def no_backsteps(errs: Errors, target: str, path: str) -> None:
    if ".." in target and ".." in target.split("/"):
        errs.append(field.invalid(path, target, "must not contain '..'"))


def local_descending(errs: Errors, target: str, path: str) -> None:
    """A relative path without ``..``."""
    if target.startswith("/"):
        errs.append(field.invalid(path, target, "must be a relative path"))
    no_backsteps(errs, target, path)


def local_non_reserved(errs: Errors, target: str, path: str) -> None:
    """Names that start with two dots are kept for the atomic writer of volumes."""
    local_descending(errs, target, path)
    if target.startswith("..") and not target.startswith("../"):
        errs.append(field.invalid(path, target, "must not start with '..'"))


def file_mode(errs: Errors, mode: int | None, path: str) -> None:
    if mode is not None and not 0 <= mode <= 0o777:
        errs.append(field.invalid(path, mode, FILE_MODE))
