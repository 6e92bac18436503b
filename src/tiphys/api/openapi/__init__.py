"""OpenAPI v3 and v2 documents of what a scheme serves: what `kubectl explain` and client generators read.

Everything is derived: paths from the scheme's rows, schemas from the published definitions (or, for custom resources,
from their own schema). Sources: https://spec.openapis.org/oas/v3.0.0, https://swagger.io/specification/v2/, KEP-2896
(OpenAPI v3), and the `x-kubernetes-*` extensions in the API reference.
"""

from tiphys.api.openapi.binary import pieces_v2, pieces_v3
from tiphys.api.openapi.custom import custom_definitions
from tiphys.api.openapi.documents import document_names, document_v2, document_v3

__all__ = ["custom_definitions", "document_names", "document_v2", "document_v3", "pieces_v2", "pieces_v3"]
