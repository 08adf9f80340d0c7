"""A webhook's first milliseconds: whose source it is, whether its signature holds, and the answer."""
