"""What components ask of the operating system: folders, mounts, capabilities, processes."""
