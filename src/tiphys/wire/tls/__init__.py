"""Transport Layer Security: contexts, certificates of clients and servers, and the layer below a protocol.

Source: https://www.rfc-editor.org/rfc/rfc8446
"""
