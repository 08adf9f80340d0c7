"""HTTP connections: limits, bounded protocol, one write an answer, and the front that hands requests on."""
