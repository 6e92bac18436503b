"""Cgroups of pods: their names, their limits, and who makes them: the kubelet itself, or systemd for it."""
