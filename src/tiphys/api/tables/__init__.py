"""Tables: what `kubectl get` prints is decided by the server. One printer per kind; the columns are in columns.txt.

Source: https://kubernetes.io/docs/reference/using-api/api-concepts/#receiving-resources-as-tables. A printer takes an
object in any served version, and the time.
"""

from tiphys.api.tables.columns import Column, columns_of
from tiphys.api.tables.tables import partial_metadata, row_of, table_for

__all__ = ["Column", "columns_of", "partial_metadata", "row_of", "table_for"]
