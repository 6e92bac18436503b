"""Authentication: who calls. One way per file; ``authenticator`` tries them in order."""
