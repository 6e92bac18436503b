"""Warnings for kinds that are going away. Source: https://kubernetes.io/docs/reference/using-api/deprecation-guide/"""

from __future__ import annotations

WARNINGS: dict[tuple[str, str, str], str] = {
    ("", "v1", "componentstatuses"): "v1 ComponentStatus is deprecated in v1.19+",
    ("", "v1", "endpoints"): "v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice",
}
"""By group, version and resource; shown for every request about them."""
