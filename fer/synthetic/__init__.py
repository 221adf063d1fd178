"""Renders synthetic faces in FER-2013's form, for the demo, tests and benchmarks."""
