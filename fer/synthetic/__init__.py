"""Renders synthetic faces in the form of FER-2013, for the demo, tests and benchmarks."""
