"""What operators see of a process: health, metrics, logs, events."""
