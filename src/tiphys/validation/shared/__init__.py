"""Rules and wording that several API groups share."""
