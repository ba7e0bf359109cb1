"""Fuzzers that run for as long as they are told to; what they find becomes a test beside the others."""
