"""Remembers whose credentials an image was pulled with, and says which pod must show some before it may start from it.

No step between reading a record and writing it waits, so records need no locks. Source: KEP-2535.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Awaitable, Callable, Iterable

from tiphys.kubelet.container.image_names import ImageNameError, without_tag
from tiphys.kubelet.images.figures import ImageFigures
from tiphys.kubelet.images.keyring import Credential, PodCredentials
from tiphys.kubelet.images.records import Access, BrokenRecord, PulledRecord, PullRecords
from tiphys.kubelet.images.verification import Verification
from tiphys.kubelet.runtime.service import Image
from tiphys.runtime.clock import Clock

log = logging.getLogger(__name__)

MOST_SECRETS = 100
"""So many Secrets of an image are added to a record when they merely fit; more only when they have pulled."""


class PullManager:
    def __init__(self, records: PullRecords, verification: Verification, clock: Clock, figures: ImageFigures) -> None:
        self._records = records
        self._verification = verification
        self._clock = clock
        self._figures = figures
        self._under_way: dict[str, int] = {}

    def begin(self, image: str) -> None:
        """A pull begins; exactly one of ``pulled``, ``failed`` and ``broken_off`` is to follow. Raises ``OSError``."""
        self._records.intend(image)
        self._under_way[image] = self._under_way.get(image, 0) + 1
        self._count()

    def pulled(self, image: str, reference: str, credential: Credential | None) -> None:
        """The image is here, with this credential, or with none."""
        try:
            self._note(image, reference, access_of(credential))
        except (OSError, ImageNameError) as error:
            # The intent stays, so that the image counts as pulled: it is looked at again by the next kubelet.
            log.error("cannot record that image %s was pulled: %s", image, error)
            return
        self._over(image)

    def failed(self, image: str) -> None:
        self._over(image)

    def broken_off(self, image: str) -> None:
        """Nobody waits for the pull any more. The runtime may finish it: the intent stays, so that the image counts as
        pulled by whom nobody knows."""
        self._less(image)

    def _over(self, image: str) -> None:
        if self._under_way.get(image, 0) <= 1:
            try:
                self._records.done(image)
            except OSError as error:
                log.error("cannot remove the record of the pull of image %s: %s", image, error)
                return
        self._less(image)
        self._count()

    def _less(self, image: str) -> None:
        left = self._under_way.get(image, 0) - 1
        if left > 0:
            self._under_way[image] = left
        else:
            self._under_way.pop(image, None)

    async def must_pull(self, image: str, reference: str, credentials: Callable[[], Awaitable[PodCredentials]]) -> bool:
        """Whether a pod must pull an image that is here, to show that it may. ``credentials`` are the pod's, and asked
        for only if they matter; raises what it raises."""
        try:
            record = self._records.get(reference)
            pulled = record is not None or image in self._under_way or self._records.intended(image)
        except (OSError, BrokenRecord) as error:
            log.error("cannot read the records of image %s: %s", image, error)
            return self._checked("error", must=True)
        if not self._verification.needed(image, pulled=pulled):
            return self._checked("credentialPolicyAllowed", must=False)
        access = None if record is None else record.by_name.get(without_tag(image))
        if access is None or access.nobody:
            return self._checked("mustAuthenticate", must=True)
        if access.everybody:
            return self._checked("credentialRecordFound", must=False)
        try:
            shown = await credentials()
        except Exception:
            self._checked("error", must=True)
            raise
        fits, new = fitting(access, shown)
        if new is not None:
            try:
                self._note(image, reference, new)
            except OSError as error:
                log.error("cannot record who may use image %s: %s", image, error)
        return self._checked("credentialRecordFound" if fits else "mustAuthenticate", must=not fits)

    def _checked(self, result: str, *, must: bool) -> bool:
        self._figures.checked(result)
        return must

    def _note(self, image: str, reference: str, access: Access) -> None:
        """Raises ``OSError`` and ``ImageNameError``."""
        now = self._clock.now()
        try:
            known = self._records.get(reference)
        except BrokenRecord as error:
            log.info("the record of image %s is made again: %s", image, error)
            known = None
        record = known or PulledRecord(reference, now)
        merged = record.merged(without_tag(image), access, now)
        if known is None or merged is not known:
            self._records.put(merged)
            self._count()

    def prune(self, present: Iterable[str], until: float) -> None:
        """Forget images that the runtime does not have, by its list of ids of the time ``until``."""
        kept = set(present)
        for record in list(self._records.records()):
            # Records have whole seconds: one that was written in the same second may be newer than the list.
            if record.updated < math.floor(until) and record.reference not in kept:
                try:
                    self._records.remove(record.reference)
                except OSError as error:
                    log.error("cannot remove the record of image %s: %s", record.reference, error)
        self._count()

    def unfinished(self) -> set[str]:
        """The images that were to be pulled, by this kubelet or one before it, and of which the end is not recorded."""
        return set(self._records.intentions())

    def take_over(self, images: Iterable[Image]) -> None:
        """What a kubelet before this one began to pull, and is here: it counts as pulled by whom nobody knows."""
        intended = self.unfinished()
        for image in images if intended else ():
            for name in intended & {*image.tags, *image.digests}:
                try:
                    self._note(name, image.id, Access())
                    self._records.done(name)
                except (OSError, ImageNameError) as error:
                    log.error("cannot record that image %s was pulled: %s", name, error)
        self._count()

    def _count(self) -> None:
        try:
            self._figures.recorded(*self._records.counts())
        except OSError as error:
            log.debug("cannot count the records of images: %s", error)


def access_of(credential: Credential | None) -> Access:
    """Who may use what was pulled with a credential."""
    if credential is not None and credential.secret is not None:
        return Access({credential.secret: credential.digest})
    if credential is not None and credential.account is not None:
        return Access(accounts=frozenset((credential.account,)))
    return Access(everybody=True)


def fitting(access: Access, shown: PodCredentials) -> tuple[bool, Access | None]:
    """Whether one of a pod's credentials is one of those known, and what of it is new, if there is room for it."""
    room = len(access.secrets) < MOST_SECRETS
    known = {digest for digest in access.secrets.values() if digest}
    for where, digest in shown.secrets:
        before = access.secrets.get(where)
        # The same Secret with other contents fits, too: who could write it may use the image.
        if digest in known or (before is not None and room):
            return True, Access({where: digest}) if room and before != digest else None
    return shown.account is not None and shown.account in access.accounts, None
