"""Devices, threads, lines of progress, and warnings at the line of the user."""
