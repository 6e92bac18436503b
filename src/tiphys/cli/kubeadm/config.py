"""`tiphys config`: kubeadm's documents with their defaults, checked, and the images that they need.

Source: https://kubernetes.io/docs/reference/setup-tools/kubeadm/kubeadm-config/
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import yaml

from tiphys.cli.kubeadm import kubeadmflags
from tiphys.cli.kubeadm.kubeadmflags import KubeadmParser
from tiphys.cluster.kubeadm import images
from tiphys.cluster.kubeadm.configuration import documents, load, migrating
from tiphys.cluster.kubeadm.configuration.documents import Documents
from tiphys.cluster.kubeadm.configuration.dynamic import Host
from tiphys.cluster.kubeadm.failures import ConfigurationError
from tiphys.cluster.kubeadm.layout import write_file

_USAGE = """usage: tiphys config COMMAND [flags]

  print init-defaults|join-defaults|reset-defaults|upgrade-defaults   the documents with every default
  validate --config FILE   check a file: fields, values, versions
  migrate --old-config FILE [--new-config FILE]   write a file of v1beta3 as v1beta4, with every default
  images list              the images that a control plane runs from"""


def main(argv: Sequence[str]) -> int:
    """Run ``tiphys config``; returns the exit status."""
    return kubeadmflags.run(lambda: _main(list(argv)))


def _main(words: list[str]) -> int:
    match words:
        case ["print", kind, *flags] if kind.endswith("-defaults"):
            return _print(kind.removesuffix("-defaults"), flags)
        case ["validate", *flags]:
            return _validate(flags)
        case ["migrate", *flags]:
            return _migrate(flags)
        case ["images", "list", *flags]:
            return _images(flags)
        case [] | ["-h"] | ["--help"]:
            print(_USAGE)
            return 0
    raise ConfigurationError(f'unknown command {" ".join(words[:2])!r} for "tiphys config"; see tiphys config --help')


def _print(kind: str, flags: list[str]) -> int:
    parser = KubeadmParser(f"tiphys config print {kind}-defaults", "Print the documents with every default.")
    parser.many("component-configs", "documents of components to print as well: KubeletConfiguration,…")
    given = parser.values(flags)
    if kind not in ("init", "join", "reset", "upgrade"):
        raise ConfigurationError(f'unknown command "{kind}-defaults" for "tiphys config print"')
    wanted = tuple(given.get("component-configs", ()))
    if unknown := [name for name in wanted if name not in documents.COMPONENTS]:
        known = ", ".join(documents.COMPONENTS)
        raise ConfigurationError(f"--component-configs: {unknown[0]} is not known; use {known}")
    parts = load.printed_defaults(kind, wanted)
    print("---\n".join(yaml.dump(part, Dumper=yaml.CSafeDumper) for part in parts), end="")
    return 0


def _validate(flags: list[str]) -> int:
    parser = KubeadmParser("tiphys config validate", "Check a configuration file.")
    parser.text("config", "the file")
    given = parser.values(flags)
    if not given.get("config"):
        raise ConfigurationError("the --config flag is mandatory")
    host = Host.this()
    load.check_all(documents.read_file(Path(given["config"])), host)
    for warning in host.warnings:
        print(f"warning: {warning}", file=sys.stderr)
    print("ok")
    return 0


def _migrate(flags: list[str]) -> int:
    parser = KubeadmParser("tiphys config migrate", "Write a configuration file in today's version of its API.")
    parser.text("old-config", "the file to read")
    parser.text("new-config", "the file to write; default: standard output")
    given = parser.values(flags)
    if not (old := given.get("old-config")):
        raise ConfigurationError("the --old-config flag is mandatory")
    try:
        data = Path(old).read_bytes()
    except OSError as error:
        raise ConfigurationError(f'--old-config: unable to read "{old}": {error.strerror}') from error
    host = Host.this()
    parts = load.migrated(migrating.migrate(data, old), host)
    text = "---\n".join(yaml.dump(part, Dumper=yaml.CSafeDumper) for part in parts)
    for warning in host.warnings:
        print(f"warning: {warning}", file=sys.stderr)
    if new := given.get("new-config"):
        write_file(Path(new), text.encode())
    else:
        print(text, end="")
    return 0


def _images(flags: list[str]) -> int:
    parser = KubeadmParser("tiphys config images list", "List the images that a control plane runs from.")
    parser.text("config", "the configuration file")
    given = parser.values(flags)
    read: Documents = documents.read_file(Path(given["config"])) if given.get("config") else {}
    made = load.init_configuration(read, Host("node", "127.0.0.2"))
    print("\n".join(images.control_plane_images(made.cluster)))
    return 0
