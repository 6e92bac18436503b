"""What the server does with each built-in kind beyond storing it."""
