"""Commands that end: what a person, or a step of the chart, calls."""
