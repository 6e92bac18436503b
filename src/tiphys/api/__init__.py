"""What an API object is: scheme, schema, defaults, validation, conversion, metadata, patch, apply. Pure: no I/O."""
