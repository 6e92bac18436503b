"""Numbers of the protocol's ``Signal`` enum, by the names that a pod's ``lifecycle.stopSignal`` uses.

Source: https://github.com/kubernetes/cri-api
"""

from __future__ import annotations

_NAMES = (
    "ABRT ALRM BUS CHLD CLD CONT FPE HUP ILL INT IO IOT KILL PIPE POLL PROF PWR QUIT SEGV STKFLT STOP SYS TERM TRAP "
    "TSTP TTIN TTOU URG USR1 USR2 VTALRM WINCH XCPU XFSZ RTMIN"
)
_STANDARD = [f"SIG{name}" for name in _NAMES.split()]
_REALTIME = [f"SIGRTMIN+{n}" for n in range(1, 16)] + [f"SIGRTMAX-{n}" for n in range(14, 0, -1)] + ["SIGRTMAX"]

SIGNALS = {name: number for number, name in enumerate([*_STANDARD, *_REALTIME], start=1)}
NAMES = {number: name for name, number in SIGNALS.items()}
