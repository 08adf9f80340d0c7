"""Kills the suite's processes at random moments under load, and shows that nothing is lost and nothing done twice."""
