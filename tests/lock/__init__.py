"""Tests of `datacachalog.lock`."""
