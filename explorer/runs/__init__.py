"""Runs as folders and processes: started, stopped, listed, and what is new in them since a page last asked."""
