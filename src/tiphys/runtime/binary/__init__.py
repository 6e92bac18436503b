"""How numbers and checksums are written in bytes: leaves, pure."""
