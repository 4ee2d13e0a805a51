"""Tests of everything remote."""
