"""Tokens of OpenID Connect issuers: what they are set to, how they are verified, and whose they are."""
