"""Which images a pod may start from only if it has shown a credential for them. Pure.

Source: KEP-2535, https://kubernetes.io/docs/concepts/containers/images/#ensureimagepullcredentialverification
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from enum import StrEnum

from tiphys.api.gotext import quote
from tiphys.kubelet.container.image_names import ImageNameError, without_tag


class VerificationPolicy(StrEnum):
    NEVER = "NeverVerify"
    NEVER_PRELOADED = "NeverVerifyPreloadedImages"
    NEVER_LISTED = "NeverVerifyAllowlistedImages"
    ALWAYS = "AlwaysVerify"


class Verification:
    """``allowed`` are names of images without tags, or beginnings of names that end with ``/*``."""

    def __init__(self, policy: VerificationPolicy, allowed: Iterable[str] = ()) -> None:
        """Raises ``ValueError`` for a wrong pattern."""
        patterns = [_pattern(text) for text in allowed]
        self._policy = policy
        self._names = {text for text, prefix in patterns if not prefix}
        self._prefixes = tuple(text for text, prefix in patterns if prefix)

    def needed(self, image: str, *, pulled: bool) -> bool:
        """Whether credentials must be shown for an image that is there; ``pulled``: a kubelet has pulled it."""
        match self._policy:
            case VerificationPolicy.NEVER:
                return False
            case VerificationPolicy.NEVER_PRELOADED:
                return pulled
            case VerificationPolicy.NEVER_LISTED:
                return not self._listed(image)
            case VerificationPolicy.ALWAYS:
                return True

    def _listed(self, image: str) -> bool:
        try:
            name = without_tag(image)
        except ImageNameError:
            name = image
        return name in self._names or name.startswith(self._prefixes)


def problems(policy: str, allowed: Sequence[str]) -> list[str]:
    """What is wrong with both fields, as upstream says it."""
    wrong = []
    if policy not in [*VerificationPolicy]:
        *first, last = (quote(one) for one in VerificationPolicy)
        wrong.append(
            f"invalid configuration: option {quote(policy)} specified for imagePullCredentialsVerificationPolicy. "
            f"Valid options are {', '.join(first)} or {last}"
        )
    if allowed and policy != VerificationPolicy.NEVER_LISTED:
        wrong.append(
            "invalid configuration: can't set `preloadedImagesVerificationAllowlist` if"
            ' `imagePullCredentialsVertificationPolicy` is not "NeverVerifyAllowlistedImages"'
        )
        return wrong
    try:
        for text in allowed:
            _pattern(text)
    except ValueError as error:
        head = "invalid configuration: invalid image pattern in `preloadedImagesVerificationAllowlist`"
        wrong.append(f"{head}: {error}")
    return wrong


def _pattern(text: str) -> tuple[str, bool]:
    """A name, or the beginning of names, and which of both. Raises ``ValueError``."""
    if text != text.strip():
        raise ValueError(f"leading/trailing spaces are not allowed: {text}")
    prefix = text.endswith("/*")
    name = text.removesuffix("*") if prefix else text
    if not name:
        raise ValueError(f"the supplied pattern is too short: {text}")
    if "*" in name:
        raise ValueError(f"not a valid wildcard pattern, only patterns ending with '/*' are allowed: {text}")
    if prefix:
        if len(name) == 1:
            raise ValueError("at least registry hostname is required")
        return name, True
    try:
        plain = without_tag(name)
    except ImageNameError as error:
        raise ValueError(f"failed to parse as an image name: {error}") from error
    if plain != name:
        raise ValueError(f"neither tag nor digest is accepted in an image reference: {text}")
    return name, False
