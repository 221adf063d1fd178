"""Tests of fer/evaluation/."""
