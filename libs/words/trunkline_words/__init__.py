"""What services read in words alike: numbers as they are spoken, patterns that begin with words, personal data."""
