"""The trained model: what it reads of a conversation, and how likely it takes each label for."""
