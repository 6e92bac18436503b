"""Boots the virtual machine and prints what it tells: `python -m tests.vm.run [--folder DIR] [--accel kvm]`.

Needs root, qemu-system-x86 and mmdebstrap. Its processor is software unless ``--accel`` says otherwise: that works
everywhere, and takes ten times as long.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from tests.vm.image import Image, build, left

SECONDS = 3 * 3600.0


def boot(image: Image, told: Path, accelerator: str, only: Sequence[str] = ()) -> list[str]:
    """What the machine told until it powered off. Raises ``subprocess.TimeoutExpired``."""
    told.unlink(missing_ok=True)
    command = ["qemu-system-x86_64", "-nodefaults", "-no-user-config", "-display", "none", "-smp", "2", "-m", "3072"]
    command += ["-machine", "q35", "-accel", accelerator, "-cpu", "max"]
    command += ["-kernel", image.kernel, "-initrd", image.initrd]
    words = ["root=/dev/vda rw console=ttyS1 quiet panic=-1 net.ifnames=0", *(f"tiphys.only={text}" for text in only)]
    command += ["-append", " ".join(words)]
    command += ["-drive", f"file={image.disk},format=raw,if=virtio,cache=unsafe"]
    command += ["-nic", "user,model=virtio-net-pci,restrict=on"]
    command += ["-serial", f"file:{told}", "-serial", f"file:{told}.console"]
    with subprocess.Popen(list(map(str, command)), stdin=subprocess.DEVNULL) as machine:
        try:
            _follow(machine, told)
        finally:
            machine.kill()
    return told.read_text(errors="replace").splitlines()


def _follow(machine: subprocess.Popen[bytes], told: Path) -> None:
    deadline, shown = time.monotonic() + SECONDS, 0
    while machine.poll() is None:
        text = told.read_text(errors="replace") if told.exists() else ""
        print(text[shown:], end="", flush=True)
        shown = len(text)
        if time.monotonic() > deadline:
            raise subprocess.TimeoutExpired("qemu", SECONDS)
        time.sleep(1)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path("/var/tmp/tiphys-vm"), help="for the disk and its parts")
    parser.add_argument("--accel", default="tcg,thread=multi", help="as qemu's; kvm, where the kernel has it")
    parser.add_argument("--only", action="append", default=[], help="a step by part of its name, as node-tests")
    parser.add_argument("--again", action="store_true", help="boot the disk as the last run left it")
    arguments = parser.parse_args(argv)
    folder: Path = arguments.folder
    if os.geteuid() != 0:
        parser.error("root is needed to make the disk")
    folder.mkdir(parents=True, exist_ok=True)
    image = left(folder) if arguments.again else build(folder)
    lines = boot(image, folder / "told", arguments.accel, arguments.only)
    failed = [line for line in lines if line.startswith("FAIL")]
    return 1 if failed or not any("second boot" in line for line in lines) else 0


if __name__ == "__main__":
    sys.exit(main())
