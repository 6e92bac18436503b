"""The machines of any cloud that Apache Libcloud knows.

Source: https://libcloud.readthedocs.io/en/stable/compute/supported_providers.html
"""
