"""Analyses: made once from a conversation and a generation."""
