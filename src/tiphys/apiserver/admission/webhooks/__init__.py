"""Admission webhooks: MutatingAdmissionWebhook and ValidatingAdmissionWebhook.

- ``hooks``: the webhooks of all configurations, and which of them a request is about
- ``review``: the AdmissionReview that is sent, and what its answer means
- ``mutating``, ``validating``: the two plugins

Source: https://kubernetes.io/docs/reference/access-authn-authz/extensible-admission-controllers/
"""
