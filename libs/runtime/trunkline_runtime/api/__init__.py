"""What every API shares: resource names, paging, filters, validation."""
