"""CEL, the Common Expression Language, as Kubernetes v1.36 uses it.

An expression goes through these steps, a module each: ``lexer`` → ``parser`` (with ``macros``) → ``checker`` (types and
overloads) → ``validators`` (literals that cannot work) → ``cost`` (the worst case, for schema rules) → ``evaluator``.
What an expression may refer to is an ``environment``; which one a field of the API gets says ``uses``.
Source: the CEL language definition (https://github.com/google/cel-spec) and "Common Expression Language in Kubernetes".
"""
