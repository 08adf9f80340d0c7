"""`make backup` and `make restore`: the embedded default's whole state, copied while it runs and put back."""
