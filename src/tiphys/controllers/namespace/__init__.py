"""The namespace controller: empties a namespace that is being deleted, then finalizes it."""
