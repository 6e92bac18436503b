"""The endpoints that are no verb on a stored object, by group and "resource[/subresource]".

Source: https://kubernetes.io/docs/reference/using-api/api-concepts/
"""

from __future__ import annotations

from tiphys.apiserver.admission.chain import AdmissionChain
from tiphys.apiserver.authn.setup import Authentication
from tiphys.apiserver.authz.setup import Authorization
from tiphys.apiserver.config import Config
from tiphys.apiserver.endpoints.router import Special
from tiphys.apiserver.endpoints.subresources.binding import BindPod
from tiphys.apiserver.endpoints.subresources.componentstatus import ComponentStatuses
from tiphys.apiserver.endpoints.subresources.connect import Connector, NodeDialer
from tiphys.apiserver.endpoints.subresources.eviction import Evict
from tiphys.apiserver.endpoints.subresources.reviews import (
    AUTHENTICATION,
    AUTHORIZATION,
    ReviewAccess,
    ReviewRules,
    ReviewSelf,
    ReviewToken,
)
from tiphys.apiserver.endpoints.subresources.token import RequestToken
from tiphys.apiserver.registry.registries import Registries


def special_endpoints(
    config: Config,
    registries: Registries,
    authentication: Authentication,
    authorization: Authorization,
    admission: AdmissionChain,
    dialer: NodeDialer | None,
) -> dict[tuple[str, str], Special]:
    """The special endpoints by group and path, built from what they share."""
    bind = BindPod(registries, admission)
    connect = Connector(registries, admission, dialer, config.kubelet_address_types)
    access = ReviewAccess(admission, authorization)
    return {
        ("", "bindings"): bind,
        ("", "componentstatuses"): ComponentStatuses(registries.feed.backend),
        ("", "nodes/proxy"): connect.proxy_node,
        ("", "pods/attach"): connect.attach,
        ("", "pods/binding"): bind,
        ("", "pods/eviction"): Evict(registries, admission),
        ("", "pods/exec"): connect.exec,
        ("", "pods/log"): connect.log,
        ("", "pods/portforward"): connect.port_forward,
        ("", "pods/proxy"): connect.proxy_pod,
        ("", "serviceaccounts/token"): RequestToken(config, registries, authentication, admission),
        ("", "services/proxy"): connect.proxy_service,
        (AUTHENTICATION, "selfsubjectreviews"): ReviewSelf(admission),
        (AUTHENTICATION, "tokenreviews"): ReviewToken(admission, authentication),
        (AUTHORIZATION, "localsubjectaccessreviews"): access,
        (AUTHORIZATION, "selfsubjectaccessreviews"): ReviewAccess(admission, authorization, self_review=True),
        (AUTHORIZATION, "selfsubjectrulesreviews"): ReviewRules(admission, authorization),
        (AUTHORIZATION, "subjectaccessreviews"): access,
    }
