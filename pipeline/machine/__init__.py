"""This machine: its processor and packages, its processes and their locks, and how runtimes are opened on it."""
