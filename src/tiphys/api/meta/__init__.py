"""What all kinds share: names, labels, selectors, quantities, times, owner references, conditions, copies."""

from tiphys.api.meta.copying import copy

__all__ = ["copy"]
