"""Tests of `datacachalog.spec`."""
