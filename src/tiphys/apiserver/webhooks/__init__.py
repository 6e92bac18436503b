"""Webhooks: services of the user's that the API server asks. ``client`` reaches them; admission and conversion ask."""
