"""Models: those that ship with the package, each beside its licence and listed in SHA256SUMS, and those fetched.

`lookup` finds a fetched model, `delivery` fetches one, `python -m trunkline_audio.models` does both.
"""
