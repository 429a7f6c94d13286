"""What operators observe of a process: health, metrics, logs, events."""
