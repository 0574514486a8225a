"""What a page of results shows of runs: a section a file."""
