"""What services do with rows on any engine: pages by key, deletion in small transactions, tombstones."""
