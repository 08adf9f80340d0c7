"""What the local engine finds beyond the labels, one room a finding; `rules.FindingRules` puts them together."""
