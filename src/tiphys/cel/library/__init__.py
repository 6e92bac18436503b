"""The functions of the language and of Kubernetes' own libraries, a module each."""
