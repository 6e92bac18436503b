"""etcd's v3 gRPC API for a store of this process: one module per service, each a class of coroutines.

Source: https://etcd.io/docs/v3.6/dev-guide/api_reference_v3/
"""

VERSION = "3.6.8"
"""The version of etcd whose API is served; clients decide by it which features they may use."""
