"""Tests, laid out as fer/ and scripts/ are."""
