"""Admission plugins that are off unless ``--enable-admission-plugins`` names them."""
