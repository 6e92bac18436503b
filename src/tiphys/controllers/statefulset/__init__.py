"""The stateful set controller: pods with names, storage and their own order."""
