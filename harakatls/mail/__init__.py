"""What mail is: addresses, envelopes, header fields."""
