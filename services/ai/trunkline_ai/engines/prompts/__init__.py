"""The tasks as prompts for models: the instructions, versioned files beside this one, and what an answer looks like."""
