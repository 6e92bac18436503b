"""Custom resources, purely: what a CustomResourceDefinition says, and what it makes of the objects of its kind.

``definition`` reads a definition into a row of the scheme with what each version adds to it; ``decoding`` reads an
object, ``shaping`` prunes and defaults it by its structural schema; ``jsonpath`` and ``columns`` show it. What is wrong
with an object, ``api.validation.custom`` says. Source:
https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/
"""
