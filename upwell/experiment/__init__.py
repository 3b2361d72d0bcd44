"""Arms against arms: metrics, intervals, runs that resume, reports."""
