"""The type checker of expressions.

Source: https://github.com/google/cel-spec/blob/master/doc/langdef.md
"""
