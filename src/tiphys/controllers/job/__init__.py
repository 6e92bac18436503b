"""The job controller: runs pods until enough of them have succeeded, and counts each exactly once."""
