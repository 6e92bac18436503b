"""Server-side apply, and who owns which field after every write. KEP-555."""

from tiphys.api.apply.applying import apply
from tiphys.api.apply.body import read_applied
from tiphys.api.apply.fieldset import FieldSet, FieldSetError, Filter, excluding, including, of_paths
from tiphys.api.apply.scale import from_scale, to_scale
from tiphys.api.apply.updating import update_managed_fields
from tiphys.api.apply.versions import Converter, no_versions

__all__ = [
    "Converter",
    "FieldSet",
    "FieldSetError",
    "Filter",
    "apply",
    "excluding",
    "from_scale",
    "including",
    "no_versions",
    "of_paths",
    "read_applied",
    "to_scale",
    "update_managed_fields",
]
