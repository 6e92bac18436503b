"""What every component needs to run: clock, tasks, logging, metrics, flags."""
