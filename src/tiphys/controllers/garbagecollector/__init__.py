"""The garbage collector: deletes what its owners left behind, in the background, in the foreground, or orphans it."""
