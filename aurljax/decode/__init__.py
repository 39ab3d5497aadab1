"""Cached sampling under the grammar."""
