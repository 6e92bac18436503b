"""The MVCC core: etcd's data model as plain data structures, without I/O, clock, or event loop.

``Core`` holds an index of every key and its kept revisions, and evaluates reads, writes, transactions and compactions
on it. Where the values are kept is the business of a ``Rows`` implementation: a dict for the memory backend, a SQLite
file for the durable one. ``Lessor`` keeps leases; the time is given to it.

Source: https://etcd.io/docs/v3.6/learning/data_model/ and https://etcd.io/docs/v3.6/learning/api/.
"""

from tiphys.store.mvcc.core import Core, RowChange
from tiphys.store.mvcc.index import KeyEntry, revision_of, row_id
from tiphys.store.mvcc.lessor import Lessor
from tiphys.store.mvcc.rows import MemoryRows, Rows

__all__ = ["Core", "KeyEntry", "Lessor", "MemoryRows", "RowChange", "Rows", "revision_of", "row_id"]
