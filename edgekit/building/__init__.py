"""Building: candidates are made, measured side by side and judged; ``edgekit.build`` leads through it."""
