"""The API's clients: REST, errors, reflectors and informers."""
