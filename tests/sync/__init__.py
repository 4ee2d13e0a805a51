"""Tests of `datacachalog.sync`."""
