"""The port of a component: HTTPS with the API server's word on who calls, and the pages that every component has."""
