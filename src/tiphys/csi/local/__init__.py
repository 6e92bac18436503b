"""The driver ``local.tiphys``: volumes on the disk of the node that uses them."""
