"""What the commands of kubeadm's kind share: flags, phases by name, one line for an error and exit status 1.

Source: https://kubernetes.io/docs/reference/setup-tools/kubeadm/
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from tiphys.cluster.kubeadm.failures import ConfigurationError, KubeadmError
from tiphys.cluster.kubeadm.layout import ADMIN, TEMPORARY, HostRoot
from tiphys.runtime import logs
from tiphys.runtime.flags import CommandParser, parse_bool


class KubeadmParser(CommandParser):
    """Flags with Go's syntax; only what was given is in the result, by the flag's own name."""

    def __init__(self, prog: str, description: str, **more: Any) -> None:
        super().__init__(
            prog,
            description,
            argument_default=argparse.SUPPRESS,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            **more,
        )
        self.text("rootfs", "folder that stands for / where files are read and written", metavar="DIR")
        self.add_argument("-v", "--v", type=int, dest="v", metavar="LEVEL", help="verbosity of logs, 0 to 10")

    def text(self, name: str, help: str, **more: Any) -> None:
        self.add_argument(f"--{name}", dest=name, help=help, **more)

    def number(self, name: str, help: str) -> None:
        self.add_argument(f"--{name}", dest=name, type=int, metavar="NUMBER", help=help)

    def switch(self, name: str, help: str, short: str = "") -> None:
        names = [f"-{short}", f"--{name}"] if short else [f"--{name}"]
        self.add_argument(*names, dest=name, nargs="?", const=True, type=parse_bool, metavar="true|false", help=help)

    def many(self, name: str, help: str) -> None:
        """May be repeated, and take several values with commas between."""
        self.add_argument(f"--{name}", dest=name, action=_Words, metavar="A,B,…", help=help)

    def error(self, message: str) -> NoReturn:
        raise ConfigurationError(f"{message}; see {self.prog} --help")

    def values(self, argv: Sequence[str]) -> dict[str, Any]:
        """The flags that were given. Raises ``ConfigurationError``."""
        given, rest = self.parse_known_args(list(argv))
        if rest:
            kind = "flag" if rest[0].startswith("-") else "argument"
            raise ConfigurationError(f"unknown {kind}: {rest[0].split('=', 1)[0]}; see {self.prog} --help")
        return vars(given)


class _Words(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, value: Any, *_: Any) -> None:
        words = [word.strip() for word in str(value).split(",") if word.strip()]
        setattr(namespace, self.dest, [*getattr(namespace, self.dest, []), *words])


def run(main: Callable[[], int | None]) -> int:
    """Run a command; an error of its kind is one message on standard error, and exit status 1 as kubeadm's."""
    try:
        return main() or 0
    except KubeadmError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"error: {error.filename}: {error.strerror}" if error.filename else f"error: {error}", file=sys.stderr)
        return 1


def split_phase(argv: Sequence[str], command: str) -> tuple[str | None, list[str]]:
    """The path of the phase that ``COMMAND phase WORDS… flags`` names, and the flags; None if it is the whole command.

    ``all`` at its end stands for every child, as does nothing.
    """
    words = list(argv)
    if not words or words[0] != "phase":
        return None, words
    end = next((at for at, word in enumerate(words) if word.startswith("-")), len(words))
    path = [word for part in words[1:end] for word in part.split("/")]
    if path and path[-1] == "all":
        path.pop()
    if not path and words[end : end + 1] not in (["-h"], ["--help"]):
        raise ConfigurationError(f"{command} phase needs the name of a phase; `{command} phase list` shows them")
    return "/".join(path) or "list", words[end:]


def places_of(given: Mapping[str, Any]) -> HostRoot:
    return HostRoot(Path(given.get("rootfs") or "/"))


def configure_logs(given: Mapping[str, Any]) -> None:
    logs.configure(int(given.get("v") or 0))


def warn(text: str) -> None:
    print(f"warning: {text}", file=sys.stderr, flush=True)


def dry_run_places(places: HostRoot, prefix: str) -> HostRoot:
    """A folder that stands for / while nothing is to be changed."""
    parent = places.on_disk(TEMPORARY)
    parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    folder = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
    warn(f"Using dry-run directory {folder}; it holds keys: remove it when you have seen it")
    return HostRoot(folder)


def kubeconfig_of(given: Mapping[str, Any], places: HostRoot) -> Path:
    """The administrator's kubeconfig: as given, or the node's. Raises ``ConfigurationError`` if it is missing."""
    asked = given.get("kubeconfig")
    path = Path(asked) if asked else places.on_disk(ADMIN)
    if not path.exists():
        raise ConfigurationError(
            f"failed to load admin kubeconfig: open {path}: no such file or directory; run this on a control-plane"
            " node, or name the file: --kubeconfig"
        )
    return path
