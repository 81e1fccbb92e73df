"""We give mail to a next hop."""
