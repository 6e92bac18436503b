"""The binder of persistent volumes: finds a volume for each claim, ties the two together and releases them.

Two pointers say that a claim and a volume belong together: the volume's ``claimRef`` and the claim's ``volumeName``.
The volume's is written first, so that whoever comes second sees that it is taken. Source:
https://kubernetes.io/docs/concepts/storage/persistent-volumes/#lifecycle-of-a-volume-and-claim
"""
