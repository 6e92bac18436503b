"""Controllers of volumes: claims bound, protected, and made for pods that ask for one."""
