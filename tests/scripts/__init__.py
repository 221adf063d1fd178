"""Tests of scripts/, run as a user runs them."""
