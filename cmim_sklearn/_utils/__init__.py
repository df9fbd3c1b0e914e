"""Utilities: files, hashes, messages, warnings, devices, forked processes."""
