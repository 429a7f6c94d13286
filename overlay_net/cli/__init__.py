"""The command line: its arguments, and the commands that people and the chart's jobs run to completion."""
