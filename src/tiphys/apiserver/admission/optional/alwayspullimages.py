"""AlwaysPullImages: every image is pulled with the pod's own credentials, so that nobody runs one that is only there
because somebody else pulled it.

Source: https://kubernetes.io/docs/reference/access-authn-authz/admission-controllers/#alwayspullimages
"""

from __future__ import annotations

from collections.abc import Iterator

from tiphys.api import errors
from tiphys.api.fielderrors import FieldError, aggregate, not_supported
from tiphys.api.object import Object
from tiphys.apiserver.admission.attributes import CREATE, UPDATE, Attributes
from tiphys.apiserver.admission.plugin import Plugin, forbid
from tiphys.validation.pods.podoptions import all_containers

_ALWAYS = "Always"


class AlwaysPullImages(Plugin):
    resources = frozenset((("", "pods"),))
    operations = frozenset((CREATE, UPDATE))

    async def admit(self, attributes: Attributes) -> None:
        if _has_no_new_image(attributes):
            return
        spec = attributes.new()["spec"]
        for container, _ in all_containers(spec):
            container["imagePullPolicy"] = _ALWAYS
        for image, _ in _image_volumes(spec):
            image["pullPolicy"] = _ALWAYS

    async def validate(self, attributes: Attributes) -> None:
        if _has_no_new_image(attributes):
            return
        problems = [forbid(attributes, problem).message for problem in _problems(attributes.new()["spec"])]
        if problems:
            raise errors.from_code(500, aggregate(problems))


def _problems(spec: Object) -> Iterator[FieldError]:
    for container, path in all_containers(spec):
        if container.get("imagePullPolicy") != _ALWAYS:
            yield not_supported(f"spec.{path}.imagePullPolicy", container.get("imagePullPolicy", ""), (_ALWAYS,))
    for image, path in _image_volumes(spec):
        if image.get("pullPolicy") != _ALWAYS:
            yield not_supported(f"spec.{path}.image.pullPolicy", image.get("pullPolicy", ""), (_ALWAYS,))


def _image_volumes(spec: Object) -> Iterator[tuple[Object, str]]:
    for number, volume in enumerate(spec.get("volumes") or ()):
        if volume.get("image") is not None:
            yield volume["image"], f"volumes[{number}]"


def _has_no_new_image(attributes: Attributes) -> bool:
    """Whether an update runs nothing that did not run before."""
    if attributes.operation != UPDATE or attributes.old is None:
        return False
    before = _images(attributes.old["spec"])
    return _images(attributes.new()["spec"]) <= before


def _images(spec: Object) -> set[str]:
    return {container.get("image", "") for container, _ in all_containers(spec)}
