"""What engines of speech and of language have in common; what each kind can do is declared by its service."""
