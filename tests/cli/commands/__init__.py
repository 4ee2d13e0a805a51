"""Tests of `datacachalog.cli.commands`."""
