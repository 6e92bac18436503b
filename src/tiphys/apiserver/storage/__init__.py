"""Objects between the API and the store: encoding, a cache per resource, watches, and writes under preconditions."""
