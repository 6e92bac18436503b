"""A pod's status: from what the runtime shows to what the API says (pure), and the manager that sends it."""
