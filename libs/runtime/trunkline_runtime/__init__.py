"""What every Trunkline service runs on."""
