"""Benchmarks: each prints ratios from one run, never times alone. `make bench` runs the quick ones."""
