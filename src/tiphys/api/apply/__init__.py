"""Server-side apply, and who owns which field after every write. KEP-555."""

from tiphys.api.apply.applying import apply
from tiphys.api.apply.fieldset import FieldSet, Filter, excluding, including, of_paths
from tiphys.api.apply.updating import update_managed_fields

__all__ = ["FieldSet", "Filter", "apply", "excluding", "including", "of_paths", "update_managed_fields"]
