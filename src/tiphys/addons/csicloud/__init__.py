"""``cloud.tiphys``: a CSI driver over the volumes of any cloud that has a provider.

Source: https://github.com/container-storage-interface/spec/blob/master/spec.md
"""
