"""The command line: its arguments, and the commands that users and the chart's jobs run to completion."""
