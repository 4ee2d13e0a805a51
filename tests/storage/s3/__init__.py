"""Tests of S3, over moto and over servers that misbehave."""
