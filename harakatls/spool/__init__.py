"""Where accepted mail is kept until it has been delivered."""
