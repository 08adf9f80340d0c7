"""Which engines are asked about a conversation, in which order, and what follows when one can't answer."""
