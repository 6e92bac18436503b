"""Commands that show a running cluster: the dashboard in a browser, and in a terminal."""
