"""Runs over HTTP: `dsflow serve`, and the client that programs without dsflow's libraries use."""
