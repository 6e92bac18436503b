"""The filters that a call passes on its way to its endpoint, one per file; ``chain`` shows their order."""
