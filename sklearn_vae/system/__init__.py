"""What a process has: devices, threads, lines of progress, warnings at the line of the user."""
