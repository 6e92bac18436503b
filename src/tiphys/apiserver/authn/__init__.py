"""Authentication: who calls. One way of telling per file; ``authenticator`` tries them in order."""
