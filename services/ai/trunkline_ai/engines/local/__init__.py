"""The local engine, one room a file; `engine.LocalEngine` puts them together."""
