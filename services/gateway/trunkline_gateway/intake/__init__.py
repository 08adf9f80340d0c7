"""From a receipt to its event: committed or spooled, then admitted in batches."""
