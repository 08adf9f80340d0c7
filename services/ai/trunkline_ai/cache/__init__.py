"""Answers of models, kept so that a question is paid for once: in memory, in Redis, and robocalls' scripts."""
