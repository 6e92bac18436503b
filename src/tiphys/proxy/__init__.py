"""The service proxy: carries packets for a service's addresses to one of its endpoints.

``tracker`` turns Services and EndpointSlices into ``state``; ``rules`` turns state into nftables rules (both pure);
``nft`` applies them. If there is no packet filter, ``userspace`` relays connections itself. The page
``docs/packet.md`` follows one packet through all of it.
"""
