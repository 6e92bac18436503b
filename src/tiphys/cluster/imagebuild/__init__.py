"""The image of the components, assembled from what is installed on this machine, without Docker.

The pipeline (``assemble``): the interpreter with its standard library, the distributions that Tiphys needs, the
programs that components run, the shared libraries of all of these → byte code, compiled reproducibly → two layers (what
changes rarely, and Tiphys itself), upon a given base or upon nothing → an OCI image layout in a tar file.
"""
