"""The images of the control plane: pulled if they are missing, as the pull policy says.

Source: https://kubernetes.io/docs/reference/setup-tools/kubeadm/implementation-details/#preflight-checks
"""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import urlsplit

from tiphys.cluster.kubeadm.configuration.defaults import IMAGE_REPOSITORY
from tiphys.cluster.kubeadm.preflight.checks import Check, Findings
from tiphys.kubelet.runtime.cri import CRIClient
from tiphys.kubelet.runtime.service import RuntimeFailure


def pulled(url: str, images: Sequence[str], policy: str) -> Check:
    """Whether all images are there, or could be pulled."""

    async def look() -> Findings:
        client = CRIClient(urlsplit(url).path)
        findings = Findings()
        try:
            for image in images:
                if problem := await _ensure(client, image, policy, urlsplit(url).path):
                    findings.errors.append(problem)
        except RuntimeFailure as error:
            findings.errors.append(f"could not connect to the container runtime at {url}: {error}")
        finally:
            await client.close()
        return findings

    return Check("ImagePull", look)


async def _ensure(client: CRIClient, image: str, policy: str, socket: str) -> str:
    """What is wrong; empty if the image is there."""
    if policy != "Always" and await client.image_status(image) is not None:
        return ""
    if image.startswith(f"{IMAGE_REPOSITORY}/"):
        return (
            f"image {image} is not in the container runtime, and no registry has it: make it with `tiphys image build`,"
            " and import it into this runtime"
        )
    if policy == "Never":
        return f"image {image} is not in the container runtime, and imagePullPolicy is Never; import it"
    try:
        await client.pull_image(image)
    except RuntimeFailure as error:
        return f"failed to pull image {image}: {error}; import it, or name a registry that has it: --image-repository"
    return ""
