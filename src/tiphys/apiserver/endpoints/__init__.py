"""The verbs of the API, one per file. Each takes the call and what its path names, and gives the answer."""
