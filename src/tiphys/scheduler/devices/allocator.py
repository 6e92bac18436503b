"""The search for devices: every request of every claim gets what it asks for, or there is no solution on this node.

One device after another is tried, in order, and given back if nothing comes of it; the first full solution is the
answer. Devices of one request are tried in one order only, as their order means nothing. The number of steps has a
bound, as the search may take as long as there are combinations.

Source: https://kubernetes.io/docs/concepts/scheduling-eviction/dynamic-resource-allocation/ and KEP-4381, 4815, 4816
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum

from tiphys.api.meta.objects import key_of, name_of
from tiphys.api.meta.quantity import Quantity
from tiphys.api.object import Object
from tiphys.scheduler.devices import capacity
from tiphys.scheduler.devices.attributes import SelectorError
from tiphys.scheduler.devices.constraints import Constraint
from tiphys.scheduler.devices.matching import Matches
from tiphys.scheduler.devices.pools import Candidate, DeviceId, Pool, Reached, SliceIndex, amounts, reaches
from tiphys.scheduler.devices.requests import MAX_DEVICES, AllocationError, Choice, Request, RequestReader
from tiphys.scheduler.devices.results import Chosen, allocation
from tiphys.scheduler.devices.state import Given

MAX_DEPTH = 600
"""How many devices all claims of a pod may ask for: each is one step deeper into the search."""

INVALID_POOLS = "invalid resource pools were encountered"


class NoAllocation(Exception):
    """Not on this node; another may have what is needed."""


class OutOfSteps(Exception):
    """The search has taken all the steps that it may."""


class _Outcome(Enum):
    DONE = "done"
    NONE = "none"
    TOO_MANY = "too many devices"
    """More devices than an allocation can hold: other devices for the requests before would not help."""


@dataclass(slots=True)
class Budget:
    """The steps that are left to the search, on all nodes together."""

    left: int
    taken: int = 0

    def step(self) -> None:
        self.taken += 1
        if self.taken > self.left:
            raise OutOfSteps


class Allocator:
    """For one pod: the same slices and the same allocated devices for each node that is looked at.

    ``new_id`` makes the identity of a share of a device.
    """

    def __init__(
        self,
        *,
        index: SliceIndex,
        given: Given,
        device_class: Callable[[str], Object | None],
        new_id: Callable[[], str],
        budget: Budget,
        known_matches: Matches,
    ) -> None:
        self._index = index
        self._given = given
        self._device_class = device_class
        self._new_id = new_id
        self.budget = budget
        self.matches = known_matches

    def allocate(self, node: Reached, claims: Sequence[Object]) -> list[Object] | None:
        """``status.allocation`` for each claim, or None.

        Raises ``AllocationError``, ``NoAllocation``, ``OutOfSteps``.
        """
        pools = self._index.pools(node)
        search = _Search(self, node, pools, claims)
        if sum(choice.least for choices in search.choices for choice in choices) > MAX_DEPTH:
            raise AllocationError(f"the pod's claims ask for more than {MAX_DEPTH} devices")
        if search.run():
            return [
                allocation(claim, search.choices[index], search.chosen[index], node.name, self._new_id)
                for index, claim in enumerate(claims)
            ]
        if any(pool.invalid for pool in pools):
            raise NoAllocation(INVALID_POOLS)
        return None

    @property
    def given(self) -> Given:
        return self._given

    def device_class(self, name: str) -> Object | None:
        return self._device_class(name)


@dataclass(slots=True)
class _Taken:
    """What the solution so far takes away from everybody else."""

    claims: dict[DeviceId, set[int]] = field(default_factory=dict)
    """Which of the claims have a device for themselves."""
    capacity: dict[DeviceId, dict[str, int]] = field(default_factory=dict)
    shares: dict[DeviceId, int] = field(default_factory=dict)
    counters: dict[tuple[str, str], dict[str, dict[str, int]]] = field(default_factory=dict)
    """By pool, counter set and counter."""


class _Search:
    def __init__(self, allocator: Allocator, node: Reached, pools: Sequence[Pool], claims: Sequence[Object]) -> None:
        self._allocator = allocator
        self._given = allocator.given
        self._node = node
        self._candidates = [c for pool in pools if pool.usable for c in pool.candidates]
        self._claims = claims
        self._taken = _Taken()
        self._selected: dict[tuple[int, DeviceId], bool] = {}
        self.choices: list[list[Choice]] = []
        reader = RequestReader(allocator.device_class, pools, self._may_have)
        self.choices += map(reader.read, claims)
        self._constraints = [_constraints(claim) for claim in claims]
        self.chosen: list[list[Chosen]] = [[] for _ in claims]
        self._available: dict[tuple[str, str], dict[str, dict[str, int]]] = {}

    def run(self) -> bool:
        return self._next(0, 0, None, 0, 0) is _Outcome.DONE

    def _next(self, claim: int, request: int, option: int | None, device: int, start: int) -> _Outcome:
        """Find the next device, and all after it. ``option`` is the alternative that is tried, None before any is;
        ``device`` counts within the request, whose devices are looked for from the candidate ``start`` on."""
        self._allocator.budget.step()
        if claim == len(self._claims):
            return _Outcome.DONE
        if request == len(self.choices[claim]):
            outcome = self._next(claim + 1, 0, None, 0, 0)
            return _Outcome.NONE if outcome is _Outcome.TOO_MANY else outcome
        choice = self.choices[claim][request]
        if choice.listed and option is None:
            return self._first_available(claim, request, choice)
        wanted = choice.options[option or 0]
        if wanted.all is not None and not wanted.all:
            return _Outcome.NONE
        if device >= wanted.amount:
            return self._next(claim, request + 1, None, 0, 0)
        if len(self.chosen[claim]) + wanted.amount - device > MAX_DEVICES:
            return _Outcome.TOO_MANY
        if wanted.all is not None:
            if not self._take(claim, wanted, wanted.all[device], must=True):
                return _Outcome.NONE
            outcome = self._next(claim, request, option, device + 1, 0)
            if outcome is not _Outcome.DONE:
                self._give_back(claim, wanted, wanted.all[device])
            return outcome
        for position in range(start, len(self._candidates)):
            candidate = self._candidates[position]
            if self._in_use(claim, wanted, candidate) or not self._may_have(wanted, candidate):
                continue
            if not self._take(claim, wanted, candidate, must=False):
                continue
            outcome = self._next(claim, request, option, device + 1, position + 1)
            if outcome is _Outcome.DONE:
                return outcome
            self._give_back(claim, wanted, candidate)
            if outcome is _Outcome.TOO_MANY:
                return outcome
        return _Outcome.NONE

    def _first_available(self, claim: int, request: int, choice: Choice) -> _Outcome:
        every_one_is_too_many = True
        for option in range(len(choice.options)):
            outcome = self._next(claim, request, option, 0, 0)
            if outcome is _Outcome.TOO_MANY:
                continue
            every_one_is_too_many = False
            if outcome is _Outcome.DONE:
                choice.chosen = option
                return outcome
        return _Outcome.TOO_MANY if every_one_is_too_many else _Outcome.NONE

    def _in_use(self, claim: int, wanted: Request, candidate: Candidate) -> bool:
        claims = self._taken.claims.get(candidate.id)
        if wanted.admin:
            return bool(claims) and claim in (claims or ())
        return bool(claims) or self._given.is_taken(candidate.id)

    def _may_have(self, wanted: Request, candidate: Candidate) -> bool:
        """Whether selectors, node and capacity let the request have the device. Raises ``AllocationError``."""
        key = (id(wanted), candidate.id)
        if key not in self._selected:
            self._selected[key] = self._select(wanted, candidate)
        return self._selected[key] and capacity.fits(wanted.capacity, candidate.device, self._used(candidate.id))

    def _select(self, wanted: Request, candidate: Candidate) -> bool:
        class_name = name_of(wanted.device_class)
        own = wanted.device_class["spec"].get("selectors") or ()
        for holder, selectors in ((f"class {class_name}", own), (f"claim {wanted.claim}", wanted.selectors)):
            for index, selector in enumerate(selectors):
                try:
                    if not self._allocator.matches.holds(
                        (selector.get("cel") or {}).get("expression") or "", candidate
                    ):
                        return False
                except SelectorError as error:
                    raise AllocationError(f"{holder}: selector #{index}: {error}") from error
        return not candidate.slice["spec"].get("perDeviceNodeSelection") or reaches(candidate.device, self._node)

    def _used(self, device: DeviceId) -> Mapping[str, int]:
        """How much of a device's capacity is used by other claims, and by those of this solution."""
        given, taken = self._given.capacity(device), self._taken.capacity.get(device)
        return given if not taken else {name: given.get(name, 0) + taken.get(name, 0) for name in {*given, *taken}}

    # Taking a device, and giving it back.

    def _take(self, claim: int, wanted: Request, candidate: Candidate, *, must: bool) -> bool:
        """Whether it was taken. ``must``: raise ``AllocationError`` if a constraint is against it."""
        if (not candidate.shared or not wanted.admin) and self._in_use(claim, wanted, candidate):
            return False
        if not self._counters_suffice(candidate) or not wanted.takes(candidate.device):
            return False
        if not capacity.fits(wanted.capacity, candidate.device, self._used(candidate.id)):
            return False
        added: list[Constraint] = []
        for constraint in self._concerned(claim, wanted):
            if not constraint.add(candidate):
                if must:
                    message = f"cannot add device {candidate.id} because a claim constraint would not be satisfied"
                    where = f"claim {key_of(self._claims[claim])}, request {wanted.name}"
                    raise AllocationError(f"{where}: {message}")
                for one in added:
                    one.remove_last()
                return False
            added.append(constraint)
        self._count(candidate, 1)
        consumed: dict[str, Quantity] = {}
        if candidate.shared:
            consumed = capacity.consumed(wanted.capacity, candidate.device)
            self._share(candidate.id, consumed, 1)
        else:
            self._taken.claims.setdefault(candidate.id, set()).add(claim)
        self.chosen[claim].append(Chosen(candidate, wanted, consumed))
        return True

    def _give_back(self, claim: int, wanted: Request, candidate: Candidate) -> None:
        chosen = self.chosen[claim].pop()
        for constraint in self._concerned(claim, wanted):
            constraint.remove_last()
        if candidate.shared:
            self._share(candidate.id, chosen.consumed, -1)
        else:
            self._taken.claims[candidate.id].discard(claim)
        self._count(candidate, -1)

    def _concerned(self, claim: int, wanted: Request) -> list[Constraint]:
        request, option = (wanted.parent, wanted.name) if wanted.parent else (wanted.name, "")
        return [constraint for constraint in self._constraints[claim] if constraint.concerns(request, option)]

    def _share(self, device: DeviceId, consumed: Mapping[str, Quantity], sign: int) -> None:
        used = self._taken.capacity.setdefault(device, {})
        for name, amount in consumed.items():
            used[name] = used.get(name, 0) + sign * amount.nano
        self._taken.shares[device] = self._taken.shares.get(device, 0) + sign

    # Counters that devices of a pool share.

    def _uses_counters(self, candidate: Candidate) -> bool:
        """A device that is shared uses them once, however many have a part of it."""
        if not candidate.device.get("consumesCounters"):
            return False
        others = self._given.is_used(candidate.id) or self._taken.shares.get(candidate.id, 0)
        return not (candidate.shared and others)

    def _counters_suffice(self, candidate: Candidate) -> bool:
        if not self._uses_counters(candidate):
            return True
        left = self._left(candidate.pool)
        taken = self._taken.counters.get((candidate.id.driver, candidate.id.pool), {})
        return all(
            taken.get(name, {}).get(counter, 0) + amount <= left[name][counter]
            for name, counter, amount in _counters(candidate)
        )

    def _count(self, candidate: Candidate, sign: int) -> None:
        if not self._uses_counters(candidate):
            return
        taken = self._taken.counters.setdefault((candidate.id.driver, candidate.id.pool), {})
        for name, counter, amount in _counters(candidate):
            of_set = taken.setdefault(name, {})
            of_set[counter] = of_set.get(counter, 0) + sign * amount

    def _left(self, pool: Pool) -> dict[str, dict[str, int]]:
        """What allocated devices have left of the pool's counters; less than nothing if they use too much."""
        key = (pool.driver, pool.name)
        if key not in self._available:
            left = {name: dict(counters) for name, counters in pool.counters.items()}
            for candidate in (*pool.candidates, *pool.elsewhere):
                if candidate.device.get("consumesCounters") and self._given.is_used(candidate.id):
                    for name, counter, amount in _counters(candidate):
                        left[name][counter] -= amount
            self._available[key] = left
        return self._available[key]


def _counters(candidate: Candidate) -> list[tuple[str, str, int]]:
    return [
        (used["counterSet"], counter, amount)
        for used in candidate.device.get("consumesCounters") or ()
        for counter, amount in amounts(used.get("counters")).items()
    ]


def _constraints(claim: Object) -> list[Constraint]:
    made = []
    for index, described in enumerate((claim["spec"].get("devices") or {}).get("constraints") or ()):
        if described.get("matchAttribute") is None and described.get("distinctAttribute") is None:
            message = f"constraint #{index}: empty constraint (unsupported constraint type?)"
            raise AllocationError(f"claim {key_of(claim)}, {message}")
        made.append(Constraint(described))
    return made
