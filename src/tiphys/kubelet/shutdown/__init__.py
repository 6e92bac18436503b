"""What the kubelet does when the machine is to be shut down: it ends pods, group by group, and then lets it go."""
