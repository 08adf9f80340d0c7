"""The command `trunkline`: starts the suite, watches and replays, backs up and restores."""
