"""Pure decisions: no await, no clock, no log, no I/O."""
